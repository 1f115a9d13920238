package import CloudMountVFS

/// What a failed attempt to store a write means, now that it is known what the store has under the key. A value: the one
/// place where it is decided whether an object is our own write, and what becomes of a conflict.
package enum CommitVerdict: Sendable, Equatable {
    /// The object is this very write: its answer was lost.
    case stored
    /// The object is an earlier write of this file whose answer was lost.
    case earlier
    /// The rule says so: somebody else's version is replaced knowingly.
    case replace
    /// Nothing has changed but the upload, which the store has given up: once more from the start.
    case again
    /// Somebody else has removed what was to be replaced: nothing is in the way of the name.
    case storeAnew
    /// Somebody else's version stays, this one goes under a name of its own.
    case keepBoth
    /// Somebody else's version stays, and the caller is told.
    case refuse
    /// The error says nothing about the object.
    case fail

    /// - Parameters:
    ///   - there: the current object; nil when there is none.
    ///   - earlier: writes of this file whose end is not known.
    package init(
        _ code: VFSError.Code, of write: SealedWrite, there: ObjectInfo?, earlier: [WriteMark],
        rule: CachePolicy.OnConflict
    ) {
        let mark = there.flatMap(WriteMark.init)
        if mark == WriteMark(write) {
            self = .stored
            return
        }
        let isUnchanged = there?.etag == write.replaces
        switch code {
        case .uploadNotFound, .conflict:
            if isUnchanged {
                self = .again
                return
            }
        case .preconditionFailed, .notFound, .alreadyExists, .stale:
            if isUnchanged {
                self = .fail
                return
            }
        default:
            self = .fail
            return
        }
        if let mark, earlier.contains(mark) {
            self = .earlier
        } else if rule == .overwrite {
            self = there == nil ? .storeAnew : .replace
        } else if rule == .fail {
            self = .refuse
        } else {
            self = there == nil ? .storeAnew : .keepBoth
        }
    }

    /// Whether the write may have reached the store, or still will, though nobody knows.
    package static func isUnclear(_ error: VFSError) -> Bool {
        switch error.code {
        case .timedOut, .connectionFailed, .unavailable, .malformedResponse, .corrupted, .cancelled: true
        default: false
        }
    }

    /// Whether the store has to be looked at before anything can be said.
    package static func needsLook(_ error: VFSError) -> Bool {
        switch error.code {
        case .preconditionFailed, .notFound, .alreadyExists, .stale, .uploadNotFound, .conflict: true
        case .timedOut, .connectionFailed, .unavailable, .malformedResponse, .corrupted: true
        default: false
        }
    }
}

/// What has become of a write.
package enum CommitOutcome: Sendable {
    case stored(ObjectInfo)
    /// The object is an earlier write of the file: the file goes on from there, and this write is to be sealed anew.
    case earlier(ObjectInfo)
    /// Somebody else's version has kept the name; this one is under another.
    case kept(ObjectInfo)
    /// The version that the unchanged bytes were to come from is gone: what is staged cannot become a whole file any more.
    case stranded(VFSError)
}

extension VFSError {
    /// The same may succeed later without anything changed here.
    package var mayPass: Bool { code != .cancelled && retry != .never || code == .quotaExceeded || code == .timedOut }
}

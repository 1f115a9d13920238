import CloudMountCommit
import CloudMountVFS
import Synchronization

/// What is known of the commits of a mount's files.
final class CommitTable: Sendable {
    private let state = Mutex<[InodeID: CommitEntry]>([:])

    func withLock<Value: Sendable>(_ body: (inout sending [InodeID: CommitEntry]) -> Value) -> Value {
        state.withLock { body(&$0) }
    }

    /// What is stored is known by its version from now on: another tool may keep its mark beside other bytes.
    /// - Parameter changing: it may yet get another version.
    func resolve(_ mark: WriteMark, of inode: InodeID, changing: ObjectInfo?) {
        state.withLock { entries in
            entries[inode]?.uncertain.removeAll { $0.mark == mark }
            entries[inode]?.past.removeAll { $0 == mark }
            var stored = changing
            if stored?.metadata?.nonce == nil { stored?.metadata = ObjectMetadata(nonce: mark.nonce) }
            entries[inode]?.changing = stored
        }
    }

    /// An attempt whose end was not known has reached the store.
    func takeAttempt(_ mark: WriteMark, of inode: InodeID) -> CommitEntry.Attempt? {
        state.withLock { entries in
            guard var entry = entries[inode], let index = entry.uncertain.firstIndex(where: { $0.mark == mark }) else {
                return nil
            }
            let attempt = entry.uncertain.remove(at: index)
            (entry.error, entry.failedSince, entry.repeats) = (nil, nil, 0)
            entries[inode] = entry
            return attempt
        }
    }

    func isUncertain(_ mark: WriteMark) -> Bool {
        state.withLock { entries in
            entries.values.contains { $0.marks.contains(mark) || $0.write.map(WriteMark.init) == mark }
        }
    }

    func marks(_ inode: InodeID) -> [WriteMark] { state.withLock { $0[inode]?.marks ?? [] } }

    /// Writes of a file that may have reached the store though nobody knows.
    func uncertain(_ inode: InodeID) -> [WriteMark] {
        state.withLock { $0[inode]?.uncertainMarks ?? [] }
    }

    /// A file has the name of another: what was sent under that is its own from now on. Of the bytes nothing is known.
    func inherit(_ replaced: InodeID, by inode: InodeID) {
        state.withLock { entries in
            guard let marks = entries[replaced]?.allMarks, !marks.isEmpty else { return }
            entries[inode, default: CommitEntry()].notePast(marks)
        }
    }

    /// Whether something was sent of the file that has unchanged bytes of `version`, and may yet be found in the store.
    func hasSent(over version: ETag, of inode: InodeID) -> Bool {
        state.withLock { $0[inode].map { !$0.kin(over: version).isEmpty } ?? false }
    }

    func isUnderWay(_ inode: InodeID) -> Bool { state.withLock { $0[inode]?.task != nil } }

    func error(_ inode: InodeID) -> VFSError? { state.withLock { $0[inode]?.error } }

    /// Whether the write of `mark` is of this state.
    func isPlanned(_ mark: WriteMark, _ generations: [UInt64], of inode: InodeID) -> Bool {
        state.withLock { entries in
            entries[inode].map { $0.generations == generations && $0.write.map(WriteMark.init) == mark } ?? false
        }
    }

    // MARK: Of an earlier process

    /// A write of an earlier process goes on as the file, which somebody may have begun to store in this moment.
    func adopt(_ write: JournaledWrite, _ restored: RestoredFile) {
        state.withLock { entries in
            var entry = entries[restored.inode] ?? CommitEntry()
            (entry.reason, entry.failedSince) = (write.error, write.since)
            (entry.kin, entry.kinBase) = (write.kin, write.write.layers.base?.etag)
            entry.notePast(write.marks + [WriteMark(write.write)])
            if entry.write == nil { (entry.write, entry.generations) = (write.write, restored.generations) }
            entries[restored.inode] = entry
        }
    }

    func hasKin(_ inode: InodeID) -> Bool { state.withLock { !($0[inode]?.kin ?? []).isEmpty } }

    func isKin(_ mark: WriteMark, over base: ETag?, of inode: InodeID) -> Bool {
        state.withLock { $0[inode].map { $0.kinBase == base && $0.kin.contains(mark) } ?? false }
    }
}

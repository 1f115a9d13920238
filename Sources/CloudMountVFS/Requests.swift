/// What must hold of the destination for a write to take place.
public enum Precondition: Hashable, Sendable, Codable {
    case none
    /// No object has the key.
    case absent
    /// The current version is this one.
    case match(ETag)
}

public struct ListRequest: Sendable {
    /// Only keys that begin with it. Empty: all.
    public var prefix: ObjectKey
    /// Fold what lies beyond the next `/` after the prefix into common prefixes.
    public var delimited: Bool
    /// From the page before; nil for the first page.
    public var continuation: String?
    /// At most this many objects and common prefixes, at most `Capabilities.maxListKeys`; nil: as many as the store gives.
    public var limit: Int?
    /// Whether the caller can do with `ListPage.unreadable`. Otherwise such a page is an error: nobody takes for empty, or for the whole,
    /// what is not.
    public var takesUnreadable: Bool

    public init(
        prefix: ObjectKey, delimited: Bool, continuation: String? = nil, limit: Int? = nil,
        takesUnreadable: Bool = false
    ) {
        self.takesUnreadable = takesUnreadable
        self.prefix = prefix
        self.delimited = delimited
        self.continuation = continuation
        self.limit = limit
    }
}

public struct ListPage: Sendable {
    /// Each key once in a whole listing. In byte order when `Capabilities.sortedListing`.
    public var objects: [ObjectInfo]
    /// Each ends in `/` and begins with the asked prefix.
    public var commonPrefixes: [ObjectKey]
    /// Objects that are there and of which the store cannot tell more. Empty unless `ListRequest.takesUnreadable`.
    public var unreadable: [ObjectKey] = []
    /// Nil on the last page.
    public var continuation: String?

    public init(objects: [ObjectInfo] = [], commonPrefixes: [ObjectKey] = [], continuation: String? = nil) {
        self.objects = objects
        self.commonPrefixes = commonPrefixes
        self.continuation = continuation
    }

    /// There is nothing on it.
    public var isEmpty: Bool { objects.isEmpty && commonPrefixes.isEmpty && unreadable.isEmpty }
}

public struct ReadRequest: Sendable {
    public var key: ObjectKey
    /// Nil: the whole object. Bytes past the end are not delivered; an extent that begins at or past the end delivers none.
    public var extent: Extent?
    /// Only bytes of this version; `stale` when it is no longer current (or, with `Capabilities.readsOldVersions`, when it
    /// no longer exists).
    public var version: ETag?
    /// Nobody waits for it. It is not tried again, and fails at once where it would have to wait for others, or for the end of an outage.
    public var isAhead = false

    public init(key: ObjectKey, extent: Extent? = nil, version: ETag? = nil) {
        self.key = key
        self.extent = extent
        self.version = version
    }
}

public struct PutRequest: Sendable {
    public var key: ObjectKey
    public var metadata: ObjectMetadata
    public var precondition: Precondition

    public init(key: ObjectKey, metadata: ObjectMetadata = ObjectMetadata(), precondition: Precondition = .none) {
        self.key = key
        self.metadata = metadata
        self.precondition = precondition
    }
}

public struct CopyRequest: Sendable {
    /// The version to copy, and no other: its key, size, ETag, and what is known of storage class and encryption.
    /// When it is not current any more the copy is `stale`, or, with `Capabilities.readsOldVersions`, of that old
    /// version.
    public var source: ObjectInfo
    public var destination: ObjectKey
    /// Nil: the source's, all of it. Else replaced whole.
    public var metadata: ObjectMetadata?
    /// Of the destination. Where that is the source, `.match` of the source's ETag says no more than `source` does.
    public var precondition: Precondition
    /// Somebody else may be making the same copy, and what he has made must not be taken for this one when its answer was lost. Providers
    /// leave it alone.
    package var mayBeOthers = false

    public init(
        source: ObjectInfo, destination: ObjectKey, metadata: ObjectMetadata? = nil, precondition: Precondition = .none
    ) {
        self.source = source
        self.destination = destination
        self.metadata = metadata
        self.precondition = precondition
    }
}

/// One object, or a folder with everything in it, under another key.
public struct MoveRequest: Sendable {
    /// The version to move, and no other. A folder has a key that ends in a slash, and no version to be held to.
    public var source: ObjectInfo
    /// Ends in a slash where the source does.
    public var destination: ObjectKey
    /// Of the destination; of a folder's `.absent`, which is: no object has its key, or the key without the slash, or one below it.
    public var precondition: Precondition
    /// Of the source's version, where it is known. Providers leave it alone; by it a move is known whose answer was lost.
    public var nonce: String?

    public init(
        source: ObjectInfo, destination: ObjectKey, precondition: Precondition = .absent, nonce: String? = nil
    ) {
        self.source = source
        self.destination = destination
        self.precondition = precondition
        self.nonce = nonce
    }
}

/// How much room a store has for this mount, in bytes.
public struct StoreSpace: Hashable, Sendable {
    public var used: Int
    /// What can still be stored.
    public var available: Int

    public init(used: Int, available: Int) {
        self.used = ObjectInfo.possible(used)
        self.available = ObjectInfo.possible(available)
    }
}

/// A multipart upload that has begun.
public struct Upload: Hashable, Sendable, Codable {
    public var key: ObjectKey
    /// The store's name of it.
    public var id: String
    /// The nonce in the metadata that it was begun with, by which the retry layer knows the object that it became.
    /// Providers leave it alone.
    public var nonce: String?
    /// For `completeUpload` of a store with `Capabilities.completeSetsMetadata`: what the object is to have instead of what the
    /// upload was begun with. The nonce stays the one that it was begun with. Nil: nothing else.
    public var metadata: ObjectMetadata?

    public init(key: ObjectKey, id: String, nonce: String? = nil, metadata: ObjectMetadata? = nil) {
        self.key = key
        self.id = id
        self.nonce = nonce
        self.metadata = metadata
    }
}

public struct UploadedPart: Hashable, Sendable, Codable {
    /// The nearest size that a part can have; ten thousand of them do not overflow.
    public static func possible(_ size: Int) -> Int { max(0, min(size, 1 << 40)) }

    /// From 1 on.
    public var number: Int
    public var size: Int
    /// What `completeUpload` must name: an S3 part's ETag, a B2 part's SHA-1.
    public var tag: String

    public init(number: Int, size: Int, tag: String) {
        self.number = number
        self.size = size
        self.tag = tag
    }
}

/// One object to delete.
public struct DeleteRequest: Hashable, Sendable {
    public var key: ObjectKey
    /// The object goes only while this version is the current one. Nil: whatever is there goes.
    public var version: ETag?
    /// Of the version, where it is known: versions with the same bytes have the same ETag in some stores. Providers leave it alone; the
    /// retry layer takes nothing for the version that has another.
    public var nonce: String?
    /// Takes back a write of our own: where a store keeps versions, that one goes and nothing below it, which is current again.
    public var undoes: Bool

    public init(_ key: ObjectKey, version: ETag? = nil, nonce: String? = nil, undoes: Bool = false) {
        self.key = key
        self.version = version
        self.nonce = nonce
        self.undoes = undoes
    }
}

/// A delete that the store refused.
public struct DeleteFailure: Sendable {
    public var key: ObjectKey
    public var error: VFSError

    public init(key: ObjectKey, error: VFSError) {
        self.key = key
        self.error = error
    }
}

/// One old or current version of an object, newest first within its key.
public struct ObjectVersion: Sendable {
    public var info: ObjectInfo
    public var isLatest: Bool
    /// A marker that hides what is below it; it has no bytes.
    public var isDeleteMarker: Bool

    public init(info: ObjectInfo, isLatest: Bool, isDeleteMarker: Bool) {
        self.info = info
        self.isLatest = isLatest
        self.isDeleteMarker = isDeleteMarker
    }
}

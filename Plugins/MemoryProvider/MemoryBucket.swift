import CloudMountVFS

struct StoredObject: Sendable {
    /// With metadata.
    var info: ObjectInfo
    var bytes: [UInt8]
    var isDeleteMarker = false
}

struct PendingUpload: Sendable {
    var key: ObjectKey
    var metadata: ObjectMetadata
    var parts: [Int: StoredPart] = [:]
}

struct StoredPart: Sendable {
    var info: UploadedPart
    var bytes: [UInt8]
}

/// The bucket's state: a value, changed under the provider's lock and never while anything is awaited.
struct MemoryBucket: Sendable {
    /// Keys with a current version, in byte order.
    private(set) var keys: [ObjectKey] = []
    /// All versions of each key, newest last. Never an empty array.
    private(set) var history: [ObjectKey: [StoredObject]] = [:]
    var uploads: [String: PendingUpload] = [:]
    private var counter = 0
    var recordsDestruction = false
    var destroyed: [Destruction] = []
    private(set) var destructions = 0

    /// As S3 does it: versions with the same bytes have the same ETag.
    var tagsBytes = false

    mutating func tag(of bytes: [UInt8]) -> ETag {
        guard tagsBytes else { return ETag(nextName()) }
        // FNV-1a.
        let hash = bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return ETag("\(bytes.count)-" + String(hash, radix: 16))
    }

    /// A name used once in the bucket's life: two versions never share an ETag, so equal tags mean equal bytes.
    mutating func nextName() -> String {
        counter += 1
        return "m" + String(counter, radix: 36)
    }

    func current(_ key: ObjectKey) -> StoredObject? {
        guard let newest = history[key]?.last, !newest.isDeleteMarker else { return nil }
        return newest
    }

    /// Any version that is still kept.
    func version(_ key: ObjectKey, _ etag: ETag) -> StoredObject? {
        history[key]?.first { $0.info.etag == etag && !$0.isDeleteMarker }
    }

    /// Index of the first key that is not below `key`.
    func lowerBound(_ key: ObjectKey) -> Int {
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    mutating func store(_ object: StoredObject, keepingVersions: Bool, _ cause: Cause) {
        let key = object.info.key
        if recordsDestruction, let old = current(key) { record(old, cause) }
        let index = lowerBound(key)
        let listed = index < keys.count && keys[index] == key
        if listed, object.isDeleteMarker { keys.remove(at: index) }
        if !listed, !object.isDeleteMarker { keys.insert(key, at: index) }
        if keepingVersions {
            history[key, default: []].append(object)
        } else {
            history[key] = object.isDeleteMarker ? nil : [object]
        }
    }

    /// The object goes on under another key, with the same ETag.
    mutating func move(
        _ object: StoredObject, to key: ObjectKey, at now: Timestamp, keepingVersions: Bool, _ cause: Cause
    ) {
        var moved = object
        moved.info.key = key
        store(moved, keepingVersions: keepingVersions, cause)
        let old = object.info.key
        let index = lowerBound(old)
        if index < keys.count, keys[index] == old { keys.remove(at: index) }
        guard keepingVersions else {
            history[old] = nil
            return
        }
        let marker = ObjectInfo(key: old, size: 0, etag: ETag(nextName()), stored: now)
        history[old, default: []].append(StoredObject(info: marker, bytes: [], isDeleteMarker: true))
    }

    private mutating func record(_ old: StoredObject, _ cause: Cause) {
        destructions += 1
        // Halved, so that dropping the oldest costs little each time.
        if destroyed.count >= 200_000 { destroyed.removeFirst(100_000) }
        destroyed.append(
            Destruction(
                key: old.info.key, info: old.info, bytes: old.bytes, verb: cause.verb,
                precondition: cause.precondition, isAtomic: cause.isAtomic))
    }

    /// Whether a change may take place, on the state as it is now.
    func admits(_ precondition: Precondition, _ key: ObjectKey) -> Bool {
        switch precondition {
        case .none: true
        case .absent: current(key) == nil
        case .match(let etag): current(key)?.info.etag == etag
        }
    }
}

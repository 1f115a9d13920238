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

    mutating func store(_ object: StoredObject, keepingVersions: Bool) {
        let key = object.info.key
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

    /// Whether the write may take place, on the state as it is now.
    func admits(_ precondition: Precondition, key: ObjectKey, capabilities: Capabilities) -> Bool {
        switch precondition {
        case .none: true
        case .absent: !capabilities.conditionalCreate || current(key) == nil
        case .match(let etag): !capabilities.conditionalReplace || current(key)?.info.etag == etag
        }
    }
}

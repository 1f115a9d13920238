import CloudMountKit
import CloudMountVFS

/// Deletes and hides files.
struct B2Remover: Sendable {
    let client: B2Client
    let bucket: B2Bucket
    let files: B2Files

    /// b2_hide_file, or b2_delete_file_version of every version, as the mount's `delete` says.
    ///
    /// B2 has no conditional delete. A version is compared just before; what comes after that look is hidden and
    /// remains as an older version, or, where versions are deleted, stays the current one.
    func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        guard objects.count <= 1 else { throw VFSError(.invalidArgument, "B2 deletes one name at a time") }
        guard let object = objects.first else { return [] }
        let key = object.key
        guard !key.isEmpty else { throw VFSError(.invalidName, "an object must have a key") }
        guard let version = object.version else {
            for name in B2Names.names(key) { try await delete(name, key) }
            return []
        }
        if object.undoes {
            for name in B2Names.names(key) { if try await takeBack(name, key, version) { return [] } }
            // What is not current covers nothing, and is not in the way.
            return []
        }
        var isAnother = false
        for name in B2Names.names(key) {
            guard let there = try await files.current(key, name) else { continue }
            guard there.etag == version else {
                isAnother = true
                continue
            }
            if try await delete(name, key, from: version) { return [] }
            isAnother = true
        }
        let error = VFSError(.preconditionFailed, "the object has been changed meanwhile")
        return isAnother ? [DeleteFailure(key: key, error: error)] : []
    }

    /// Takes one version away, and none below it. A key that may delete none hides it.
    /// - Returns: false when it is not the current one.
    private func takeBack(_ name: String, _ key: ObjectKey, _ version: ETag) async throws(VFSError) -> Bool {
        let versions = try await files.allVersions(name, key, downTo: version.value)
        guard let there = versions.first(where: { $0.id == version.value }) else { return false }
        do throws(VFSError) {
            try await client.sendUnlessAbsent(.deletion(there, key))
        } catch {
            guard error.code == .permissionDenied else { throw error }
            guard try await files.current(key, name)?.etag == version else { return false }
            try await hide(name, key)
        }
        return true
    }

    /// - Parameter version: nil: whatever is there.
    /// - Returns: false, and nothing is deleted, when `version` is not the current one.
    @discardableResult
    private func delete(_ name: String, _ key: ObjectKey, from version: ETag? = nil) async throws(VFSError) -> Bool {
        switch client.options.deletion {
        case .hide: try await hide(name, key)
        case .permanent:
            let versions = try await files.allVersions(name, key).filter { $0.action != .start && $0.action != .folder }
            if let version, versions.first?.id != version.value { return false }
            try await delete(versions, key)
        }
        return true
    }

    private func hide(_ name: String, _ key: ObjectKey) async throws(VFSError) {
        var call = B2Call("b2_hide_file", key)
        call.body.add("bucketId", bucket.id)
        call.body.add("fileName", name)
        try await client.sendUnlessAbsent(call)
    }

    /// Newest first. The current version goes last, so that none of the older ones is ever seen in its place.
    private func delete(_ versions: [B2File], _ key: ObjectKey) async throws(VFSError) {
        guard let newest = versions.first else { return }
        _ = try await inParallel(Array(versions.dropFirst()), width: 8) { version async throws(VFSError) in
            try await self.client.sendUnlessAbsent(.deletion(version, key))
        }
        try await client.sendUnlessAbsent(.deletion(newest, key))
    }
}

public import CloudMountVFS
import Synchronization

extension B2Provider {
    /// b2_hide_file, or b2_delete_file_version of every version, as the mount's `delete` says.
    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        guard objects.count <= 1 else { throw VFSError(.invalidArgument, "B2 deletes one name at a time") }
        guard let object = objects.first else { return [] }
        let key = object.key
        guard !key.isEmpty else { throw VFSError(.invalidName, "an object must have a key") }
        defer { sightings.withLock { $0.forget(key) } }
        if let version = object.version, let there = try await current(key), there.etag != version {
            return [
                DeleteFailure(key: key, error: VFSError(.preconditionFailed, "the object has been changed meanwhile"))
            ]
        }
        for name in B2Names.names(key) {
            switch client.options.deletion {
            case .hide: try await hide(name, key)
            case .permanent: try await deleteVersions(name, key)
            }
        }
        return []
    }

    private func hide(_ name: String, _ key: ObjectKey) async throws(VFSError) {
        var call = B2Call("b2_hide_file", key)
        call.body.add("bucketId", place.bucketID)
        call.body.add("fileName", name)
        try await unlessAbsent(call)
    }

    /// The current version goes last, so that none of the older ones is ever seen in its place.
    private func deleteVersions(_ name: String, _ key: ObjectKey) async throws(VFSError) {
        let versions = try await allVersions(name, key).filter { $0.action != .start && $0.action != .folder }
        guard let newest = versions.first else { return }
        let calls = versions.dropFirst().map { deletion($0, key) }
        if !calls.isEmpty {
            _ = try await eightAtOnce(Array(calls)) { call async throws(VFSError) in
                try await self.unlessAbsent(call)
            }
        }
        try await unlessAbsent(deletion(newest, key))
    }

    private func deletion(_ file: B2File, _ key: ObjectKey) -> B2Call {
        var call = B2Call("b2_delete_file_version", key)
        call.body.add("fileName", file.name)
        call.body.add("fileId", file.id)
        return call
    }

    private func unlessAbsent(_ call: B2Call) async throws(VFSError) {
        do throws(VFSError) {
            _ = try await client.send(call)
        } catch {
            guard error.code == .notFound else { throw error }
        }
    }

    /// Runs `work` for every item; results in the order of the items. The first error ends it.
    func eightAtOnce<Item: Sendable, Value: Sendable>(
        _ items: [Item], _ work: @escaping @Sendable (Item) async throws(VFSError) -> Value
    ) async throws(VFSError) -> [Value] {
        let result: Result<[Value], VFSError> = await withTaskGroup(of: (Int, Result<Value, VFSError>).self) { group in
            var values: [Int: Value] = [:]
            var next = 0
            func start() {
                guard next < items.count else { return }
                let (index, item) = (next, items[next])
                next += 1
                group.addTask {
                    do throws(VFSError) { return (index, .success(try await work(item))) } catch {
                        return (index, .failure(error))
                    }
                }
            }
            for _ in 0..<8 { start() }
            for await (index, result) in group {
                switch result {
                case .success(let value): values[index] = value
                case .failure(let error):
                    group.cancelAll()
                    return .failure(error)
                }
                start()
            }
            return .success(items.indices.compactMap { values[$0] })
        }
        return try result.get()
    }
}

import CloudMountPlatform
package import CloudMountVFS
import Logging

/// The move of all objects below one prefix to another: copies first, deletions only when all copies are there, and each of
/// the version that was copied. What others have put there meanwhile stays where it is.
package struct DirectoryMove: Sendable {
    /// Of both, with the trailing slash.
    package let from: ObjectKey
    package let to: ObjectKey
    /// The marker of the empty directory that had the name.
    package let replaced: ObjectInfo?
    /// What the directory is, for a marker of its own.
    package let attributes: StoredAttributes
    private let provider: any ObjectProvider
    private let capabilities: Capabilities
    /// What its objects take, for as long as it lasts.
    private let room: NameRoom

    /// Copies under way at once; where the store has to be looked at first, about half of them wait for the look.
    private static let width = 192

    /// One object and what has become of it.
    package struct Moved: Sendable {
        package let old: ObjectInfo
        package let new: ObjectInfo
        /// Of the marker that claims the new name.
        fileprivate var claim: Claim?

        package init(old: ObjectInfo, new: ObjectInfo) {
            self.old = old
            self.new = new
        }
    }

    fileprivate struct Claim {
        let nonce: String
        /// What the marker said that had the name before.
        let before: ObjectMetadata?
    }

    package init(
        from: ObjectKey, to: ObjectKey, replaced: ObjectInfo?, attributes: StoredAttributes,
        provider: any ObjectProvider, budget: NameBudget = .shared
    ) {
        room = budget.room()
        self.from = from
        self.to = to
        self.replaced = replaced
        self.attributes = attributes
        self.provider = provider
        capabilities = provider.capabilities
    }

    private func target(_ key: ObjectKey) -> ObjectKey { ObjectKey(to.string + key.dropping(from.byteCount).string) }

    // MARK: Copies

    /// Copies all objects.
    /// - Throws: `notEmpty` when somebody else has put something there, `tooLarge` when there are too many, and why a copy failed. What was
    ///   copied is taken away again, but nothing that others have stored there.
    package func copyAll() async throws(VFSError) -> [Moved] {
        let objects = try await provider.all(below: from, in: room)
        guard capabilities.serverCopy || objects.isEmpty else { throw VFSError(.crossDevice, "the store cannot copy") }
        let (longest, marker, rest) = await LongWork.run(objects.count) {
            (
                objects.lazy.map(\.key.byteCount).max() ?? from.byteCount, objects.first { $0.key == from },
                objects.filter { $0.key != from }
            )
        }
        guard longest - from.byteCount + to.byteCount <= capabilities.maxKeyBytes else {
            throw VFSError(.nameTooLong, "a key below \(to) would be too long")
        }
        try await requireFree()
        var made: [Moved] = []
        do throws(VFSError) {
            // The marker claims the name: of two who move something there at the same time the store lets one in.
            let claim = try await claim(marker)
            if let moved = claim?.moved { made.append(moved) }
            try await copy(rest, &made, isClaimed: claim?.isExclusive ?? false)
            return made
        } catch {
            // Nothing has been deleted: the old tree is whole.
            await takeBack(made)
            throw error
        }
    }

    /// - Throws: `notEmpty` when there is more below the new name than the marker that this move replaces.
    private func requireFree() async throws(VFSError) {
        let page = try await provider.list(ListRequest(prefix: to, delimited: false, limit: 2, takesUnreadable: true))
        guard page.unreadable.isEmpty, page.objects.allSatisfy({ $0.key == to && $0.etag == replaced?.etag }) else {
            throw VFSError(.notEmpty, "somebody else has made \(to)")
        }
    }

    /// - Returns: whether nobody else can have claimed the name as well.
    private func claim(
        _ marker: ObjectInfo?
    ) async throws(VFSError) -> (moved: Moved, isExclusive: Bool)? {
        guard capabilities.emptyFolders else { return nil }
        // A folder object with a body is somebody's file: it moves as one.
        if let marker, marker.size > 0 { return nil }
        if marker == nil, capabilities.visibleFolders { return nil }
        var metadata = try AttributeCodec.encodeWhatFits(attributes, limit: capabilities.maxMetadataBytes).metadata
        if let marker, let stored = try await provider.headIfThere(marker.key)?.metadata { metadata = stored }
        metadata.contentType = AttributeCodec.directoryType
        let nonce = ObjectMetadata.newNonce()
        metadata.nonce = nonce
        var before: ObjectMetadata?
        if let replaced { before = try await provider.headIfThere(replaced.key)?.metadata }
        var condition: Precondition = replaced.map { .match($0.etag) } ?? .absent
        // A folder that the store makes by itself has no version to be held to.
        if replaced != nil, !capabilities.folderObjects { condition = .none }
        while true {
            do throws(VFSError) {
                let info = try await provider.putOnce(
                    PutRequest(key: to, metadata: metadata, precondition: condition), from: BytesSource([]))
                let isExclusive = condition == .absent && capabilities.conditionalCreate
                var moved = Moved(old: marker ?? info, new: info)
                moved.claim = Claim(nonce: nonce, before: before)
                return (moved, isExclusive)
            } catch {
                guard condition != .none, error.code == .preconditionFailed || error.code == .alreadyExists else {
                    throw error
                }
                // A folder that the store keeps and shows to nobody is taken over.
                let page = try await provider.list(
                    ListRequest(prefix: to, delimited: false, limit: 1, takesUnreadable: true))
                guard page.isEmpty else {
                    throw VFSError(.notEmpty, "somebody else has made \(to)", wire: error.wire)
                }
                condition = .none
            }
        }
    }

    /// - Parameter isClaimed: nobody else makes the same copies. Otherwise one whose answer was lost counts as somebody's.
    private func copy(_ objects: [ObjectInfo], _ made: inout [Moved], isClaimed: Bool) async throws(VFSError) {
        let results = await inParallelToEnd(objects, width: Self.width) { object async throws(VFSError) -> Moved in
            if object.key.endsWithSlash, object.size == 0 { return try await copyFolder(object, isClaimed) }
            var request = CopyRequest(source: object, destination: target(object.key), precondition: .absent)
            request.mayBeOthers = !isClaimed
            return Moved(old: object, new: try await provider.copy(request))
        }
        var failure: VFSError?
        for (index, (object, result)) in zip(objects, results).enumerated() {
            await LongWork.pause(after: index)
            switch result {
            case .success(let moved): made.append(moved)
            case .failure(let error):
                failure = failure ?? error
                // Its answer may be all that was lost.
                if isClaimed, CommitVerdict.isUnclear(error),
                    let there = try? await provider.headIfThere(target(object.key)),
                    there.size == object.size, there.stored >= object.stored,
                    there.metadata?.nonce != nil,
                    there.metadata?.nonce == (try? await provider.headIfThere(object.key))?.metadata?.nonce
                {
                    made.append(Moved(old: object, new: there))
                }
            case nil: break
            }
        }
        if let failure {
            guard failure.code == .preconditionFailed else { throw failure }
            throw VFSError(.notEmpty, "somebody else has made something below \(to)", wire: failure.wire)
        }
    }

    private func copyFolder(_ object: ObjectInfo, _ isClaimed: Bool) async throws(VFSError) -> Moved {
        let key = target(object.key)
        // Where folders are made by themselves, one is there as soon as something is in it.
        let condition: Precondition = capabilities.folderObjects ? .absent : .none
        do throws(VFSError) {
            var request = CopyRequest(source: object, destination: key, precondition: condition)
            request.mayBeOthers = !isClaimed
            return Moved(old: object, new: try await provider.copy(request))
        } catch {
            // Some stores list a folder object and copy none (SeaweedFS): a new one does as well.
            guard error.code == .notFound || error.code == .stale else { throw error }
            var metadata = try await provider.headIfThere(object.key)?.metadata ?? ObjectMetadata()
            metadata.contentType = AttributeCodec.directoryType
            let info = try await provider.put(
                PutRequest(key: key, metadata: metadata, precondition: condition), from: BytesSource([]))
            return Moved(old: object, new: info)
        }
    }

    // MARK: Deletions

    /// Takes the old tree away, object by object as it was copied.
    /// - Returns: what has been replaced since, which stays; and why the store refuses to delete something.
    /// - Throws: what leaves open whether anything was deleted, or still will be.
    package func deleteOld(_ moved: [Moved]) async throws(VFSError) -> (stayed: [ObjectInfo], refusal: VFSError?) {
        let (old, steps) = await LongWork.run(moved.count) {
            let old = moved.filter { $0.old.key != $0.new.key }.map(\.old)
            return (old, deletions(old))
        }
        var stayed: [ObjectInfo] = []
        var refusal: VFSError?
        // Folder objects above what stays.
        var kept: Set<ObjectKey> = []
        for step in steps {
            let requests = kept.isEmpty ? step : step.filter { [kept] in !kept.contains($0.key) }
            let failures = try await provider.deleteAll(requests)
            // What somebody else has put into a real folder meanwhile keeps it.
            let isChange = { (failure: DeleteFailure) in [.preconditionFailed, .notEmpty].contains(failure.error.code) }
            let changed = Set(failures.filter(isChange).map(\.key))
            if !changed.isEmpty { stayed += await LongWork.run(old.count) { old.filter { changed.contains($0.key) } } }
            let refused = failures.filter { !isChange($0) }
            guard let first = refused.first else { continue }
            refusal = refusal ?? first.error
            // Who may delete nothing gets all back; else the tree is under the new name, and what can go of the old one goes.
            if kept.isEmpty, refused.count == requests.count { break }
            kept.formUnion(refused.flatMap { foldersAbove($0.key) })
        }
        return (stayed, refusal)
    }

    /// The keys of the folders below `from`, itself included, in which `key` is.
    private func foldersAbove(_ key: ObjectKey) -> [ObjectKey] {
        let text = key.string
        return text.utf8.indices.lazy.filter { text.utf8[$0] == UInt8(ascii: "/") }
            .map { ObjectKey(String(decoding: text.utf8[...$0], as: UTF8.self)) }.filter {
                $0.byteCount >= from.byteCount
            }
    }

    /// One after the other: files, then folder objects, the deepest first: a store that is a tree inside keeps one that is not empty.
    private func deletions(_ objects: [ObjectInfo], undoing: Bool = false) -> [[DeleteRequest]] {
        let files = objects.filter { !$0.key.endsWithSlash }.map {
            DeleteRequest($0.key, version: $0.etag, undoes: undoing)
        }
        let folders = objects.filter(\.key.endsWithSlash).sorted { $0.key.byteCount > $1.key.byteCount }
        let isLeveled = capabilities.realFolders
        let levels = Dictionary(grouping: folders) { isLeveled ? $0.key.utf8.count { $0 == UInt8(ascii: "/") } : 0 }
        let steps = levels.sorted { $0.key > $1.key }.map { level in
            level.value.map {
                // A folder that the store makes by itself has no version to be held to.
                DeleteRequest(
                    $0.key, version: capabilities.folderObjects ? $0.etag : nil,
                    undoes: undoing && capabilities.folderObjects)
            }
        }
        return [files] + steps
    }

    /// Whether the old tree is certain to hold all that was copied, each as the version that was copied.
    package func isWhole(_ moved: [Moved]) async -> Bool {
        guard let there = try? await provider.all(below: from, in: room) else { return false }
        return await LongWork.run(moved.count + there.count) {
            let versions = Dictionary(there.map { ($0.key, $0.etag) }, uniquingKeysWith: { $1 })
            return moved.allSatisfy { $0.old.key == $0.new.key || versions[$0.old.key] == $0.old.etag }
        }
    }

    /// Takes away again what this move has put under the new name, as far as it is still that.
    package func takeBack(_ made: [Moved]) async {
        // What has no source any more somebody else has moved here meanwhile, and counts on.
        guard let there = try? await provider.all(below: from, in: room) else { return }
        let steps = await LongWork.run(made.count + there.count) {
            let sources = Dictionary(there.map { ($0.key, $0.etag) }, uniquingKeysWith: { $1 })
            let own = made.filter { moved in
                guard moved.new.etag != replaced?.etag || moved.new.key != replaced?.key else { return false }
                return moved.old.key == moved.new.key || sources[moved.old.key] == moved.old.etag
            }.map(\.new)
            return deletions(own, undoing: true)
        }
        for requests in steps {
            _ = await attempt { () async throws(VFSError) in try await provider.deleteAll(requests) }
        }
        guard let replaced, let claim = made.first(where: { $0.new.key == replaced.key })?.claim else { return }
        // The empty directory that had the name is there again, as it was.
        _ = await attempt { () async throws(VFSError) in
            let there = try await provider.headIfThere(replaced.key)
            if let there, there.metadata?.nonce != claim.nonce { return }
            var metadata = try AttributeCodec.encodeWhatFits(
                StoredAttributes(), limit: capabilities.maxMetadataBytes
            ).metadata
            metadata.contentType = AttributeCodec.directoryType
            let request = PutRequest(
                key: replaced.key, metadata: claim.before ?? metadata,
                precondition: there.map { .match($0.etag) } ?? .absent)
            _ = try await provider.put(request, from: BytesSource([]))
        }
    }
}

extension ObjectProvider {
    /// All objects whose keys begin with `prefix`.
    /// - Throws: `tooLarge` when they are more than can be kept in memory.
    package func all(
        below prefix: ObjectKey, in room: NameRoom, most: Int = Gathered.most
    ) async throws(VFSError) -> [ObjectInfo] {
        var gathered = Gathered(in: room, most: most)
        var continuation: String?
        var order = PageOrder(capabilities)
        repeat {
            let page = try await list(ListRequest(prefix: prefix, delimited: false, continuation: continuation))
            try order.check(page)
            try await gathered.take(page.objects, below: prefix)
            continuation = page.continuation
        } while continuation != nil
        return gathered.objects
    }

    /// Deletes any number of objects, as many at once as the store takes.
    /// - Returns: the ones that were refused.
    package func deleteAll(_ requests: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        let size = max(1, capabilities.maxDeleteKeys)
        let batches = stride(from: 0, to: requests.count, by: size).map {
            Array(requests[$0..<min(requests.count, $0 + size)])
        }
        // What is on its way comes to its end: a delete that was given up may still take place.
        let results = await inParallelToEnd(batches, width: size == 1 ? 64 : 4) { batch async throws(VFSError) in
            do throws(VFSError) {
                return try await self.delete(batch)
            } catch {
                // A store that refuses says so of each.
                guard error.code == .permissionDenied || error.code == .archived else { throw error }
                return batch.map { DeleteFailure(key: $0.key, error: error) }
            }
        }
        var failures: [DeleteFailure] = []
        for case let result? in results { failures += try result.get() }
        return failures
    }
}

import CloudMountCommit
import CloudMountVFS

/// Makes files, directories, links and the rest.
struct Creator: Sendable {
    let context: MountContext
    let tree: Tree
    let resolver: Resolver
    let markers: Markers
    let commits: Commits

    private static let exclusive: Int32 = 0o200  // O_EXCL

    /// What a file that is made is opened as.
    struct Opened: Sendable {
        let entry: Entry
        let content: FileContent
    }

    // MARK: Files

    /// Makes a file that only this mount knows until its commit. Nil when the store has to be asked.
    func createNow(_ place: Place, mode: UInt32, flags: Int32, _ caller: Caller) throws(VFSError) -> Opened? {
        if flags & Self.exclusive != 0, context.policy().asksStoreForNames { return nil }
        return try create(place, mode, caller, isAbsent: false)
    }

    private func create(
        _ place: Place, _ mode: UInt32, _ caller: Caller, isAbsent: Bool
    ) throws(VFSError) -> Opened? {
        try tree.create(place.name, in: place.parent, mode: mode, caller, isAbsent: isAbsent)
            .map { Opened(entry: $0.0, content: $0.1) }
    }

    enum Created: Sendable {
        case opened(Opened)
        case exists(InodeID)
    }

    /// As the store decides.
    func create(_ place: Place, mode: UInt32, flags: Int32, _ caller: Caller) async throws(VFSError) -> Created {
        let isExclusive = flags & Self.exclusive != 0
        return try await tree.persistently { () async throws(VFSError) -> Created? in
            let isStored = isExclusive && context.policy().asksStoreForNames
            // What is absent by memory, the store denies or confirms when the object is made.
            let existing =
                isStored && context.capabilities.conditionalCreate
                ? try await resolver.find(place) : try await resolver.resolveOrRemember(place)
            if let existing {
                if isExclusive || tree.stored.isHiddenLink(existing) {
                    throw VFSError(.alreadyExists, "\(place.name) exists")
                }
                return .exists(existing)
            }
            guard isStored, context.capabilities.conditionalCreate else {
                if let made = try create(place, mode, caller, isAbsent: true) { return .opened(made) }
                // The name is being given to something else, or its directory taken away.
                await tree.unclaimed(place)
                return nil
            }
            await tree.unclaimed(place)
            if let refusal = context.refusesWrites() { throw refusal }
            let made = try await make(place, .regular, mode, caller, body: "", opened: true) { _ in }
            guard let content = made.1 else { throw VFSError(.io, "a file was made and not opened") }
            return .opened(Opened(entry: made.0, content: content))
        }
    }

    // MARK: What is in the store before the call returns

    /// - Parameter body: the object's bytes.
    func make(
        _ place: Place, _ kind: FileKind, _ mode: UInt32, _ caller: Caller, body: String,
        _ describe: @escaping @Sendable (inout StoredAttributes) -> Void
    ) async throws(VFSError) -> Entry {
        // Without attributes it would be a plain file for whoever looks next.
        if kind != .regular, !context.capabilities.metadata {
            throw VFSError(.notPermitted, "the store keeps no attributes, without which \(place.name) is a plain file")
        }
        if try await resolver.find(place) != nil { throw VFSError(.alreadyExists, "\(place.name) exists") }
        await tree.unclaimed(place)
        return try await make(place, kind, mode, caller, body: body, opened: false, describe).0
    }

    private func make(
        _ place: Place, _ kind: FileKind, _ mode: UInt32, _ caller: Caller, body: String, opened: Bool,
        _ describe: @escaping @Sendable (inout StoredAttributes) -> Void
    ) async throws(VFSError) -> (Entry, FileContent?) {
        try await tree.holding(place.parent) { () async throws(VFSError) in
            let made = try tree.begin(
                place.name, in: place.parent, kind: kind, mode: mode, caller, size: body.utf8.count, describe)
            let nonce = ObjectMetadata.newNonce()
            do throws(VFSError) {
                var metadata = try AttributeCodec.encode(
                    made.attributes, limit: context.capabilities.maxMetadataBytes)
                metadata.contentType =
                    metadata.contentType ?? AttributeCodec.contentType(forName: place.name.string)
                metadata.nonce = nonce
                try await commits.landings.clear(made.key)
                let request = PutRequest(key: made.key, metadata: metadata, precondition: .absent)
                let info: ObjectInfo
                do throws(VFSError) {
                    info = try await context.provider.putOnce(request, from: BytesSource(body))
                } catch {
                    if CommitVerdict.isUnclear(error) {
                        commits.landings.undoLater(WriteMark(nonce: nonce, size: body.utf8.count), at: made.key)
                    }
                    throw error
                }
                let finished = try tree.finish(made.inode, info, nonce: nonce, opened: opened)
                markers.timesChanged()
                return finished
            } catch {
                tree.undo(made.inode)
                guard error.code == .preconditionFailed else { throw error }
                tree.stored.distrust([place])
                throw VFSError(.alreadyExists, "\(made.key) exists")
            }
        }
    }

    // MARK: Directories

    func makeDirectory(_ place: Place, mode: UInt32, _ caller: Caller) async throws(VFSError) -> Entry {
        if try await resolver.find(place) != nil { throw VFSError(.alreadyExists, "\(place.name) exists") }
        await tree.unclaimed(place)
        if !context.capabilities.emptyFolders { try tree.stored.requireRoomHere() }
        return try await tree.holding(place.parent) { () async throws(VFSError) in
            let made = try tree.begin(place.name, in: place.parent, kind: .directory, mode: mode, caller, size: 0) {
                _ in
            }
            do throws(VFSError) {
                try await storeNew(made)
                let entry = try tree.finish(made.inode, nil).0
                markers.timesChanged()
                return entry
            } catch {
                tree.undo(made.inode)
                let exists = error.code == .preconditionFailed || error.code == .alreadyExists
                if exists || CommitVerdict.isUnclear(error) { tree.stored.distrust([place]) }
                guard exists else { throw error }
                throw VFSError(.alreadyExists, "\(made.key) exists")
            }
        }
    }

    private func storeNew(_ made: Tree.Made) async throws(VFSError) {
        do throws(VFSError) {
            try await markers.store(made.inode, isNew: true)
        } catch {
            guard error.code == .preconditionFailed else { throw error }
            // Somebody else's, or a folder that the store keeps and shows to nobody: then it is taken over.
            let page = try await context.provider.list(
                ListRequest(prefix: made.key, delimited: false, limit: 1, takesUnreadable: true))
            guard page.isEmpty else { throw error }
            try await markers.store(made.inode)
        }
    }
}

import CloudMountCommit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// How answers of the store become nodes. All of it runs under the namespace lock.
extension MountedBucket {
    /// The node for a directory that is there.
    func showDirectory(_ name: FileName, in parent: Node, _ names: inout Namespace, _ now: UInt64) -> Node {
        if let node = parent.directory?.children[name] {
            if node.kind == .directory {
                node.validUntil = expiry(now)
                return node
            }
            if node.isHeld { return node }
        }
        let node = names.insert(
            name: name, in: parent, kind: .directory, permissions: settings.directoryPermissions, uid: settings.uid,
            gid: settings.gid, time: SystemClock.now())
        node.defaulted = .all
        node.validUntil = expiry(now)
        return node
    }

    /// A directory's marker as HEAD or a listing with metadata showed it.
    func describeMarker(_ node: Node, _ marker: ObjectInfo, _ names: inout Namespace) {
        guard let directory = node.directory else { return }
        directory.marker = .present
        guard directory.markerVersion != marker.etag || !node.isKnown else { return }
        directory.markerVersion = marker.etag
        node.stored = marker.stored
        if let metadata = marker.metadata {
            let attributes = AttributeCodec.decode(metadata, key: marker.key)
            node.adopt(attributes, defaults: settings)
            weigh(attributes, of: node, &names)
        } else {
            node.modified = marker.stored
            node.changed = marker.stored
            node.isKnown = !capabilities.folderObjects
        }
    }

    /// The node for an object that is there, as `info` has it.
    /// - Parameter asked: when the store was asked: what has been done here since is newer.
    @discardableResult
    func show(
        _ info: ObjectInfo, name: FileName, in parent: Node, asked: UInt64, _ names: inout Namespace, _ now: UInt64
    ) -> Node {
        names.unhide(info.key)
        let attributes = info.metadata.map { AttributeCodec.decode($0, key: info.key) }
        if let node = parent.directory?.children[name] {
            if node.isHeld || node.touched >= asked { return node }
            let sameKind = attributes.map { ($0.kind ?? .regular) == node.kind } ?? (node.kind != .directory)
            if node.version == info.etag, sameKind {
                node.validUntil = expiry(now)
                if node.openCount == 0 { node.size = info.size }
                if let attributes {
                    // Metadata changes under the same ETag. What has not changed keeps the times it has here.
                    if !node.isKnown || !node.keepsAttributes && !node.agrees(with: attributes, defaults: settings) {
                        node.stored = info.stored
                        node.adopt(attributes, defaults: settings)
                    }
                    if !capabilities.listingCarriesMetadata { weigh(attributes, of: node, &names) }
                } else if !node.keepsAttributes, info.stored.seconds > node.stored.seconds + 2 {
                    node.stored = info.stored
                    node.isKnown = false
                }
                return node
            }
            // An open file stays the version it is; who looks the name up gets another inode. So does who was told of
            // another kind.
            let kind = attributes?.kind ?? .regular
            let canTurn = node.lookups == 0 && node.kind != .directory && kind != .directory
            if sameKind || canTurn, node.openCount == 0 {
                node.content = nil
                if attributes != nil { node.kind = kind }
                describe(node, info, attributes, &names, now)
                return node
            }
        }
        let node = names.insert(
            name: name, in: parent, kind: attributes?.kind ?? .regular, permissions: settings.filePermissions,
            uid: settings.uid, gid: settings.gid, time: info.stored)
        node.defaulted = .all
        describe(node, info, attributes, &names, now)
        return node
    }

    private func describe(
        _ node: Node, _ info: ObjectInfo, _ attributes: StoredAttributes?, _ names: inout Namespace, _ now: UInt64
    ) {
        node.kernelIsBehind = node.lookups > 0
        node.keepsAttributes = false
        if node.version != info.etag { node.isCached = false }
        node.version = info.etag
        node.size = info.size
        node.stored = info.stored
        node.modified = info.stored
        node.changed = info.stored
        node.validUntil = expiry(now)
        node.isKnown = false
        node.details = nil
        if let attributes {
            node.adopt(attributes, defaults: settings)
            if !capabilities.listingCarriesMetadata { weigh(attributes, of: node, &names) }
        }
    }

    /// Counts what the metadata of one object says about the others of its directory. Where listings carry metadata only
    /// those of directories below are unknown, so only they count.
    private func weigh(_ attributes: StoredAttributes, of node: Node, _ names: inout Namespace) {
        guard let directory = names[node.parent]?.directory else { return }
        if attributes.saysMoreThanListing {
            directory.evidence = .present
            names.evidenceSeen = true
        } else if directory.evidence == .unknown {
            directory.emptySamples += 1
            if directory.emptySamples >= Self.samples { directory.evidence = .absent }
        }
    }

    /// Objects of a directory whose metadata is looked at before the rest is believed to have none.
    static let samples = 4

    /// Fetches the metadata of a node's current version, once for all who ask at the same time.
    /// - Throws: `notFound` when the object has gone.
    func learn(_ id: InodeID) async throws(VFSError) {
        try await heads.run(id) { () async throws(VFSError) in
            // Not before a rename that is under way has ended.
            _ = try await self.holding([id]) { () async throws(VFSError) in try await self.learnOnce(id) }
        }
    }

    private func learnOnce(_ id: InodeID) async throws(VFSError) {
        let asked = SystemClock.monotonic()
        let key: ObjectKey? = namespace.withLock { names in
            guard let node = names[id], !node.isHeld || !node.isKnown else { return nil }
            return node.version == nil && node.kind != .directory ? nil : names.key(of: node)
        }
        guard let key, !key.isEmpty else { return }
        let info = try await headIfThere(key)
        let now = SystemClock.monotonic()
        return try namespace.withLock { names throws(VFSError) in
            guard let node = names[id], !node.isOrphan, let parent = names[node.parent] else { return }
            if node.kind == .directory {
                if let info {
                    describeMarker(node, info, &names)
                } else if node.touched < asked {
                    node.directory?.marker = .absent
                }
                node.isKnown = true
                return
            }
            if node.isHeld {
                guard let info, !node.isKnown, node.version == info.etag, let metadata = info.metadata else {
                    return
                }
                // The bytes are the writers' already; the rest is still the version's.
                let (size, modified, changed) = (node.size, node.modified, node.changed)
                node.adopt(AttributeCodec.decode(metadata, key: key), defaults: settings)
                (node.size, node.modified, node.changed) = (size, modified, changed)
                return
            }
            if node.touched >= asked { return }
            guard let info else {
                let name = node.name
                if node.openCount == 0 { names.orphan(node) } else { node.validUntil = 0 }
                if node.isOrphan { parent.directory?.setAbsent(name, absence(now)) }
                throw VFSError(.notFound, "\(key) is not there any more")
            }
            show(info, name: node.name, in: parent, asked: asked, &names, now)
            return
        }
    }
}

extension StoredAttributes {
    /// Anything that a listing would not have shown.
    var saysMoreThanListing: Bool {
        kind != nil || permissions != nil || uid != nil || gid != nil || modified != nil || symlinkTarget != nil
            || !xattrs.isEmpty
    }
}

import CloudMountCommit
import CloudMountVFS

/// How answers of the store become nodes, and for how long they are valid.
extension Namespace {
    enum Known {
        case node(InodeID)
        /// Certainly not there, for so many nanoseconds more.
        case absent(UInt64)
        case unknown
    }

    /// For so long at most the kernel is told that a complete listing lacks a name. Nobody remembers which names those were,
    /// so it cannot be told otherwise when a reload shortens the times.
    private static let longestUntold: UInt64 = 10_000_000_000
    /// How long one failure to reach the store stands for all that it would have told of a node.
    static let staleTime: UInt64 = 1_000_000_000

    // MARK: Validity

    /// What memory says of a name.
    func known(_ name: FileName, in parent: Node, _ now: UInt64) -> Known {
        guard let directory = parent.directory else { return .absent(0) }
        if let node = directory.children[name] {
            return isValid(node, now) && isDescribed(node, in: directory) ? .node(node.id) : .unknown
        }
        let complete = min(directory.completeUntil, directory.completeSince + rules.negativeTTL)
        if complete > now { return .absent(min(complete - now, Self.longestUntold)) }
        if let until = directory.absent[name]?.until, until > now { return .absent(until - now) }
        return .unknown
    }

    /// Whether a node can be shown without asking the store.
    func isValid(_ node: Node, _ now: UInt64) -> Bool {
        node.id == Namespace.root || node.validUntil > now || node.isHeld
            || node.isStale && node.staleSince + Self.staleTime > now
    }

    /// Whether the node's attributes are as good as they will get without asking.
    func isDescribed(_ node: Node, in directory: Directory) -> Bool {
        node.isKnown || directory.evidence == .absent || node.version == nil && node.kind != .directory
    }

    /// The node as the kernel gets it; counts a lookup.
    mutating func entry(for node: Node, _ now: UInt64) -> Entry {
        node.lookups += 1
        isUsed(node.parent, now)
        node.kernelIsBehind = false
        let valid = validity(node, now)
        return Entry(attributes: shown(node), validFor: valid, attributesValidFor: valid)
    }

    func absentEntry(_ time: UInt64) -> Entry {
        let valid = rules.told(min(time, rules.metadataTTL))
        return Entry(attributes: nil, validFor: valid, attributesValidFor: valid)
    }

    private func validity(_ node: Node, _ now: UInt64) -> Duration {
        if node.validUntil > now { return rules.told(node.validUntil - now) }
        if node.isStale { return .nanoseconds(Self.staleTime) }
        return isValid(node, now) ? rules.told(rules.metadataTTL) : .zero
    }

    mutating func attributes(of node: Node, _ now: UInt64) -> AttributeReply {
        node.kernelIsBehind = false
        isUsed(node.parent, now)
        let open = node.openCount > 0 || node.kind == .directory || node.isOrphan
        let valid = open ? rules.told(rules.metadataTTL) : validity(node, now)
        return AttributeReply(attributes: shown(node), validFor: valid)
    }

    private func shown(_ node: Node) -> FileAttributes {
        var attributes = node.attributes
        rules.forced.apply(to: &attributes)
        return attributes
    }

    /// A symbolic link on a mount that hides them: its name is taken, and not shown.
    func isHiddenLink(_ node: Node) -> Bool { rules.symlinks == .hide && node.kind == .symbolicLink }

    /// What memory holds of a node, and of all below it, is to be asked again.
    func distrust(_ node: Node) {
        for one in node.withAllBelow {
            one.validUntil = 0
            one.directory?.distrust()
        }
    }

    /// As for a node: what is under the name now, only the store knows.
    func distrust(_ place: Place) {
        guard let directory = self[place.parent]?.directory else { return }
        directory.distrust()
        directory.setAbsent(place.name, nil)
        if let child = directory.children[place.name] { distrust(child) }
    }

    /// A directory has gone from under its key; an object that it hid is to be looked at again.
    mutating func noteDirectoryGone(_ key: ObjectKey, _ name: FileName, in parent: Directory?, _ now: UInt64) {
        hidden.remove(below: key)
        if hidden.remove(key.withoutSlash) {
            parent?.distrust()
            parent?.setAbsent(name, nil)
        } else {
            parent?.setAbsent(name, rules.absence(now))
        }
    }

    // MARK: Answers

    /// The node for a directory that is there.
    mutating func showDirectory(_ name: FileName, in parent: Node, _ now: UInt64, _ time: Timestamp) -> Node {
        if let node = parent.directory?.children[name] {
            if node.kind == .directory {
                node.validUntil = rules.expiry(now)
                return node
            }
            if node.isHeld { return node }
        }
        let node = insert(
            name: name, in: parent, kind: .directory, permissions: rules.directoryPermissions, uid: rules.uid,
            gid: rules.gid, time: time)
        node.defaulted = .all
        node.validUntil = rules.expiry(now)
        return node
    }

    /// A directory's marker as HEAD or a listing with metadata showed it. It has no bytes: where the store makes tags of bytes, the
    /// tag says nothing of the attributes that somebody else has stored.
    mutating func describeMarker(_ node: Node, _ marker: ObjectInfo) {
        guard let directory = node.directory else { return }
        let known = node.isKnown ? directory.markerObject : nil
        let isSameTag = known?.isSameVersion(as: marker) ?? false
        directory.marker = .present
        guard !node.isDirty else { return directory.markerObject = marker }
        if let metadata = marker.metadata {
            directory.markerObject = marker
            let attributes = AttributeCodec.decode(metadata, key: marker.key)
            let isSame = known?.metadata == metadata || node.agrees(with: attributes, defaults: rules)
            guard !isSameTag || !node.keepsAttributes && !isSame else { return }
            let (modified, changed) = (node.modified, node.changed)
            node.stored = marker.stored
            node.adopt(attributes, defaults: rules)
            weights.add(node)
            weigh(attributes, of: node)
            guard directory.hasUnstoredTime || isSameTag && rules.capabilities.visibleFolders else { return }
            // Names have come or gone since.
            (node.modified, node.changed) = (max(node.modified, modified), max(node.changed, changed))
        } else if !isSameTag {
            directory.markerObject = marker
            guard !directory.hasUnstoredTime else { return }
            node.stored = marker.stored
            node.modified = marker.stored
            node.changed = marker.stored
            node.isKnown = !rules.capabilities.folderObjects
        } else if !node.keepsAttributes, rules.capabilities.folderObjects,
            marker.stored.seconds > max(node.stored.seconds, known?.stored.seconds ?? 0) + 2
        {
            node.stored = marker.stored
            node.isKnown = false
        }
    }

    /// The node for an object that is there, as `info` has it.
    /// - Parameter asked: when the store was asked: what has been done here since is newer.
    @discardableResult
    mutating func show(
        _ info: ObjectInfo, name: FileName, in parent: Node, asked: UInt64, _ now: UInt64
    ) -> Node {
        hidden.remove(info.key)
        let attributes = info.metadata.map { AttributeCodec.decode($0, key: info.key) }
        if let node = parent.directory?.children[name] {
            if node.touched >= asked || isNeeded(node) { return node }
            let sameKind = attributes.map { ($0.kind ?? .regular) == node.kind } ?? (node.kind != .directory)
            let version = node.kind == .directory ? node.directory?.markerObject?.etag : node.version
            if version == info.etag, sameKind, !leadsElsewhere(node, attributes) {
                node.validUntil = rules.expiry(now)
                if node.openCount == 0, node.kind != .directory { node.size = info.size }
                node.noteStorage(info)
                // The same bytes, stored by somebody else.
                if let metadata = info.metadata, let nonce = node.nonce, metadata.nonce != nonce { node.nonce = nil }
                if let attributes {
                    // Metadata changes under the same ETag. What has not changed keeps the times it has here.
                    if !node.isKnown || !node.keepsAttributes && !node.agrees(with: attributes, defaults: rules) {
                        node.stored = info.stored
                        node.adopt(attributes, defaults: rules)
                        weights.add(node)
                    }
                    if !rules.capabilities.listingCarriesMetadata { weigh(attributes, of: node) }
                } else if !node.keepsAttributes, info.stored.seconds > node.stored.seconds + 2 {
                    node.stored = info.stored
                    node.isKnown = false
                }
                return node
            }
            // An open file stays the version it is; who looks the name up gets another inode. So does who was told of
            // another kind, or of a link's target, for which the kernel does not ask again.
            let kind = attributes?.kind ?? .regular
            let canTurn = node.lookups == 0 && node.kind != .directory && kind != .directory
            if sameKind && node.kind != .symbolicLink || canTurn, node.openCount == 0, node.borrows == 0 {
                node.content = nil
                if attributes != nil { node.kind = kind }
                describe(node, info, attributes, now)
                return node
            }
        }
        let node = insert(
            name: name, in: parent, kind: attributes?.kind ?? .regular, permissions: rules.filePermissions,
            uid: rules.uid, gid: rules.gid, time: info.stored)
        node.defaulted = .all
        describe(node, info, attributes, now)
        return node
    }

    /// Whether a link that the kernel has read has another target by now, under the same version.
    private func leadsElsewhere(_ node: Node, _ attributes: StoredAttributes?) -> Bool {
        guard node.kind == .symbolicLink, node.lookups > 0, !node.lacksDetails, let target = attributes?.symlinkTarget
        else { return false }
        return target != node.details?.symlinkTarget
    }

    private mutating func describe(
        _ node: Node, _ info: ObjectInfo, _ attributes: StoredAttributes?, _ now: UInt64
    ) {
        node.kernelIsBehind = node.lookups > 0
        node.keepsAttributes = false
        if let directory = node.directory {
            if isOldMarker(info) {
                directory.marker = .present
                directory.markerObject = info
            }
        } else {
            if node.version != info.etag {
                node.isCached = false
                node.hasPages = false
            }
            node.noteStorage(info)
            node.version = info.etag
            node.size = info.size
        }
        node.stored = info.stored
        node.modified = info.stored
        node.changed = info.stored
        node.validUntil = rules.expiry(now)
        node.isKnown = false
        node.details = nil
        node.lacksDetails = false
        if let attributes {
            node.adopt(attributes, defaults: rules)
            weights.add(node)
            if !rules.capabilities.listingCarriesMetadata { weigh(attributes, of: node) }
        }
    }

    /// Whether an object is a directory's marker as old tools make it: its key has no slash. A store that is a tree inside shows its
    /// folders so; those are no objects, and not to be deleted as one.
    func isOldMarker(_ info: ObjectInfo) -> Bool {
        rules.capabilities.folderObjects && !info.key.endsWithSlash && info.size == 0
            && AttributeCodec.isDirectory(info)
    }

    /// A new node whose mode and owner the store does not keep is shown at once as whoever looks next will see it.
    func showWhatLasts(of node: Node) {
        let isFolder = node.kind == .directory
        if rules.capabilities.keepsAttributes(ofFolder: isFolder) { return }
        node.permissions = isFolder ? rules.directoryPermissions : rules.filePermissions
        (node.uid, node.gid) = (rules.uid, rules.gid)
        node.defaulted = .all
    }

    /// The inode is another version from now on.
    mutating func become(_ info: ObjectInfo, _ node: Node, _ now: UInt64) {
        describe(node, info, info.metadata.map { AttributeCodec.decode($0, key: info.key) }, now)
    }

    /// Gives a node what it does not know of its version. Its bytes and times are the writers' already, if it has any; the rest is
    /// still the version's.
    mutating func complete(_ node: Node, _ attributes: StoredAttributes) {
        guard !node.isKnownInFull else { return }
        if node.isKnown {
            node.regain(attributes)
        } else {
            let kept = NodeChange(node, node.changed)
            node.adopt(attributes, defaults: rules)
            (node.size, node.modified, node.changed) = (kept.size, kept.modified, kept.changed)
            if let accessed = kept.details.accessed { node.details?.accessed = accessed }
        }
        weights.add(node)
    }

    /// Counts what the metadata of one object says about the others of its directory. Where listings carry metadata only
    /// those of directories below are unknown, so only they count.
    private mutating func weigh(_ attributes: StoredAttributes, of node: Node) {
        guard let directory = self[node.parent]?.directory else { return }
        if attributes.saysMoreThanListing {
            directory.evidence = .present
            evidenceSeen = true
        } else if directory.evidence == .unknown {
            directory.emptySamples += 1
            if directory.emptySamples >= Self.mostSamples { directory.evidence = .absent }
        }
    }

    /// Objects of a directory whose metadata is looked at before the rest is believed to have none.
    private static let mostSamples = 4
}

extension StoredAttributes {
    /// Anything that a listing would not have shown.
    fileprivate var saysMoreThanListing: Bool {
        kind != nil || permissions != nil || uid != nil || gid != nil || modified != nil || symlinkTarget != nil
            || !xattrs.isEmpty
    }
}

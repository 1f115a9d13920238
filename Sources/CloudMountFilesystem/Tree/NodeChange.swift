import CloudMountCommit
import CloudMountVFS

/// What operations may know of a node: a copy.
struct NodeView: Sendable {
    let kind: FileKind
    let isKnownInFull: Bool
    let lacksDetails: Bool
    let isOrphan: Bool
    let isStale: Bool
    let isDirty: Bool
    let version: ETag?
    let details: StoredAttributes?

    init(_ node: Node) {
        kind = node.kind
        isKnownInFull = node.isKnownInFull
        lacksDetails = node.lacksDetails
        isOrphan = node.isOrphan
        isStale = node.isStale
        isDirty = node.isDirty
        version = node.version
        details = node.details
    }
}

/// What stat(2) is told.
struct KnownAttributes: Sendable {
    let known: AttributeReply
    let content: FileContent?

    func reply() -> AttributeReply {
        // Of a file that holds changes or holes: how much room it takes.
        guard let content else { return known }
        var reply = known
        reply.attributes.allocated = min(content.allocated(), known.attributes.size)
        return reply
    }
}

/// The attributes of a node as an operation changes them, or as they were before.
struct NodeChange: Sendable {
    let kind: FileKind
    /// Nothing was dirty, and nobody wrote: all that is dirty afterwards is the change's.
    let wasClean: Bool
    let version: ETag?
    var permissions: UInt32
    var uid: UInt32
    var gid: UInt32
    let size: Int
    /// Of the bytes, along with the attributes.
    var cut: ContentChange?
    var modified: Timestamp
    var changed: Timestamp
    var details: StoredAttributes
    var hasExplicitTime: Bool
    var defaulted: Node.Defaulted
    let time: Timestamp

    init(_ node: Node, _ time: Timestamp) {
        kind = node.kind
        wasClean = !node.isDirty && node.writers == 0
        version = node.version
        permissions = node.permissions
        uid = node.uid
        gid = node.gid
        size = node.size
        modified = node.modified
        changed = node.changed
        details = node.details ?? StoredAttributes()
        hasExplicitTime = node.hasExplicitTime
        defaulted = node.defaulted
        self.time = time
    }

    func apply(to node: Node) {
        node.permissions = permissions
        node.uid = uid
        node.gid = gid
        if let cut { node.resize(cut) } else { node.size = size }
        node.modified = modified
        node.changed = changed
        node.details = details
        node.hasExplicitTime = hasExplicitTime
        node.defaulted = defaulted
    }

    /// What would be stored.
    var storedAttributes: StoredAttributes {
        var attributes = details
        attributes.kind = kind
        attributes.permissions = permissions
        attributes.uid = uid
        attributes.gid = gid
        attributes.modified = modified
        attributes.changed = changed
        return attributes
    }

    mutating func clearSetID() {
        permissions &= ~0o4000
        if permissions & 0o010 != 0 { permissions &= ~0o2000 }
    }
}

extension Node {
    func clearSetID() {
        permissions &= ~0o4000
        if permissions & 0o010 != 0 { permissions &= ~0o2000 }
    }
}

import CloudMountFilesystem
import CloudMountVFS

/// A file, link or directory as it should be: the plainest thing that could be called a file system.
final class ReferenceNode {
    let kind: FileKind
    var permissions: UInt32
    var uid: UInt32 = 1000
    var gid: UInt32 = 1000
    var bytes: [UInt8] = []
    var target = ""
    var xattrs: [String: [UInt8]] = [:]
    /// Set by utimens, until the next write.
    var modified: Timestamp?
    var children: [String: ReferenceNode] = [:]
    /// Reached by no name any more.
    var isUnlinked = false
    /// The bytes are in the store under its name.
    var isStored = false

    init(_ kind: FileKind, permissions: UInt32) {
        self.kind = kind
        self.permissions = permissions
    }

    func holds(_ node: ReferenceNode) -> Bool { self === node || children.values.contains { $0.holds(node) } }
}

/// The tree of `ReferenceNode`s, and what each operation answers.
struct Reference {
    let root = ReferenceNode(.directory, permissions: 0o755)
    /// What the store under the file system cannot do, the file system cannot either.
    var canRenameStored = true

    func node(_ path: [String]) -> ReferenceNode? {
        var node = root
        for name in path {
            guard let next = node.children[name] else { return nil }
            node = next
        }
        return node
    }

    func create(_ parent: ReferenceNode, _ name: String, exclusive: Bool) throws(VFSError) -> ReferenceNode {
        if let node = parent.children[name] {
            if exclusive { throw VFSError(.alreadyExists, "") }
            if node.kind == .directory { throw VFSError(.isDirectory, "") }
            return node
        }
        let node = ReferenceNode(.regular, permissions: 0o644)
        parent.children[name] = node
        return node
    }

    func make(_ kind: FileKind, _ parent: ReferenceNode, _ name: String, _ permissions: UInt32) throws(VFSError)
        -> ReferenceNode
    {
        guard parent.children[name] == nil else { throw VFSError(.alreadyExists, "") }
        let node = ReferenceNode(kind, permissions: permissions)
        node.isStored = true
        parent.children[name] = node
        return node
    }

    func unlink(_ parent: ReferenceNode, _ name: String) throws(VFSError) {
        guard let node = parent.children[name] else { throw VFSError(.notFound, "") }
        if node.kind == .directory { throw VFSError(.isDirectory, "") }
        node.isUnlinked = true
        parent.children[name] = nil
    }

    func rmdir(_ parent: ReferenceNode, _ name: String) throws(VFSError) {
        guard let node = parent.children[name] else { throw VFSError(.notFound, "") }
        guard node.kind == .directory else { throw VFSError(.notDirectory, "") }
        guard node.children.isEmpty else { throw VFSError(.notEmpty, "") }
        node.isUnlinked = true
        parent.children[name] = nil
    }

    func rename(
        _ parent: ReferenceNode, _ name: String, _ newParent: ReferenceNode, _ newName: String, replace: Bool
    ) throws(VFSError) {
        guard let node = parent.children[name] else { throw VFSError(.notFound, "") }
        if let old = newParent.children[newName] {
            if old === node { return }
            if !replace { throw VFSError(.alreadyExists, "") }
            if node.kind == .directory {
                guard old.kind == .directory else { throw VFSError(.notDirectory, "") }
                guard old.children.isEmpty else { throw VFSError(.notEmpty, "") }
            } else if old.kind == .directory {
                throw VFSError(.isDirectory, "")
            }
        }
        if !canRenameStored, node.kind == .directory || node.isStored { throw VFSError(.crossDevice, "") }
        newParent.children[newName]?.isUnlinked = true
        parent.children[name] = nil
        newParent.children[newName] = node
    }
}

extension ReferenceNode {
    func write(_ offset: Int, _ new: [UInt8]) {
        guard !new.isEmpty else { return }
        if bytes.count < offset { bytes += [UInt8](repeating: 0, count: offset - bytes.count) }
        let end = min(bytes.count, offset + new.count)
        bytes.replaceSubrange(offset..<end, with: new)
        modified = nil
    }

    func resize(_ size: Int) {
        if size < bytes.count { bytes.removeLast(bytes.count - size) }
        bytes += [UInt8](repeating: 0, count: size - bytes.count)
        modified = nil
    }

    func zero(_ offset: Int, _ count: Int, extend: Bool) {
        if extend, bytes.count < offset + count { resize(offset + count) }
        let end = min(bytes.count, offset + count)
        if offset < end { for index in offset..<end { bytes[index] = 0 } }
        modified = nil
    }
}

import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

extension FakeFileSystem: FileOperations {
    func entry(_ attributes: FileAttributes?) -> Entry {
        Entry(attributes: attributes, validFor: validFor, attributesValidFor: validFor)
    }

    func lookup(parent: InodeID, name: FileName, reply: consuming Reply<Entry>) {
        note("lookup", name.string)
        if name.string == "held lookup" {
            let box = ReplyBox(reply)
            return held.withLock { $0.append { self.lookup(parent: parent, name: name, box: box) } }
        }
        if name.string == "stuck" { stuck.wait() }
        lookup(parent: parent, name: name, box: ReplyBox(reply))
    }

    private func lookup(parent: InodeID, name: FileName, box: ReplyBox<Entry>) {
        let found = state.withLock { state -> FileAttributes? in
            guard let inode = state.nodes[parent]?.children[name] else { return nil }
            state.nodes[inode]?.lookups += 1
            return state.nodes[inode]?.attributes
        }
        box.send(entry(found))
    }

    func forget(_ inode: InodeID, count: UInt64) {
        note("forget")
        change(inode) { $0.lookups -= Int(count) }
    }

    func getattr(_ inode: InodeID, handle: HandleID?, reply: consuming Reply<AttributeReply>) {
        note("getattr")
        guard let node = node(inode) else { return reply.fail(.stale) }
        reply.send(AttributeReply(attributes: node.attributes, validFor: validFor))
    }

    func setattr(
        _ inode: InodeID, handle: HandleID?, changes: AttributeChanges, caller: Caller,
        reply: consuming Reply<AttributeReply>
    ) {
        note("setattr", changes.clearSetID ? "clear set-id" : "")
        let now = Timestamp(seconds: 1_600_000_000)
        func time(_ change: AttributeChanges.TimeChange) -> Timestamp {
            if case .at(let time) = change { time } else { now }
        }
        change(inode) { node in
            if let permissions = changes.permissions { node.attributes.permissions = permissions }
            if let uid = changes.uid { node.attributes.uid = uid }
            if let gid = changes.gid { node.attributes.gid = gid }
            if let size = changes.size {
                node.bytes = Array(node.bytes.prefix(size))
                node.bytes += [UInt8](repeating: 0, count: size - node.bytes.count)
            }
            if let accessed = changes.accessed { node.attributes.accessed = time(accessed) }
            if let modified = changes.modified { node.attributes.modified = time(modified) }
            if changes.clearSetID { node.attributes.permissions &= 0o1777 }
        }
        guard let node = node(inode) else { return reply.fail(.stale) }
        reply.send(AttributeReply(attributes: node.attributes, validFor: validFor))
    }

    func access(_ inode: InodeID, mask: Int32, caller: Caller, reply: consuming Reply<Void>) {
        note("access")
        reply.send()
    }

    func readlink(_ inode: InodeID, reply: consuming Reply<String>) {
        note("readlink")
        reply.send(node(inode)?.target ?? "")
    }

    func make(
        _ name: FileName, in parent: InodeID, mode: UInt32, kind: FileKind, caller: Caller
    ) -> Result<FileAttributes, VFSError> {
        state.withLock { state in
            if state.nodes[parent]?.children[name] != nil { return .failure(VFSError(.alreadyExists, name.string)) }
            let inode = state.add(name, in: parent, kind: kind, permissions: mode & 0o7777 & ~caller.umask)
            guard var node = state.nodes[inode] else { return .failure(VFSError(.io, "")) }
            node.attributes.uid = caller.uid
            node.attributes.gid = caller.gid
            node.lookups = 1
            state.nodes[inode] = node
            return .success(node.attributes)
        }
    }

    func mknod(
        parent: InodeID, name: FileName, mode: UInt32, device: UInt32, caller: Caller, reply: consuming Reply<Entry>
    ) {
        note("mknod")
        let kind = FileKind(rawValue: mode & 0o170000) ?? .regular
        switch make(name, in: parent, mode: mode, kind: kind, caller: caller) {
        case .success(var attributes):
            attributes.device = device
            change(attributes.inode) { $0.attributes.device = device }
            reply.send(entry(attributes))
        case .failure(let error): reply.fail(error)
        }
    }

    func mkdir(parent: InodeID, name: FileName, mode: UInt32, caller: Caller, reply: consuming Reply<Entry>) {
        note("mkdir")
        switch make(name, in: parent, mode: mode, kind: .directory, caller: caller) {
        case .success(let attributes): reply.send(entry(attributes))
        case .failure(let error): reply.fail(error)
        }
    }

    func unlink(parent: InodeID, name: FileName, reply: consuming Reply<Void>) {
        note("unlink")
        let gone = state.withLock { $0.nodes[parent]?.children.removeValue(forKey: name) }
        if gone == nil { reply.fail(.notFound) } else { reply.send() }
    }

    func rmdir(parent: InodeID, name: FileName, reply: consuming Reply<Void>) {
        note("rmdir")
        let result = state.withLock { state -> VFSError.Code? in
            guard let inode = state.nodes[parent]?.children[name] else { return .notFound }
            if state.nodes[inode]?.children.isEmpty == false { return .notEmpty }
            state.nodes[parent]?.children[name] = nil
            return nil
        }
        if let result { reply.fail(result) } else { reply.send() }
    }

    func symlink(
        target: String, parent: InodeID, name: FileName, caller: Caller, reply: consuming Reply<Entry>
    ) {
        note("symlink")
        switch make(name, in: parent, mode: 0o777, kind: .symbolicLink, caller: caller) {
        case .success(let attributes):
            change(attributes.inode) { $0.target = target }
            reply.send(entry(attributes))
        case .failure(let error): reply.fail(error)
        }
    }

    func rename(
        parent: InodeID, name: FileName, newParent: InodeID, newName: FileName, flags: RenameFlags,
        reply: consuming Reply<Void>
    ) {
        note("rename")
        let result = state.withLock { state -> VFSError.Code? in
            if flags.contains(.exchange) { return .invalidArgument }
            if flags.contains(.noReplace), state.nodes[newParent]?.children[newName] != nil { return .alreadyExists }
            guard let inode = state.nodes[parent]?.children.removeValue(forKey: name) else { return .notFound }
            state.nodes[newParent]?.children[newName] = inode
            return nil
        }
        if let result { reply.fail(result) } else { reply.send() }
    }

    func readdir(
        _ inode: InodeID, handle: HandleID, offset: Int, plus: Bool, packer: any DirectoryPacker,
        reply: consuming Reply<Void>
    ) {
        note(plus ? "readdirplus" : "readdir")
        let children = state.withLock { state in
            (state.nodes[inode]?.children ?? [:]).sorted { $0.key < $1.key }
                .compactMap { name, inode in state.nodes[inode].map { (name.string, $0.attributes) } }
        }
        let dots = [(".", Self.attributes(inode, .directory, 0o755)), ("..", Self.attributes(1, .directory, 0o755))]
        let all = dots + children
        for (index, (name, attributes)) in all.enumerated().dropFirst(offset) {
            // Every third has no attributes, as after a listing that did not tell them.
            let full = plus && index >= 2 && attributes.inode % 3 != 0
            let entry = DirectoryEntry(
                name: name, inode: attributes.inode, kind: attributes.kind, nextOffset: index + 1,
                entry: full ? entry(attributes) : nil)
            if !packer.add(entry) { break }
            if full { change(attributes.inode) { $0.lookups += 1 } }
        }
        reply.send()
    }
}

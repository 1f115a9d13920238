import CloudMountFilesystem
import CloudMountVFS
import Glibc
import Synchronization

extension FakeFileSystem {
    private func opened(_ inode: InodeID) -> OpenReply {
        state.withLock { $0.openHandles += 1 }
        var reply = OpenReply(handle: inode)
        reply.keepCache = true
        return reply
    }

    func open(_ inode: InodeID, flags: Int32, caller: Caller, reply: consuming Reply<OpenReply>) {
        note("open", caller.clearSetID ? "clear set-id" : "")
        if flags & O_TRUNC != 0 { change(inode) { $0.bytes = [] } }
        if node(inode)?.special == "held open" {
            let box = ReplyBox(reply)
            held.withLock { $0.append { box.send(self.opened(inode)) } }
        } else {
            reply.send(opened(inode))
        }
    }

    func create(
        parent: InodeID, name: FileName, mode: UInt32, flags: Int32, caller: Caller, reply: consuming Reply<CreateReply>
    ) {
        note("create")
        switch make(name, in: parent, mode: mode, kind: .regular, caller: caller) {
        case .success(let attributes):
            reply.send(CreateReply(entry: entry(attributes), open: opened(attributes.inode)))
        case .failure(let error): reply.fail(error)
        }
    }

    func read(_ inode: InodeID, handle: HandleID, offset: Int, count: Int, reply: consuming Reply<ReadSlices>) {
        note("read")
        guard let node = node(inode) else { return reply.fail(.stale) }
        switch node.special {
        case "dropped": return
        case "held read":
            let box = ReplyBox(reply)
            held.withLock { $0.append { box.fail(.cancelled) } }
        case "pending":
            let waiting = Waiting()
            reply.onInterrupt { waiting.cancel() }
            waiting.hold(reply)
        default:
            let bytes = node.bytes[min(offset, node.bytes.count)..<min(offset + count, node.bytes.count)]
            let box = ReplyBox(reply)
            bytes.withUnsafeBytes { bytes in
                // In several slices, as when a read spans chunks.
                let starts = stride(from: 0, to: bytes.count, by: bytesPerSlice)
                let slices = starts.map { bytes[$0..<min($0 + bytesPerSlice, bytes.count)] }
                box.send(ReadSlices(slices.map { UnsafeRawBufferPointer(rebasing: $0) }))
            }
        }
    }

    /// A reply that waits to be interrupted.
    private final class Waiting: Sendable {
        private let state = Mutex<(cancelled: Bool, box: ReplyBox<ReadSlices>?)>((false, nil))

        func hold(_ reply: consuming Reply<ReadSlices>) {
            let box = ReplyBox(reply)
            let cancelled = state.withLock { state in
                state.box = box
                return state.cancelled
            }
            if cancelled { box.fail(.cancelled) }
        }

        func cancel() {
            let box = state.withLock { state in
                state.cancelled = true
                return state.box
            }
            box?.fail(.cancelled)
        }
    }

    func write(
        _ inode: InodeID, handle: HandleID, offset: Int, bytes: UnsafeRawBufferPointer, clearSetID: Bool,
        reply: consuming Reply<Int>
    ) {
        note("write", clearSetID ? "clear set-id" : "")
        change(inode) { node in
            if node.bytes.count < offset + bytes.count {
                node.bytes += [UInt8](repeating: 0, count: offset + bytes.count - node.bytes.count)
            }
            node.bytes.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            if clearSetID { node.attributes.permissions &= 0o1777 }
        }
        reply.send(bytes.count)
    }

    func flush(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        note("flush")
        reply.send()
    }

    func release(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        note("release")
        state.withLock { $0.openHandles -= 1 }
        reply.send()
    }

    func fsync(_ inode: InodeID, handle: HandleID, dataOnly: Bool, reply: consuming Reply<Void>) {
        note("fsync", dataOnly ? "data" : "all")
        reply.send()
    }

    func fallocate(
        _ inode: InodeID, handle: HandleID, mode: Int32, offset: Int, count: Int, reply: consuming Reply<Void>
    ) {
        note("fallocate", "\(mode) \(offset) \(count)")
        reply.send()
    }

    func lseek(_ inode: InodeID, handle: HandleID, offset: Int, whence: Int32, reply: consuming Reply<Int>) {
        note("lseek")
        let size = node(inode)?.bytes.count ?? 0
        if offset >= size { reply.fail(.noData) } else { reply.send(whence == 4 ? size : offset) }
    }

    func copyFileRange(
        from: InodeID, fromHandle: HandleID, fromOffset: Int, to: InodeID, toHandle: HandleID, toOffset: Int,
        count: Int, reply: consuming Reply<Int>
    ) {
        note("copyFileRange")
        guard let source = node(from), toOffset == 0 else { return reply.fail(.notSupported) }
        let bytes = Array(source.bytes.dropFirst(fromOffset).prefix(count))
        change(to) { $0.bytes = bytes }
        reply.send(bytes.count)
    }

    func opendir(_ inode: InodeID, reply: consuming Reply<OpenReply>) {
        note("opendir")
        reply.send(OpenReply(handle: inode))
    }

    func releasedir(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>) {
        note("releasedir")
        reply.send()
    }

    func fsyncdir(_ inode: InodeID, handle: HandleID, dataOnly: Bool, reply: consuming Reply<Void>) {
        note("fsyncdir")
        reply.send()
    }

    func statfs(reply: consuming Reply<FileSystemStatistics>) {
        reply.send(FileSystemStatistics(blocks: 1000, freeBlocks: 900, files: 70, freeFiles: 60))
    }

    func setxattr(_ inode: InodeID, name: String, value: [UInt8], flags: Int32, reply: consuming Reply<Void>) {
        note("setxattr", name)
        change(inode) { $0.extended[name] = value }
        reply.send()
    }

    func getxattr(_ inode: InodeID, name: String, reply: consuming Reply<[UInt8]>) {
        note("getxattr", name)
        if let value = node(inode)?.extended[name] { reply.send(value) } else { reply.fail(.noAttribute) }
    }

    func listxattr(_ inode: InodeID, reply: consuming Reply<[String]>) {
        note("listxattr")
        reply.send((node(inode)?.extended.keys).map { $0.sorted() } ?? [])
    }

    func removexattr(_ inode: InodeID, name: String, reply: consuming Reply<Void>) {
        note("removexattr", name)
        guard node(inode)?.extended[name] != nil else { return reply.fail(.noAttribute) }
        change(inode) { $0.extended[name] = nil }
        reply.send()
    }
}

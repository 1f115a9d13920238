import CFUSE3
import CloudMountFilesystem
import CloudMountVFS
import Glibc

/// One request of the kernel's, until it is answered, from whatever thread. It keeps the session alive.
final class Request: @unchecked Sendable {
    // SAFETY: everything but `watched` is constant, and libfuse lets any thread answer. `watched` belongs to whoever
    // holds the one `Reply`, which is never in two hands.
    let session: Session
    let raw: fuse_req_t
    let unique: UInt64
    let inode: InodeID
    /// Who asks.
    private let thread: Int32
    private var watched = false

    /// What writev(2) takes, less some for the head. More of them would leave the request without an answer.
    private static let mostVectors = 1000

    /// The request whose callback runs on this serving thread.
    init?(_ raw: fuse_req_t?) {
        guard let raw, let userdata = fuse_req_userdata(raw), let header = ServingThread.header else { return nil }
        session = Unmanaged<Session>.fromOpaque(userdata).takeUnretainedValue()
        self.raw = raw
        unique = header.pointee.unique
        inode = header.pointee.nodeid
        thread = Int32(truncatingIfNeeded: header.pointee.pid)
    }

    var operations: any FileOperations { session.operations }

    var caller: Caller {
        guard let context = fuse_req_ctx(raw) else { return Caller(uid: 0, gid: 0, pid: 0, umask: 0) }
        let it = context.pointee
        return Caller(uid: it.uid, gid: it.gid, pid: it.pid, umask: it.umask)
    }

    func fail(_ error: VFSError) { fuse_reply_err(raw, error.errno) }

    private func watch(_ action: @escaping @Sendable () -> Void) {
        watched = true
        session.interrupts.watch(unique, thread: thread, action)
    }

    private func finish() {
        if watched { session.interrupts.unwatch(unique) }
    }

    /// - Parameters:
    ///   - send: answers, and says what libfuse's reply function said.
    ///   - undo: called when the kernel did not take the answer, because the caller had been interrupted.
    ///   - failed: called when the operation failed.
    func reply<Value>(
        _ send: @escaping @Sendable (Request, Value) -> Int32,
        undo: (@Sendable (Request, Value) -> Void)? = nil,
        failed: (@Sendable () -> Void)? = nil
    ) -> Reply<Value> {
        Reply(onInterrupt: { self.watch($0) }) { result in
            self.finish()
            switch result {
            case .success(let value):
                if send(self, value) != 0 { undo?(self, value) }
            case .failure(let error):
                self.fail(error)
                failed?()
            }
        }
    }
}

extension Request {
    func done() -> Reply<Void> { reply { request, _ in fuse_reply_err(request.raw, 0) } }

    func entry() -> Reply<Entry> {
        reply { request, entry in
            var parameters = entry.parameters
            return fuse_reply_entry(request.raw, &parameters)
        } undo: { request, entry in
            if let inode = entry.attributes?.inode { request.operations.untold(inode) }
        }
    }

    func attributes() -> Reply<AttributeReply> {
        reply { request, value in
            var stat = value.attributes.stat
            return fuse_reply_attr(request.raw, &stat, value.validFor.timeout)
        }
    }

    func opened() -> Reply<OpenReply> {
        reply { request, value in
            var info = fuse_file_info()
            value.fill(&info)
            return fuse_reply_open(request.raw, &info)
        } undo: { request, value in
            request.operations.release(request.inode, handle: value.handle, reply: .ignored)
        }
    }

    func openedDirectory() -> Reply<OpenReply> {
        reply { request, value in
            var info = fuse_file_info()
            value.fill(&info)
            return fuse_reply_open(request.raw, &info)
        } undo: { request, value in
            request.operations.releasedir(request.inode, handle: value.handle, reply: .ignored)
        }
    }

    func created() -> Reply<CreateReply> {
        reply { request, value in
            var parameters = value.entry.parameters
            var info = fuse_file_info()
            value.open.fill(&info)
            return fuse_reply_create(request.raw, &parameters, &info)
        } undo: { request, value in
            guard let inode = value.entry.attributes?.inode else { return }
            request.operations.release(inode, handle: value.open.handle, reply: .ignored)
            request.operations.untold(inode)
        }
    }

    /// Straight from where the bytes lie.
    func read() -> Reply<ReadSlices> {
        reply { request, value in
            let slices = value.slices
            if slices.count == 1 {
                return fuse_reply_buf(
                    request.raw, slices[0].baseAddress?.assumingMemoryBound(to: CChar.self), slices[0].count)
            }
            if slices.count > Self.mostVectors {
                let joined = slices.flatMap { Array($0) }
                return joined.withUnsafeBytes {
                    fuse_reply_buf(request.raw, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count)
                }
            }
            let vectors = slices.map {
                iovec(iov_base: UnsafeMutableRawPointer(mutating: $0.baseAddress), iov_len: $0.count)
            }
            return vectors.withUnsafeBufferPointer {
                fuse_reply_iov(request.raw, $0.baseAddress, Int32($0.count))
            }
        }
    }

    func written() -> Reply<Int> { reply { request, count in fuse_reply_write(request.raw, count) } }

    func position() -> Reply<Int> { reply { request, offset in fuse_reply_lseek(request.raw, offset) } }

    func target() -> Reply<String> { reply { request, target in fuse_reply_readlink(request.raw, target) } }

    func statistics() -> Reply<FileSystemStatistics> {
        reply { request, value in
            var statistics = statvfs()
            statistics.f_bsize = UInt(value.blockSize)
            statistics.f_frsize = UInt(value.blockSize)
            statistics.f_blocks = UInt(value.blocks)
            statistics.f_bfree = UInt(value.freeBlocks)
            statistics.f_bavail = UInt(value.freeBlocks)
            statistics.f_files = UInt(value.files)
            statistics.f_ffree = UInt(value.freeFiles)
            statistics.f_favail = UInt(value.freeFiles)
            statistics.f_namemax = UInt(value.maxNameBytes)
            return fuse_reply_statfs(request.raw, &statistics)
        }
    }

    /// `size` is the room that the caller has; 0 asks for how much it needs.
    func attributeValue(size: Int) -> Reply<[UInt8]> {
        reply { request, value in request.send(attribute: value, size: size) }
    }

    func attributeNames(size: Int) -> Reply<[String]> {
        reply { request, names in
            var bytes: [UInt8] = []
            for name in names {
                bytes.append(contentsOf: name.utf8)
                bytes.append(0)
            }
            return request.send(attribute: bytes, size: size)
        }
    }

    private func send(attribute value: [UInt8], size: Int) -> Int32 {
        if size == 0 { return fuse_reply_xattr(raw, value.count) }
        if value.count > size { return fuse_reply_err(raw, ERANGE) }
        return value.withUnsafeBytes {
            fuse_reply_buf(raw, $0.baseAddress?.assumingMemoryBound(to: CChar.self), value.count)
        }
    }
}

extension Reply where Value == Void {
    /// For an operation that no one waits for.
    static var ignored: Reply<Void> { Reply { _ in } }
}

import CFUSE3
import CloudMountPlatform
import Glibc

/// What one serving thread needs: the memory that requests are read into, found again inside libfuse's callbacks.
enum ServingThread {
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key, nil)
        return key
    }()

    /// The head of the request that this thread is serving; nil on other threads.
    static var header: UnsafePointer<fuse_in_header>? {
        UnsafePointer(pthread_getspecific(key)?.assumingMemoryBound(to: fuse_in_header.self))
    }

    /// What follows the head.
    static func body<Body>(as type: Body.Type) -> UnsafePointer<Body>? {
        UnsafePointer(
            pthread_getspecific(key)?.advanced(by: MemoryLayout<fuse_in_header>.size).assumingMemoryBound(to: type))
    }

    /// More bytes than another thread is woken in less time than they are moved.
    private static let manyBytes: UInt32 = 64 << 10

    /// Whether serving this thread's request takes it a while: many bytes are moved, or the local disk gives space back.
    static var isLong: Bool {
        guard let header else { return false }
        return switch fuse_opcode(header.pointee.opcode) {
        case FUSE_WRITE: header.pointee.len > manyBytes
        case FUSE_READ: body(as: fuse_read_in.self).map { $0.pointee.size > manyBytes } ?? false
        case FUSE_OPEN: body(as: fuse_open_in.self).map { $0.pointee.flags & UInt32(O_TRUNC) != 0 } ?? false
        case FUSE_SETATTR, FUSE_FALLOCATE: true
        default: false
        }
    }

    /// Reads requests from `descriptor` and gives each to `serve` until the kernel has closed the connection.
    /// - Returns: 0 at the usual end (ENODEV), else the errno of the read that failed.
    static func run(reading descriptor: Int32, serve: (UnsafeMutableRawPointer, Int) -> Void) -> Int32 {
        let page = 4096
        let capacity = Session.maximumTransfer + page
        let memory = UnsafeMutableRawPointer.allocate(byteCount: capacity + page, alignment: page)
        defer { memory.deallocate() }
        // The bytes of a WRITE begin on a page border, which makes copying them cheaper.
        let start = memory + page - MemoryLayout<fuse_in_header>.size - MemoryLayout<fuse_write_in>.size
        pthread_setspecific(key, start)
        defer { pthread_setspecific(key, nil) }
        while true {
            let count = read(descriptor, start, capacity)
            if count >= MemoryLayout<fuse_in_header>.size {
                serve(start, count)
                continue
            }
            switch count < 0 ? errno : EIO {
            case EINTR, EAGAIN, ENOENT: continue  // ENOENT: the request was interrupted before it was read.
            case ENODEV: return 0
            case let error: return error
            }
        }
    }
}

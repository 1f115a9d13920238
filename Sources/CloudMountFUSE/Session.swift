import CFUSE3
import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Logging
import Synchronization

/// A connection with the kernel: libfuse's session over our descriptor, and the threads that serve it.
///
/// Kept alive by its threads, by the mount and by each unanswered request, so that an answer is safe however late; the
/// last of them destroys it.
final class Session: @unchecked Sendable {
    // SAFETY: `raw`, `descriptor` and `name` are set once, before the value is shared, and libfuse's session may be used from
    // any thread; `offered` and `agreed` are written by the thread that serves INIT, before `ready` is signalled.
    static let maximumTransfer = 1 << 20

    let operations: any FileOperations
    /// The kernel is to enforce POSIX ACLs.
    let acl: Bool
    /// The daemon's control socket, told to whoever asks the root for `user.cloudmount.control`.
    let control: String?
    let interrupts = Interrupts()
    let log = Logger(label: "cloudmount.fuse")
    private(set) var raw: OpaquePointer?
    private(set) var descriptor: Int32 = -1
    private var name = ""
    private var offered: UInt32 = 0
    /// The INIT flags (FUSE_ASYNC_READ, …) that hold for the connection.
    private(set) var agreed: UInt32 = 0
    private let answeredInit = Atomic(false)
    private let ready = Semaphore()
    /// Who has it reads requests, and keeps it while they take no time: the kernel wakes one thread for all of them then,
    /// where of two it would wake now this one, now that one.
    private let turn = Semaphore(value: 1)

    /// Odd while who has the turn serves a request.
    private let steps = Atomic(0)
    /// Requests that take a while, which have been handed the turn on.
    private let longBegun = Atomic(0)
    private let longEnded = Atomic(0)

    private struct State {
        var threads = 0
        /// Threads that are started when there is work for them.
        var spare = 0
        var waiters: [CheckedContinuation<Void, Never>] = []
        var atEnd: [@Sendable () -> Void] = []
    }
    private let state = Mutex(State())

    init(operations: any FileOperations, acl: Bool = false, control: String? = nil) throws(VFSError) {
        self.operations = operations
        self.acl = acl
        self.control = control
        var table = fuse_lowlevel_ops()
        table.fillConnection()
        table.fillNodes()
        table.fillFiles()
        table.fillDirectories()
        table.fillExtendedAttributes()
        let userdata = Unmanaged.passUnretained(self).toOpaque()
        raw = "cloudmount".withCString { name in
            var argument: UnsafeMutablePointer<CChar>? = UnsafeMutablePointer(mutating: name)
            return withUnsafeMutablePointer(to: &argument) { vector in
                var arguments = fuse_args(argc: 1, argv: vector, allocated: 0)
                return fuse_session_new(&arguments, &table, MemoryLayout<fuse_lowlevel_ops>.size, userdata)
            }
        }
        if raw == nil { throw VFSError(.io, "libfuse refuses a session") }
    }

    deinit {
        if let raw { fuse_session_destroy(raw) }
    }

    /// Takes over `descriptor`, open on /dev/fuse, and serves it: with one thread at first, with `threads` as soon as a
    /// request takes one a while.
    func start(descriptor: Int32, threads: Int, name: String) throws(VFSError) {
        var io = fuse_custom_io()
        io.read = { descriptor, bytes, count, _ in Glibc.read(descriptor, bytes, count) }
        io.writev = { descriptor, vectors, count, userdata in
            guard let userdata, let vectors else { return -1 }
            return Unmanaged<Session>.fromOpaque(userdata).takeUnretainedValue()
                .send(vectors, count, descriptor: descriptor)
        }
        guard fuse_session_custom_io(raw, &io, descriptor) == 0 else {
            close(descriptor)
            throw VFSError(.io, "libfuse refuses the descriptor of /dev/fuse")
        }
        self.descriptor = descriptor
        self.name = name
        state.withLock { state in
            state.threads = 1
            state.spare = threads - 1
        }
        guard NamedThread.start("cm-fuse-" + name, { self.serve() }) else {
            state.withLock { ($0.threads, $0.spare) = (0, 0) }
            throw VFSError(.io, "the system refuses a thread for the mount")
        }
    }

    /// Lets another thread read the next requests.
    private func passTurn() {
        turn.signal()
        startSpareThread()
    }

    private func startSpareThread() {
        let starts = state.withLock { state in
            guard state.spare > 0, state.threads > 0 else { return false }
            state.spare -= 1
            state.threads += 1
            return true
        }
        guard starts, !NamedThread.start("cm-fuse-" + name, { self.serve() }) else { return }
        // It was for speed; a later request tries again.
        state.withLock { state in
            state.spare += 1
            state.threads -= 1
        }
    }

    /// Waits until the kernel and we have agreed on the protocol. False when that took too long.
    func waitUntilReady() -> Bool { ready.wait(seconds: 10) }

    var isClosed: Bool { state.withLock { $0.threads == 0 } }

    /// Returns when the last thread has ended.
    func waitUntilClosed() async {
        await withCheckedContinuation { continuation in
            let closed = state.withLock { state in
                if state.threads == 0 { return true }
                state.waiters.append(continuation)
                return false
            }
            if closed { continuation.resume() }
        }
    }

    /// Has `action` run when the last thread has ended.
    func atEnd(_ action: @escaping @Sendable () -> Void) {
        let closed = state.withLock { state in
            if state.threads == 0 { return true }
            state.atEnd.append(action)
            return false
        }
        if closed { action() }
    }

    // MARK: Serving

    /// Busy: nobody can read the next request before one that is being served has been.
    var pulse: ServingPulse {
        let (steps, ended) = (steps.load(ordering: .relaxed), longEnded.load(ordering: .relaxed))
        let long = longBegun.load(ordering: .relaxed) &- ended
        let threads = state.withLock { $0.spare > 0 ? .max : $0.threads }
        return ServingPulse(isBusy: steps & 1 == 1 || long > 0 && long >= threads, moves: steps &+ ended)
    }

    private func serve() {
        turn.wait()
        let error = ServingThread.run(reading: descriptor) { bytes, count in
            let isLong = ServingThread.isLong
            if isLong {
                longBegun.add(1, ordering: .relaxed)
                passTurn()
            } else {
                steps.add(1, ordering: .relaxed)
            }
            defer {
                if isLong {
                    longEnded.add(1, ordering: .relaxed)
                    turn.wait()
                } else {
                    steps.add(1, ordering: .relaxed)
                }
            }
            let header = bytes.assumingMemoryBound(to: fuse_in_header.self)
            switch header.pointee.opcode {
            case FUSE_INTERRUPT.rawValue:
                if let body = ServingThread.body(as: fuse_interrupt_in.self) {
                    interrupts.interrupt(body.pointee.unique)
                }
            case UInt32(CM_FUSE_STATX):
                statx(header.pointee)
            case FUSE_INIT.rawValue:
                note(offer: count)
                process(bytes, count)
            default:
                process(bytes, count)
            }
        }
        turn.signal()
        if error != 0 {
            log.error("the connection to the kernel broke", metadata: ["error": "\(String(cString: strerror(error)))"])
        }
        // From here on libfuse is silent about answers that no one takes.
        fuse_session_exit(raw)
        let (waiters, actions) = state.withLock { state in
            state.threads -= 1
            guard state.threads == 0 else { return ([CheckedContinuation<Void, Never>](), [@Sendable () -> Void]()) }
            defer { (state.waiters, state.atEnd) = ([], []) }
            return (state.waiters, state.atEnd)
        }
        for action in actions { action() }
        for waiter in waiters { waiter.resume() }
    }

    private func process(_ bytes: UnsafeMutableRawPointer, _ count: Int) {
        var buffer = fuse_buf()
        buffer.mem = bytes
        buffer.size = count
        fuse_session_process_buf(raw, &buffer)
    }

    private func note(offer count: Int) {
        guard count >= MemoryLayout<fuse_in_header>.size + MemoryLayout<fuse_init_in>.size,
            let body = ServingThread.body(as: fuse_init_in.self)
        else { return }
        offered = body.pointee.flags
    }

    // MARK: Answering

    private func send(_ vectors: UnsafeMutablePointer<iovec>, _ count: Int32, descriptor: Int32) -> Int {
        if answeredInit.load(ordering: .relaxed) { return writev(descriptor, vectors, count) }
        // The kernel asks nothing before it has the answer to INIT, so this is it.
        if count == 2, let body = vectors[1].iov_base, vectors[1].iov_len >= MemoryLayout<fuse_init_out>.size {
            extend(&body.assumingMemoryBound(to: fuse_init_out.self).pointee)
        }
        answeredInit.store(true, ordering: .relaxed)
        let sent = writev(descriptor, vectors, count)
        let error = errno
        ready.signal()
        errno = error
        return sent
    }

    /// Agrees to what libfuse 3.14 does not know of, or forgets to pass on.
    private func extend(_ answer: inout fuse_init_out) {
        // Without it the kernel asks for one name of a directory at a time, and each waits for the one before.
        answer.flags |= offered & UInt32(CM_INIT_PARALLEL_DIROPS)
        if offered & UInt32(CM_INIT_HANDLE_KILLPRIV_V2) != 0 {
            // We drop set-id bits when told to, so the kernel need not ask for security.capability before each write.
            answer.flags |= UInt32(CM_INIT_HANDLE_KILLPRIV_V2)
            answer.flags &= ~UInt32(CM_INIT_HANDLE_KILLPRIV)
        }
        agreed = answer.flags & offered
    }

    /// Answers a request that libfuse does not know.
    func send<Body>(_ body: Body, to unique: UInt64) {
        withUnsafeBytes(of: body) { body in
            var header = fuse_out_header(
                len: UInt32(MemoryLayout<fuse_out_header>.size + body.count), error: 0, unique: unique)
            withUnsafeMutableBytes(of: &header) { header in
                var vectors = (
                    iovec(iov_base: header.baseAddress, iov_len: header.count),
                    iovec(iov_base: UnsafeMutableRawPointer(mutating: body.baseAddress), iov_len: body.count)
                )
                withUnsafeMutableBytes(of: &vectors) {
                    _ = writev(descriptor, $0.assumingMemoryBound(to: iovec.self).baseAddress, 2)
                }
            }
        }
    }

    func send(error: Int32, to unique: UInt64) {
        var header = fuse_out_header(len: UInt32(MemoryLayout<fuse_out_header>.size), error: -error, unique: unique)
        _ = write(descriptor, &header, MemoryLayout<fuse_out_header>.size)
    }
}

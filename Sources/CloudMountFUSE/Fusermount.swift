import CFUSE3
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// The set-user-id program of libfuse, which mounts and unmounts for those who may not.
enum Fusermount {
    /// - Returns: the descriptor of /dev/fuse that the program opened.
    static func mount(_ path: String, options: [String]) throws(VFSError) -> Int32 {
        let (ours, theirs) = try sockets()
        defer { close(ours) }
        let result = try run(["-o", options.joined(separator: ","), "--", path], socket: theirs)
        guard result.status == 0 else { throw refusal(path, result.said) }
        let descriptor = cm_receive_descriptor(ours)
        guard descriptor >= 0 else { throw VFSError(.io, "\(path): fusermount3 gave no descriptor") }
        return descriptor
    }

    static func unmount(_ path: String, lazy: Bool) throws(VFSError) {
        let result = try run([lazy ? "-uz" : "-u", "--", path], socket: nil)
        guard result.status == 0 else { throw refusal(path, result.said) }
    }

    private static func refusal(_ path: String, _ said: String) -> VFSError {
        let code: VFSError.Code =
            said.contains(String(cString: strerror(EBUSY)))
            ? .busy
            : said.contains(String(cString: strerror(EPERM))) || said.contains(String(cString: strerror(EACCES)))
                || said.contains("allow_other") ? .permissionDenied : .io
        return VFSError(code, said.isEmpty ? "\(path): fusermount3 failed" : "\(path): \(said)")
    }

    /// Takes over `socket`.
    /// - Parameter limit: nanoseconds that the program may take.
    /// - Throws: `timedOut`, and the program is killed.
    static func run(
        _ arguments: [String], socket: Int32?, program: String = "fusermount3", limit: UInt64 = 20_000_000_000
    ) throws(VFSError) -> (status: Int32, said: String) {
        defer { if let socket { close(socket) } }
        let (output, input) = try sockets()
        defer { close(output) }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, input, 2)
        posix_spawn_file_actions_adddup2(&actions, 2, 1)
        // Messages in English, to tell one refusal from another.
        var environment = ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C"]
        if let socket {
            posix_spawn_file_actions_adddup2(&actions, socket, 3)
            environment.append("_FUSE_COMMFD=3")
        }

        // Which signals we block or ignore is not the program's business.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var process = pid_t()
        let code = withVector([program] + arguments) { arguments in
            withVector(environment) { posix_spawnp(&process, program, &actions, &attributes, arguments, $0) }
        }
        close(input)
        guard code == 0 else { throw VFSError(systemCall: code, program) }

        let deadline = SystemClock.monotonic() + limit
        let said = read(output, until: deadline)
        guard let status = ChildProcess.wait(for: process, until: said.isWhole ? deadline : 0) else {
            ChildProcess.end(process)
            throw VFSError(.timedOut, "\(program) does not end")
        }
        return (status, String(decoding: said.bytes, as: UTF8.self))
    }

    /// What comes until the other end is closed, without newlines at its end.
    private static func read(_ output: Int32, until deadline: UInt64) -> (bytes: [UInt8], isWhole: Bool) {
        var said: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1024)
        while true {
            let now = SystemClock.monotonic()
            var polled = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard now < deadline else { return (said, false) }
            if poll(&polled, 1, Int32(truncatingIfNeeded: (deadline - now) / 1_000_000 + 1)) <= 0 { continue }
            let count = Glibc.read(output, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            said.append(contentsOf: chunk[..<count])
        }
        while said.last == UInt8(ascii: "\n") { said.removeLast() }
        return (said, true)
    }

    private static func sockets() throws(VFSError) -> (Int32, Int32) {
        var pair: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            throw VFSError(systemCall: errno, "a socket for fusermount3")
        }
        return (pair[0], pair[1])
    }

    /// Gives `body` a C vector of `strings` that ends in nil.
    private static func withVector(
        _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Int32
    ) -> Int32 {
        var vector: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) } + [nil]
        defer { for string in vector { free(string) } }
        return vector.withUnsafeMutableBufferPointer { $0.baseAddress.map(body) ?? EINVAL }
    }
}

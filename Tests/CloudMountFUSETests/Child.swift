import CloudMountPlatform
import Glibc
import Testing

/// Child processes that use the mounts: the process that serves a mount must never wait for it.
enum Child {
    struct Outcome: Sendable {
        /// Exit status; 128 plus the signal that ended it.
        var status: Int32
        /// Standard output and error.
        var output: String
    }

    static let pool = BlockingPool(name: "cm-test", width: 8)

    /// Runs `command` in a shell; killed with SIGKILL after `limit` seconds.
    static func shell(_ command: String, limit: Int = 30) async throws -> Outcome {
        try await pool.run { () throws(Failure) in try wait(start(["/bin/sh", "-c", command]), limit: limit) }
    }

    static func python(_ program: String, limit: Int = 30) async throws -> Outcome {
        try await pool.run { () throws(Failure) in try wait(start(["python3", "-c", program]), limit: limit) }
    }

    struct Failure: Error { var what: String }

    struct Running: Sendable {
        var process: pid_t
        var output: Int32
    }

    static func start(_ arguments: [String]) throws(Failure) -> Running {
        var pair: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            throw Failure(what: "socketpair")
        }
        defer { close(pair[1]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, pair[1], 1)
        posix_spawn_file_actions_adddup2(&actions, pair[1], 2)
        // Whoever started us may have had us ignore or block signals.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
        var vector: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { for word in vector { free(word) } }
        let path = getenv("PATH").map { "PATH=" + String(cString: $0) } ?? "PATH=/usr/bin:/bin"
        var environment: [UnsafeMutablePointer<CChar>?] = [strdup(path), strdup("LC_ALL=C.UTF-8"), nil]
        defer { for word in environment { free(word) } }
        var process = pid_t()
        let code = vector.withUnsafeMutableBufferPointer { vector in
            environment.withUnsafeMutableBufferPointer { environment -> Int32 in
                guard let words = vector.baseAddress, let variables = environment.baseAddress else { return EINVAL }
                return posix_spawnp(&process, arguments[0], &actions, &attributes, words, variables)
            }
        }
        guard code == 0 else {
            close(pair[0])
            throw Failure(what: "\(arguments[0]): \(String(cString: strerror(code)))")
        }
        return Running(process: process, output: pair[0])
    }

    /// Waits for the end of the process and of its output.
    static func wait(_ child: Running, limit: Int = 30) throws(Failure) -> Outcome {
        defer { close(child.output) }
        var output: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        var waiting = pollfd(fd: child.output, events: Int16(POLLIN), revents: 0)
        while true {
            if poll(&waiting, 1, Int32(limit * 1000)) == 0 {
                kill(child.process, SIGKILL)
                var status: Int32 = 0
                waitpid(child.process, &status, 0)
                throw Failure(what: "no end after \(limit) s; so far: \(String(decoding: output, as: UTF8.self))")
            }
            let count = read(child.output, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            output.append(contentsOf: chunk[..<count])
        }
        var status: Int32 = 0
        while waitpid(child.process, &status, 0) < 0 && errno == EINTR {}
        let signal = status & 0x7F
        return Outcome(
            status: signal == 0 ? (status >> 8) & 0xFF : 128 + signal, output: String(decoding: output, as: UTF8.self))
    }
}

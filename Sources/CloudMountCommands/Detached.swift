import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// `cloudmount mount --detach`: has the daemon of a file serve the mounts, starts one where none runs, and waits until each mount was
/// tried.
struct Detached {
    private let choice: MountChoice
    private let configuration: Configuration
    private let command: MountCommand
    private let client: ControlClient

    init(_ choice: MountChoice, _ configuration: Configuration, _ command: MountCommand) {
        self.choice = choice
        self.configuration = configuration
        self.command = command
        client = ControlClient(
            socket: configuration.controlSocket, owners: ConfigurationFile.trusted)
    }

    private var names: [String] { configuration.mounts.map(\.name) }

    func run() throws {
        // Of several that start at the same time one becomes the daemon, and serves what the others want.
        for _ in 0..<5 {
            if command.helper ? try isServed() : try haveServed() {
                return try report(try MountReadiness(client, names).waitUntilTried())
            }
            let log = try Log(command.logFile ?? configuration.cache.directory + "/daemon.log")
            let child = try start(log)
            var status: Int32 = 0
            let tried = try MountReadiness(client, names).waitUntilTried {
                let ended = waitpid(child, &status, WNOHANG)
                // Where children are not waited for, nobody tells.
                return ended == child || ended < 0 && errno == ECHILD
            }
            if let tried { return try report(tried) }
            if (try? client.ask(ControlRequest(.status))) != nil { continue }
            TerminalLog.write(CloudMount.printable(log.news))
            let code = status & 0x7f == 0 ? (status >> 8) & 0xff : ExitStatus.failure.rawValue
            throw ExitCode(code == 0 ? ExitStatus.failure.rawValue : code)
        }
        throw ExitStatus.failure.error("no daemon stays up")
    }

    /// A daemon of the one mount is left alone where it serves, and waited for where it ends.
    private func isServed() throws -> Bool {
        let deadline = ContinuousClock.now + .seconds(60)
        while let mounts = try MountReadiness(client, names).look() {
            if mounts.allSatisfy({ $0.state == .mounted }) { return true }
            if .now >= deadline { throw ExitStatus.failure.error(MountReadiness.text(mounts)) }
            usleep(50_000)
        }
        return false
    }

    /// A running daemon is asked for each.
    /// - Returns: false when there is none.
    private func haveServed() throws -> Bool {
        for name in names {
            let answer: ControlAnswer
            do throws(VFSError) { answer = try client.ask(ControlRequest(.mount, target: name)) } catch {
                if error.code == .notFound { return false }
                throw ExitStatus.failure.error(error.message)
            }
            // One that failed is reported with the others.
            guard answer.reload != nil else {
                throw (answer.isWrongConfiguration == true ? ExitStatus.configuration : .failure).error(
                    answer.error ?? "refused")
            }
        }
        return true
    }

    private func report(_ mounts: [StatusReport.Mount]?) throws {
        for mount in mounts ?? [] {
            guard let wanted = configuration.mounts.first(where: { $0.name == mount.name }) else { continue }
            if wanted.path != mount.path {
                throw ExitStatus.failure.error(
                    "another mount has the name '\(mount.name)': it is \(mount.bucket) at \(mount.path); choose another by --name"
                )
            }
        }
        let failed = (mounts ?? []).filter { $0.state != .mounted }
        if mounts != nil, failed.isEmpty { return }
        // mount(8) says that it failed: then it must not come up later.
        if command.helper {
            for mount in failed { _ = try? client.ask(ControlRequest(.unmount, target: mount.name, lazy: true)) }
        }
        throw ExitStatus.failure.error(MountReadiness.text(failed))
    }

    /// The same program in the background, in a session of its own; for mount(8) it makes one when the mount was tried.
    private func start(_ log: Log) throws -> pid_t {
        let words = command.backgroundWords(configuration)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0)
        posix_spawn_file_actions_adddup2(&actions, 0, 1)
        posix_spawn_file_actions_adddup2(&actions, log.descriptor.raw, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // POSIX_SPAWN_SETSID
        if !command.helper { posix_spawnattr_setflags(&attributes, 0x80) }
        var arguments: [UnsafeMutablePointer<CChar>?] = (["cloudmount"] + words).map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var child: pid_t = 0
        let error = posix_spawn(&child, "/proc/self/exe", &actions, &attributes, &arguments, environ)
        guard error == 0 else {
            throw ExitStatus.failure.error("no process can be started: \(String(cString: strerror(error)))")
        }
        return child
    }
}

/// The file that a daemon in the background writes its log to.
private struct Log {
    let path: String
    let descriptor: Descriptor
    private let start: off_t

    init(_ path: String) throws {
        self.path = path
        if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex {
            Self.makeFolders(String(path[..<slash]))
        }
        let raw = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else {
            throw ExitStatus.failure.error("the log \(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        descriptor = Descriptor(owning: raw)
        start = max(0, lseek(raw, 0, SEEK_END))
    }

    /// What has come to it since, 64 KiB at most.
    var news: String {
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = pread(descriptor.raw, &bytes, bytes.count, start)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    private static func makeFolders(_ path: String) {
        guard access(path, F_OK) != 0 else { return }
        if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex {
            makeFolders(String(path[..<slash]))
        }
        mkdir(path, 0o700)
    }
}

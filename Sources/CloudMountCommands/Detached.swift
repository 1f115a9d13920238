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
            try checkFile()
            if command.helper ? try isServed() : try haveServed() {
                return try report(try MountReadiness(client, names).waitUntilTried())
            }
            let log = try command.logFile.map { try Log($0) } ?? Log(inCache: configuration.cache.directory)
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

    /// Why what is there is not what is wanted.
    static func difference(_ wanted: Configuration.Mount, _ there: StatusReport.Mount) -> String? {
        func isSame(_ one: String, _ other: String) -> Bool { one.utf8.elementsEqual(other.utf8) }
        let context = wanted.context
        guard isSame(wanted.path, there.path), isSame(wanted.provider.name, there.provider),
            isSame(context.bucket, there.bucket), isSame(context.prefix, there.prefix)
        else {
            let place = "\(there.bucket)\(there.prefix.isEmpty ? "" : "/\(there.prefix)")"
            return "another mount has the name '\(there.name)': it is \(there.provider) \(place) at \(there.path)"
                + (there.pending.map { " (\($0))" } ?? "") + "; unmount it, or choose another name by --name"
        }
        if let endpoint = wanted.expectedEndpoint, let other = there.endpoint?.name, !isSame(endpoint, other) {
            return "'\(there.name)' is mounted already, of \(other) and not of \(endpoint); unmount it first"
        }
        if there.state == .mounted, wanted.readOnly, !there.readOnly {
            return
                "'\(there.name)' is mounted already, and can be written to; mount -o remount,ro \(there.path), or unmount it first"
        }
        return nil
    }

    /// A daemon that listens where ours does may serve another file, in which the names mean other mounts.
    private func checkFile() throws {
        guard choice.isOfFile, let report = try? client.ask(ControlRequest(.status)).status else { return }
        let ours = ConfigurationFile.resolved(configuration.file)
        if !ours.utf8.elementsEqual(report.configuration.utf8) {
            throw ExitStatus.failure.error(
                "the daemon that runs serves the mounts of \(report.configuration), not those of \(ours)")
        }
    }

    private func report(_ mounts: [StatusReport.Mount]?) throws {
        for mount in mounts ?? [] {
            guard let wanted = configuration.mounts.first(where: { $0.name == mount.name }) else { continue }
            if let other = Self.difference(wanted, mount) { throw ExitStatus.failure.error(other) }
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
        OwnDescriptors.keepFromPrograms()
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

    /// - Parameter path: as somebody has named it, who may have made its folder for many.
    init(_ path: String) throws {
        self.path = path
        if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex {
            try? makeDirectories(String(path[..<slash]))
        }
        let raw = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else {
            throw ExitStatus.failure.error("the log \(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        descriptor = Descriptor(owning: raw)
        start = max(0, lseek(raw, 0, SEEK_END))
    }

    /// In a folder that nobody else has prepared, a file that is this user's alone.
    init(inCache directory: String) throws {
        path = directory + "/daemon.log"
        do throws(VFSError) {
            try makeDirectories(directory)
            try requireOwn(directory)
            descriptor = try openOwnFile(path)
        } catch { throw ExitStatus.failure.error(error.message) }
        guard fcntl(descriptor.raw, F_SETFL, O_APPEND) == 0 else {
            throw ExitStatus.failure.error("the log \(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        start = max(0, lseek(descriptor.raw, 0, SEEK_END))
    }

    /// What has come to it since, 64 KiB at most.
    var news: String {
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = pread(descriptor.raw, &bytes, bytes.count, start)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }
}

private enum OwnDescriptors {
    /// A lock or a pipe of the caller would live as long as the mount: no program that is started from now on has more than the three usual ones.
    static func keepFromPrograms() {
        guard let folder = opendir("/proc/self/fd") else { return }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let descriptor = Int32(name), descriptor > 2 { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        }
    }
}

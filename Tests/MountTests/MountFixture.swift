import Foundation
import Glibc
import TestServers
import Testing

/// The built `cloudmount`, serving one `mounts.yaml` in a child process, and child processes that use the mount.
///
/// The test process itself never touches a file of the mount. Everything is taken down when `use` ends, whatever happened.
actor MountFixture {
    /// Scratch space beside the mounts; `mounts.yaml`, the cache and the stores of folders are in it.
    nonisolated let folder: String
    nonisolated let mounts: [(options: MountOptions, bucket: Bucket)]
    private let owner: TemporaryFolder
    private let user: UInt32?
    private(set) var daemon: ChildProcess?
    private var duties: [Reaper.Duty] = []
    /// A daemon that ends otherwise than with 0 at the end of the test is a failure, unless the test says so.
    private var mayEndBadly = false

    /// Mounts one new bucket of `store`, runs `body`, and takes all down.
    static func use(
        _ store: Store, _ settings: String = "", _ body: (MountFixture) async throws -> Void
    ) async throws {
        let owner = try TemporaryFolder("mount")
        let bucket = try await Bucket.make(in: store, below: owner.path)
        try await use([(MountOptions(settings: settings), bucket)], in: owner, body)
    }

    /// Mounts these, runs `body`, and takes all down.
    /// - Parameters:
    ///   - user: who runs the daemon and the commands; nil: who runs the test.
    ///   - expecting: the mounts to wait for; nil: all.
    static func use(
        _ mounts: [(options: MountOptions, bucket: Bucket)], in owner: TemporaryFolder, user: UInt32? = nil,
        expecting: [String]? = nil, _ body: (MountFixture) async throws -> Void
    ) async throws {
        let fixture = MountFixture(mounts, in: owner, user: user)
        do {
            try await fixture.configure()
            try await fixture.start(expecting: expecting)
            try await body(fixture)
        } catch {
            await fixture.takeDown(quietly: true)
            throw TestSupportError("\(error)\n--- what the daemon said ---\n\(await fixture.log.suffix(4_000))")
        }
        await fixture.takeDown(quietly: false)
    }

    private init(_ mounts: [(options: MountOptions, bucket: Bucket)], in owner: TemporaryFolder, user: UInt32?) {
        self.mounts = mounts
        self.owner = owner
        self.user = user
        folder = owner.path
    }

    nonisolated var path: String { path(of: mounts[0].options.name) }
    nonisolated var bucket: Bucket { mounts[0].bucket }
    nonisolated func path(of name: String) -> String { "\(folder)/mnt/\(name)" }
    nonisolated var configuration: String { "\(folder)/mounts.yaml" }
    nonisolated static var binary: String {
        inheritedEnvironment()["CLOUDMOUNT_BINARY"] ?? "\(Tools.packageRoot)/.build/debug/cloudmount"
    }

    var log: String { daemon?.transcript ?? "" }

    // MARK: Up and down

    private func configure() async throws {
        try await ChildProcess.output(of: ["mkdir", "\(folder)/mnt"])
        try write(mounts)
        if let user { try await ChildProcess.output(of: ["chown", "-R", "\(user):\(user)", folder]) }
    }

    /// Writes the file anew, as an editor does: beside it, and over it.
    nonisolated func write(_ mounts: [(options: MountOptions, bucket: Bucket)], memory: String = "128MiB") throws {
        var credentials = ""
        var entries = ""
        for (options, bucket) in mounts {
            let lines = bucket.yaml(mount: options, path: options.path ?? path(of: options.name))
            credentials += lines.credentials
            entries += lines.mount
        }
        try writeFile(
            configuration + ".new",
            """
            version: 1
            cache: { directory: \(folder)/cache, keep_free: 64MiB }
            memory: \(memory)
            control: { socket: \(folder)/control.sock }
            log: { level: info }
            \(credentials.isEmpty ? "" : "credentials:\n\(credentials)")
            mounts:
            \(entries)
            """)
        guard rename(configuration + ".new", configuration) == 0 else { throw TestSupportError("no rename") }
    }

    private func asUser(_ arguments: [String]) -> [String] {
        guard let user else { return arguments }
        return ["setpriv", "--reuid=\(user)", "--regid=\(user)", "--clear-groups", "--inh-caps=-all", "--"] + arguments
    }

    /// Starts the daemon and waits until the kernel shows the mounts.
    func start(expecting: [String]? = nil) async throws {
        let names = expecting ?? mounts.map(\.options.name)
        duties = mounts.map { Reaper.atEnd("umount -l \(path(of: $0.options.name).shellQuoted)") }
        let daemon = try ChildProcess(
            asUser([Self.binary, "mount", "-f", configuration]),
            // A proxy that nobody is behind: servers of this machine are not reached through it. Nor is this machine's own role any test's.
            environment: ["HOME": folder, "http_proxy": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true"],
            directory: "/")
        self.daemon = daemon
        let deadline = ContinuousClock.now + .seconds(30)
        while !names.allSatisfy({ isMounted($0) }) {
            if let exit = daemon.poll() { throw TestSupportError("the daemon ended at once: \(exit)") }
            guard ContinuousClock.now < deadline else { throw TestSupportError("not mounted within 30 s") }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// What the kernel says; asks no file system.
    nonisolated func isMounted(_ name: String) -> Bool {
        readFile("/proc/self/mountinfo").contains(" \(path(of: name)) ")
    }

    /// Ends the daemon as an administrator does, and checks that it drained.
    func stop() async throws {
        guard let daemon else { return }
        daemon.signal(SIGTERM)
        let exit = await daemon.wait(seconds: 60)
        if exit != .code(0) { throw TestSupportError("the daemon ended with \(exit)") }
        for mount in mounts where isMounted(mount.options.name) {
            throw TestSupportError("\(mount.options.name) is still mounted")
        }
        self.daemon = nil
        withdrawDuties()
    }

    /// Down in order and up again, with nothing left in the kernel's caches.
    func remount() async throws {
        try await stop()
        try await start()
    }

    /// The test ends the daemon in its own way.
    func expectBadEnd() { mayEndBadly = true }

    private func takeDown(quietly: Bool) async {
        if let daemon {
            daemon.signal(SIGTERM)
            let exit = await daemon.waitOnly(seconds: 20)
            if exit != .code(0) && !mayEndBadly && !quietly {
                Issue.record(
                    "the daemon ended with \(exit.map(\.description) ?? "nothing in 20 s"): \(daemon.transcript)")
            }
            if exit == nil { daemon.stop() }
        }
        for mount in mounts where isMounted(mount.options.name) {
            if !mayEndBadly && !quietly { Issue.record("\(mount.options.name) is still mounted") }
            _ = try? await ChildProcess.run(["umount", "-l", path(of: mount.options.name)], seconds: 10)
        }
        withdrawDuties()
    }

    private func withdrawDuties() {
        for duty in duties { Reaper.withdraw(duty) }
        duties = []
    }

    // MARK: Using it

    /// Runs a bash script in the mount. `$W` is the scratch folder.
    /// - Throws: with all that was printed, when any command in it fails.
    @discardableResult
    func shell(_ script: String, on name: String? = nil, seconds: Double = 120) async throws -> String {
        let script = "set -euo pipefail; cd \(path(of: name ?? mounts[0].options.name).shellQuoted); \(script)"
        return try await ChildProcess.output(
            of: asUser(["bash", "-c", script]), environment: Self.commandEnvironment(folder), seconds: seconds)
    }

    /// Runs a Python script in the mount, with `os`, `sys` and `errno` imported and `W` as the scratch folder.
    @discardableResult
    func python(_ script: String, on name: String? = nil, seconds: Double = 120) async throws -> String {
        let process = try pythonProcess(script, directory: path(of: name ?? mounts[0].options.name))
        let exit = await process.wait(seconds: seconds)
        guard exit == .code(0) else { throw TestSupportError("\(exit): \(process.transcript)") }
        return process.output
    }

    func pythonProcess(_ script: String, directory: String) throws -> ChildProcess {
        let preamble = """
            import errno, os, sys, time, mmap, fcntl, hashlib, random, threading, stat
            W = os.environ["W"]
            os.chdir(os.environ["HERE"])
            def fails(code, call, *arguments, **named):
                try: call(*arguments, **named)
                except OSError as error:
                    assert error.errno == code, f"{error} instead of {errno.errorcode[code]}"
                    return
                raise AssertionError(f"success instead of {errno.errorcode[code]}")
            def write(path, data, mode="wb"):
                with open(path, mode) as file: file.write(data)
            def read(path):
                with open(path, "rb") as file: return file.read()

            """
        let file = "\(folder)/script-\(UInt32.random(in: 0...UInt32.max)).py"
        try writeFile(file, preamble + script, mode: 0o644)
        var environment = Self.commandEnvironment(folder)
        environment["HERE"] = directory
        // Begun elsewhere: what stands for `python3` (pyenv) may look for files of its own where it begins.
        return try ChildProcess(asUser(["python3", file]), environment: environment, directory: "/")
    }

    private static func commandEnvironment(_ folder: String) -> [String: String] {
        [
            "W": folder, "LC_ALL": "C.UTF-8", "HOME": folder, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
            "PYTHONDONTWRITEBYTECODE": "1",
        ]
    }

    /// Runs another `cloudmount` command on the same configuration.
    func command(_ words: String...) async throws -> ChildProcess.Result {
        try await ChildProcess.run(
            asUser([Self.binary, words[0], "-f", configuration] + words.dropFirst()), environment: ["HOME": folder],
            seconds: 60)
    }

    /// How often the first mount has called each verb of its store.
    func requests() async throws -> [String: Int] {
        let result = try await command("status", "--json")
        let report = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
        let mount = (report?["mounts"] as? [[String: Any]])?.first
        var calls: [String: Int] = [:]
        guard let entries = mount?["requests"] as? [Any] else {
            throw TestSupportError("status tells no requests: \(result)")
        }
        // None at all of a mount that has asked its store for nothing yet.
        for case let entry as [String: Any] in entries {
            if let verb = entry["verb"] as? String { calls[verb] = entry["calls"] as? Int }
        }
        return calls
    }

    /// `cloudmount status --json`, of which `path` names a member (`mounts.0.state`).
    func status(_ path: String) async throws -> String {
        let result = try await command("status", "--json")
        guard result.output.hasPrefix("{") else { throw TestSupportError("status: \(result)") }
        var value: Any? = try JSONSerialization.jsonObject(with: Data(result.output.utf8))
        for part in path.split(separator: ".").map(String.init) {
            if let index = Int(part) {
                let list = value as? [Any] ?? []
                value = index < list.count ? list[index] : nil
            } else {
                value = (value as? [String: Any])?[part]
            }
        }
        return value.map { "\($0)" } ?? "nil"
    }
}

public import CloudMountConfig
import CloudMountLayers
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Logging
import Synchronization

/// What `cloudmount doctor` looks at: this machine, and each store with the credentials that it has. Each finding comes with its cure.
public struct Checkup: Sendable {
    public struct Finding: Codable, Sendable, Equatable {
        public enum State: String, Codable, Sendable { case good, note, fault }

        public var state: State
        /// `this machine`, or the mount's name.
        public var of: String
        public var what: String
        public var cure: String?
    }

    private let configuration: Configuration
    private let tell: @Sendable (Finding) -> Void

    /// - Parameter tell: takes each finding as it comes.
    public init(_ configuration: Configuration, tell: @escaping @Sendable (Finding) -> Void) {
        self.configuration = configuration
        self.tell = tell
    }

    private func good(_ of: String, _ what: String) { tell(Finding(state: .good, of: of, what: what)) }
    private func note(_ of: String, _ what: String, _ cure: String? = nil) {
        tell(Finding(state: .note, of: of, what: what, cure: cure))
    }
    private func fault(_ of: String, _ what: String, _ cure: String) {
        tell(Finding(state: .fault, of: of, what: what, cure: cure))
    }

    // MARK: This machine

    /// Blocks on local disk for a moment.
    public func machine() {
        let here = "this machine"
        var system = utsname()
        uname(&system)
        let release = withUnsafeBytes(of: &system.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let numbers = release.split(separator: ".").prefix(2).compactMap { Int($0.prefix { $0.isNumber }) }
        if numbers.count == 2, (numbers[0], numbers[1]) < (5, 4) {
            note(here, "Linux \(release)", "CloudMount is tested on 5.10 and later")
        } else {
            good(here, "Linux \(release)")
        }
        let raw = open("/dev/fuse", O_RDWR | O_CLOEXEC)
        if raw >= 0 {
            close(raw)
            good(here, "/dev/fuse can be opened")
        } else {
            let reason = String(cString: strerror(errno))
            fault(
                here, "/dev/fuse: \(reason)",
                "modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN")
        }
        if geteuid() != 0 { fusermount(here) }
        var files = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
        let most = Int(clamping: files.rlim_max)
        let needed = max(1024, configuration.mounts.count * 64)
        if most < needed {
            note(here, "at most \(most) files may be open", "ulimit -Hn \(needed), or LimitNOFILE= of systemd")
        } else {
            good(here, "at most \(most) files may be open")
        }
        disk(here)
    }

    private func fusermount(_ here: String) {
        let folders = (ProcessEnvironment.variables["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
        var status = stat()
        guard
            let path = folders.map({ (folder: Substring) -> String in "\(folder)/fusermount3" }).first(where: {
                stat($0, &status) == 0
            })
        else {
            return fault(here, "there is no fusermount3", "apt install fuse3")
        }
        if status.st_mode & S_ISUID == 0 {
            fault(here, "\(path) is not set-uid root", "chmod u+s \(path), or mount as root")
        } else {
            good(here, path)
        }
        guard configuration.mounts.contains(where: \.allowOther) else { return }
        let isAllowed = Self.text(of: "/etc/fuse.conf").split(separator: "\n").contains {
            $0.drop { $0 == " " }.hasPrefix("user_allow_other")
        }
        if isAllowed {
            good(here, "/etc/fuse.conf has user_allow_other")
        } else {
            fault(
                here, "allow_other is not allowed to users", "add the line user_allow_other to /etc/fuse.conf")
        }
    }

    /// 64 KiB at most; empty when it cannot be read.
    private static func text(of path: String) -> String {
        let raw = open(path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return "" }
        defer { close(raw) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(raw, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    private func disk(_ here: String) {
        let folder = configuration.cache.directory
        var place = folder
        var status = stat()
        while stat(place, &status) != 0, place.utf8.count > 1, let slash = place.utf8.lastIndex(of: UInt8(ascii: "/")) {
            place = slash == place.startIndex ? "/" : String(place[..<slash])
        }
        guard access(place, W_OK) == 0 else {
            return fault(
                here, "the cache's folder \(folder) cannot be written: \(String(cString: strerror(errno)))",
                "make it writable for uid \(geteuid()), or set cache.directory")
        }
        if isInMemory(directory: place) {
            note(
                here, "the cache's folder \(folder) is in memory",
                "set cache.directory to a disk: with write: back it has the only copy of what waits")
        }
        var room = statvfs()
        guard statvfs(place, &room) == 0 else { return }
        let (bytes, isMore) = room.f_bavail.multipliedReportingOverflow(by: room.f_frsize)
        let free = isMore ? Int.max : Int(clamping: bytes)
        let text = "\(Units.rounded(bytes: free)) are free for the cache in \(folder)"
        if free <= configuration.cache.keepFree {
            fault(
                here, "\(text), and \(Units.rounded(bytes: configuration.cache.keepFree)) are to stay free",
                "make room, or lower cache.keep_free")
        } else {
            good(here, text)
        }
    }

    // MARK: Stores

    /// Ends early when its task is cancelled, but not before it has taken away again what it has written.
    public func stores() async {
        for mount in configuration.mounts where !Task.isCancelled { await store(mount) }
    }

    private func store(_ mount: Configuration.Mount) async {
        let name = mount.name
        let endpoint: String
        do throws(VFSError) {
            endpoint = try mount.provider.endpoint(mount.context)
        } catch {
            return fault(name, error.description, Self.cure(error, mount))
        }
        if let start = endpoint.firstRange(of: "://") {
            await resolve(Self.host(endpoint[start.upperBound...]), name)
        }
        let known = mount.provider.credentials.filter { !$0.secret }.compactMap { option in
            mount.context.credentials.string(option.name).map { value in
                "\(option.name) \(option.isCommand ? Configuration.shown(command: value) : value)"
            }
        }
        good(
            name,
            known.isEmpty ? "credentials: the environment's or the store's own, or none" : known.joined(separator: ", ")
        )
        // Whoever is told to stop takes away first what it has put into the store.
        let result = await within(.seconds(90), grace: .seconds(30)) { await Self.prepared(mount) }
        if Task.isCancelled { return }
        let provider: any ObjectProvider
        switch result {
        case nil: return fault(name, "the store does not answer within 90 s", "see whether \(endpoint) can be reached")
        case .failure(let error): return fault(name, error.description, Self.cure(error, mount))
        case .success(let prepared): provider = prepared
        }
        await probe(provider, mount)
    }

    /// - Parameter rest: of a URL, behind its slashes.
    static func host(_ rest: Substring) -> String {
        // An address of IPv6 stands in brackets.
        if rest.first == "[" { return String(rest.dropFirst().prefix { $0 != "]" }) }
        return String(rest.prefix { $0 != "/" && $0 != ":" && $0 != " " })
    }

    private func resolve(_ host: String, _ name: String) async {
        let start = ContinuousClock.now
        let error = await BlockingPool.shared.run("names") { () -> Int32 in
            var found: UnsafeMutablePointer<addrinfo>?
            defer { if let found { freeaddrinfo(found) } }
            return getaddrinfo(host, nil, nil, &found)
        }
        let time = Self.milliseconds(.now - start)
        if error == 0 {
            good(name, "\(host) has an address (\(time))")
        } else {
            fault(name, "\(host): \(String(cString: gai_strerror(error)))", "check the name and /etc/resolv.conf")
        }
    }

    private static func prepared(_ mount: Configuration.Mount) async -> Result<any ObjectProvider, VFSError> {
        do throws(VFSError) {
            var silent = Logger(label: "cloudmount.doctor")
            silent.logLevel = .critical
            var settings = LayerSettings(
                prefix: ObjectKey(mount.context.prefix),
                endpoint: EndpointLoad("doctor \(mount.name)", logger: silent), logger: silent)
            settings.retry.maxAttempts = 2
            var context = mount.context
            // A daemon that is just starting probes under the mount's name, and must not meet our probes.
            context.mountName += " doctor"
            let provider = Layers.stack(try mount.provider.make(context), settings: settings).provider
            try await provider.prepare(writable: !mount.readOnly)
            return .success(provider)
        } catch {
            return .failure(error)
        }
    }

    /// List, and with a key of our own that goes again: write, look, read, delete.
    private func probe(_ provider: any ObjectProvider, _ mount: Configuration.Mount) async {
        let name = mount.name
        /// - Parameter grace: how long it is waited for when it is to end early.
        @Sendable func attempt<Value: Sendable>(
            _ what: String, grace: Duration = .zero, _ work: @escaping @Sendable () async throws(VFSError) -> Value
        ) async -> Value? {
            let start = ContinuousClock.now
            let result = await within(.seconds(60), grace: grace) { () -> Result<Value, VFSError> in
                do throws(VFSError) { return .success(try await work()) } catch { return .failure(error) }
            }
            switch result {
            case nil where Task.isCancelled: break
            case .failure where Task.isCancelled: break
            case nil: fault(name, "\(what): no answer within 60 s", "see whether the store is busy")
            case .failure(let error): fault(name, "\(what): \(error.description)", Self.cure(error, mount))
            case .success(let value):
                good(name, "\(what) is allowed (\(Self.milliseconds(.now - start)))")
                return value
            }
            return nil
        }
        _ = await attempt("list") { () async throws(VFSError) in
            try await provider.list(ListRequest(prefix: "", delimited: true, limit: 1))
        }
        if mount.readOnly { return note(name, "read_only: nothing is written to try it") }
        if let reason = provider.capabilities.readOnlyReason {
            return note(
                name, "it will be mounted read-only: \(reason)", "give the credentials leave to write, or set read_only"
            )
        }
        let key = ObjectKey(".cloudmount-doctor-\(String(UInt64.random(in: 0 ... .max), radix: 36))")
        let bytes = Array("cloudmount doctor".utf8)
        if Task.isCancelled { return }
        let refusal = Mutex<VFSError?>(nil)
        let written: Bool? = await attempt("write", grace: .seconds(10)) { () async throws(VFSError) in
            do throws(VFSError) { _ = try await provider.put(PutRequest(key: key), from: BytesSource(bytes)) } catch {
                refusal.withLock { $0 = error }
                throw error
            }
            return true
        }
        // One that was refused has left nothing; of one without an answer nobody knows.
        if written == nil, let error = refusal.withLock({ $0 }), !error.leavesOpen { return }
        if written != nil, !Task.isCancelled {
            if let seen = await attempt("look", { () async throws(VFSError) in try await provider.head(key) }) {
                compareClocks(seen.stored, name)
            }
            let sink = Collected()
            if !Task.isCancelled,
                await attempt(
                    "read", { () async throws(VFSError) in try await provider.read(ReadRequest(key: key), into: sink) })
                    != nil, sink.bytes.withLock({ $0 }) != bytes
            {
                fault(name, "what was read is not what was written", "do not use this store")
            }
        }
        // In a task of its own, which nobody cancels.
        let left: Void? = await Task {
            await attempt("delete") { () async throws(VFSError) in
                let failures = try await provider.delete([DeleteRequest(key)])
                if let failure = failures.first, failure.error.code != .notFound { throw failure.error }
            }
        }.value
        if left == nil { note(name, "\(mount.context.prefix)\(key) may be left", "delete it by hand") }
    }

    private func compareClocks(_ stored: Timestamp, _ name: String) {
        let away = stored.seconds - SystemClock.now().seconds
        if abs(away) > 60 {
            fault(
                name, "the store's clock is \(away) s from this machine's",
                "have the clock set by NTP (timedatectl set-ntp true)")
        } else {
            good(name, "the clocks agree to \(abs(away)) s")
        }
    }

    private final class Collected: ByteSink {
        let bytes = Mutex<[UInt8]>([])
        func receive(_ more: UnsafeRawBufferPointer) -> ByteSinkVerdict {
            bytes.withLock { bytes in
                guard bytes.count + more.count <= 4096 else { return .stop }
                bytes += more
                return .proceed
            }
        }
    }

    private static func milliseconds(_ time: Duration) -> String { "\(Int(time / .milliseconds(1))) ms" }

    private static func cure(_ error: VFSError, _ mount: Configuration.Mount) -> String {
        switch error.code {
        case .bucketNotFound: "create it, or correct bucket, region and endpoint of '\(mount.name)'"
        case .credentialsInvalid, .credentialsExpired:
            "check the credentials of '\(mount.name)', and that the clock is right"
        case .permissionDenied: "give the credentials of '\(mount.name)' leave for it"
        case .connectionFailed: "check host, port and certificate of the endpoint, and proxies and firewalls on the way"
        case .timedOut, .unavailable, .throttled: "try again; the store is busy or out of reach"
        case .quotaExceeded: "raise the account's cap or quota"
        default: "see what the store says"
        }
    }
}

extension VFSError {
    /// What was asked for may have been done all the same.
    fileprivate var leavesOpen: Bool {
        switch code {
        case .connectionFailed, .timedOut, .unavailable, .malformedResponse, .io, .cancelled: true
        default: false
        }
    }
}

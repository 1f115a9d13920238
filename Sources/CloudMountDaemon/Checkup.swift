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

    public func stores() async {
        for mount in configuration.mounts { await store(mount) }
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
            let host = endpoint[start.upperBound...].prefix { $0 != "/" && $0 != ":" && $0 != " " }
            await resolve(String(host), name)
        }
        let known = mount.provider.credentials.filter { !$0.secret }.compactMap { option in
            mount.context.credentials.string(option.name).map { "\(option.name) \($0)" }
        }
        good(
            name,
            known.isEmpty ? "credentials: the environment's or the store's own, or none" : known.joined(separator: ", ")
        )
        let result = await within(.seconds(90)) { await Self.prepared(mount) }
        let provider: any ObjectProvider
        switch result {
        case nil: return fault(name, "the store does not answer within 90 s", "see whether \(endpoint) can be reached")
        case .failure(let error): return fault(name, error.description, Self.cure(error, mount))
        case .success(let prepared): provider = prepared
        }
        await probe(provider, mount)
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
            let provider = Layers.stack(try mount.provider.make(mount.context), settings: settings).provider
            try await provider.prepare(writable: !mount.readOnly)
            return .success(provider)
        } catch {
            return .failure(error)
        }
    }

    /// List, and with a key of our own that goes again: write, look, read, delete.
    private func probe(_ provider: any ObjectProvider, _ mount: Configuration.Mount) async {
        let name = mount.name
        func attempt<Value: Sendable>(
            _ what: String, _ work: @escaping @Sendable () async throws(VFSError) -> Value
        ) async -> Value? {
            let start = ContinuousClock.now
            let result = await within(.seconds(60)) { () -> Result<Value, VFSError> in
                do throws(VFSError) { return .success(try await work()) } catch { return .failure(error) }
            }
            switch result {
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
        guard
            await attempt(
                "write",
                { () async throws(VFSError) in
                    try await provider.put(PutRequest(key: key), from: BytesSource(bytes))
                }) != nil
        else { return }
        if let seen = await attempt("look", { () async throws(VFSError) in try await provider.head(key) }) {
            let away = seen.stored.seconds - SystemClock.now().seconds
            if abs(away) > 60 {
                fault(
                    name, "the store's clock is \(away) s from this machine's",
                    "have the clock set by NTP (timedatectl set-ntp true)")
            } else {
                good(name, "the clocks agree to \(abs(away)) s")
            }
        }
        let sink = Collected()
        if await attempt(
            "read", { () async throws(VFSError) in try await provider.read(ReadRequest(key: key), into: sink) }) != nil,
            sink.bytes.withLock({ $0 }) != bytes
        {
            fault(name, "what was read is not what was written", "do not use this store")
        }
        let left: Void? = await attempt("delete") { () async throws(VFSError) in
            let failures = try await provider.delete([DeleteRequest(key)])
            if let failure = failures.first { throw failure.error }
        }
        if left == nil { note(name, "\(mount.context.prefix)\(key) may be left", "delete it by hand") }
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

import Glibc

/// Where things are when nobody says: by the system's habit for root, by the XDG base directories for others.
public struct UserPlaces: Sendable {
    public var environment: [String: String]
    public var uid: UInt32
    public var gid: UInt32

    /// Of the user who runs this process.
    public init(environment: [String: String]) { self.init(environment: environment, uid: geteuid(), gid: getegid()) }

    public init(environment: [String: String], uid: UInt32, gid: UInt32) {
        self.environment = environment
        self.uid = uid
        self.gid = gid
    }

    private var isRoot: Bool { uid == 0 }
    var home: String? { absolute("HOME") }

    private func absolute(_ variable: String) -> String? {
        guard let path = environment[variable], path.hasPrefix("/") else { return nil }
        return path
    }

    public var cacheDirectory: String {
        if isRoot { return "/var/cache/cloudmount" }
        if let cache = absolute("XDG_CACHE_HOME") { return cache + "/cloudmount" }
        return home.map { $0 + "/.cache/cloudmount" } ?? "/tmp/cloudmount-\(uid)/cache"
    }

    public var controlSocket: String {
        if isRoot { return "/run/cloudmount/control.sock" }
        return (absolute("XDG_RUNTIME_DIR").map { $0 + "/cloudmount" } ?? "/tmp/cloudmount-\(uid)") + "/control.sock"
    }

    /// Where the daemon of a mount without a file listens.
    public func controlSocket(ofMount name: String) -> String {
        let usual = controlSocket
        return usual.dropLast("control.sock".count) + "mount-\(name).sock"
    }

    /// Where `mounts.yaml` is looked for, first to last.
    public var configurationFiles: [String] {
        if let named = environment["CLOUDMOUNT_CONFIG"], !named.isEmpty { return [named] }
        let user = absolute("XDG_CONFIG_HOME") ?? home.map { $0 + "/.config" }
        return (user.map { [$0 + "/cloudmount/mounts.yaml"] } ?? []) + [Self.systemConfigurationFile]
    }

    public static let systemConfigurationFile = "/etc/cloudmount/mounts.yaml"

    /// The first of `configurationFiles` that exists; else the first of them, so that the error names it.
    public var configurationFile: String {
        let files = configurationFiles
        return files.first { access($0, F_OK) == 0 } ?? files[0]
    }
}

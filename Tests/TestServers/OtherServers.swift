import Glibc

/// moto: faithful on keys, listing order, `//`, folder objects and conditions; checks no signatures; all in memory.
public final class Moto: TestS3Server {
    public let port: UInt16
    public let accessKey = "AKIAMOTOTEST"
    public let secretKey = "moto-secret"
    public let process: ChildProcess

    private static let one = SharedServer { try await Moto.start() }

    /// The test process's common server; use buckets of your own, and do not stop it.
    public static func shared() async throws -> Moto { try await one.get() }

    /// A server of one's own, ready when this returns.
    public static func start() async throws -> Moto {
        let server = try Moto(port: Ports.free())
        try await server.waitUntilReady(bucket: "ready-check")
        return server
    }

    private init(port: UInt16) throws {
        self.port = port
        process = try ChildProcess([try Tools.path("moto_server"), "-H", "127.0.0.1", "-p", "\(port)"])
    }
}

/// `rclone serve s3` over a folder: ignores every precondition and answers ranges with 200, like the poorer
/// "S3-compatible" stores.
public final class RcloneServe: TestS3Server {
    public let port: UInt16
    public let accessKey = "AKIARCLONETEST"
    public let secretKey = "rclone-secret"
    public let process: ChildProcess
    /// Each bucket is a folder in here.
    public let folder: TemporaryFolder

    private static let one = SharedServer { try await RcloneServe.start() }

    /// The test process's common server; use buckets of your own, and do not stop it.
    public static func shared() async throws -> RcloneServe { try await one.get() }

    /// A server of one's own, ready when this returns.
    public static func start() async throws -> RcloneServe {
        let server = try RcloneServe(port: Ports.free())
        try await server.waitUntilReady(bucket: "ready-check")
        return server
    }

    private init(port: UInt16) throws {
        self.port = port
        let folder = try TemporaryFolder("rclone")
        self.folder = folder
        mkdir("\(folder.path)/buckets", 0o700)
        process = try ChildProcess(
            [
                try Tools.path("rclone"), "serve", "s3", "--addr", "127.0.0.1:\(port)", "--auth-key",
                "\(accessKey),\(secretKey)", "--vfs-cache-mode", "off", "\(folder.path)/buckets",
            ],
            environment: ["RCLONE_CONFIG": "/dev/null", "XDG_CACHE_HOME": "\(folder.path)/cache"])
    }
}

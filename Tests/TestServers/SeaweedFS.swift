import Glibc

/// SeaweedFS (`weed server -s3`): checks signatures, keeps data over a restart, honours conditions. A file tree underneath:
/// no `a//b`, no metadata on folder objects, and `a/b` sorts before `a-b`.
public final class SeaweedFS: TestS3Server {
    public let port: UInt16
    public let accessKey = "AKIASEAWEEDTEST"
    public let secretKey = "seaweed/secret+key=for/tests"
    /// Another key with the same rights.
    public let secondAccessKey = "AKIASEAWEEDTWO"
    public let secondSecretKey = "seaweed-second-secret"
    public let process: ChildProcess
    private let folder: TemporaryFolder
    private let sockets: TemporaryPaths

    private static let one = SharedServer { try await SeaweedFS.start() }

    /// The test process's common server; use buckets of your own, and do not stop it.
    public static func shared() async throws -> SeaweedFS { try await one.get() }

    /// A server of one's own, ready when this returns.
    /// - Throws: `TestSupportError` when it is not installed or does not come up within a minute.
    public static func start() async throws -> SeaweedFS {
        let folder = try TemporaryFolder("weed")
        let server = try SeaweedFS(folder: folder, port: Ports.free())
        try await server.waitUntilReady(bucket: "ready-check")
        return server
    }

    /// The same data and port once more, after `stop()`.
    public func restart() async throws -> SeaweedFS {
        stop()
        let server = try SeaweedFS(folder: folder, port: port)
        try await server.waitUntilReady(bucket: "ready-check")
        return server
    }

    private init(folder: TemporaryFolder, port: UInt16) throws {
        self.folder = folder
        self.port = port
        let path = folder.path
        try writeFile(
            "\(path)/s3.json",
            """
            {"identities":[{"name":"test","credentials":[{"accessKey":"\(accessKey)","secretKey":"\(secretKey)"},
            {"accessKey":"\(secondAccessKey)","secretKey":"\(secondSecretKey)"}],
            "actions":["Admin","Read","Write","List","Tagging"]}]}
            """)
        mkdir("\(path)/data", 0o700)
        var arguments = [
            try Tools.path("weed"), "-logtostderr=true", "server", "-dir=\(path)/data", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-master.telemetry=false", "-master.peers=none", "-master.volumeSizeLimitMB=4096",
            "-volume.max=400", "-s3", "-s3.port=\(port)", "-s3.config=\(path)/s3.json", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.localSocket=\(path)/s3.sock", "-filer.localSocket=\(path)/filer.sock",
        ]
        for flag in ["master.port", "volume.port", "filer.port"] { arguments.append("-\(flag)=\(try Ports.free())") }
        var sockets: [String] = []
        for flag in ["master", "volume", "filer", "s3"] {
            let port = try Ports.free()
            arguments.append("-\(flag).port.grpc=\(port)")
            // It makes them in /tmp, whatever one says, and leaves them there when it is killed.
            sockets.append("/tmp/seaweedfs-\(flag)-grpc-\(port).sock")
        }
        self.sockets = TemporaryPaths(sockets)
        process = try ChildProcess(
            arguments,
            environment: ["WEED_MASTER_VOLUME_GROWTH_COPY_1": "1", "GOMEMLIMIT": "1GiB"], directory: path)
    }
}

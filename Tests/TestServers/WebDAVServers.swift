import Glibc

/// A WebDAV server over a folder, of a user and a password.
public protocol TestWebDAVServer: TestServer {
    var port: UInt16 { get }
    var process: ChildProcess { get }
    /// What it serves.
    var root: String { get }
}

extension TestWebDAVServer {
    public var user: String { "tester" }
    public var password: String { "webdav-secret" }
    public var url: String { "http://127.0.0.1:\(port)" }

    /// The URL of a new empty folder.
    public func makeFolder(_ name: String) async throws -> String {
        try await curl(["-X", "MKCOL", "\(url)/\(name)/"])
        return "\(url)/\(name)"
    }

    /// One request by curl.
    @discardableResult
    public func curl(_ arguments: [String], input: String = "", mayFail: Bool = false) async throws -> String {
        try await ChildProcess.output(
            of: ["curl", "-sS", "-u", "\(user):\(password)"] + (mayFail ? [] : ["--fail"]) + arguments, input: input,
            seconds: 30)
    }

    func waitUntilReady() async throws {
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
            if let end = process.poll() {
                throw TestSupportError("the WebDAV server ended with \(end): \(process.transcript.suffix(2000))")
            }
            let answer = try await ChildProcess.run(
                [
                    "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-u", "\(user):\(password)", "-X",
                    "PROPFIND", "-H", "Depth: 0", "\(url)/",
                ], seconds: 10)
            if answer.output == "207" { return }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw TestSupportError("the WebDAV server does not come up: \(process.transcript.suffix(2000))")
    }
}

/// `rclone serve webdav`: obeys `Overwrite: F` and no other condition, keeps no properties, and leaves half of an upload that
/// breaks off.
public final class RcloneWebDAV: TestWebDAVServer {
    public let port: UInt16
    public let process: ChildProcess
    public var root: String { folder.path + "/files" }
    private let folder: TemporaryFolder

    private static let one = SharedServer { try await RcloneWebDAV.start() }

    /// The test process's common server; use folders of your own, and do not stop it.
    public static func shared() async throws -> RcloneWebDAV { try await one.get() }

    /// A server of one's own, ready when this returns.
    public static func start() async throws -> RcloneWebDAV {
        let server = try RcloneWebDAV(port: Ports.free())
        try await server.waitUntilReady()
        return server
    }

    private init(port: UInt16) throws {
        self.port = port
        let folder = try TemporaryFolder("rclone-webdav")
        self.folder = folder
        mkdir("\(folder.path)/files", 0o700)
        process = try ChildProcess(
            [
                try Tools.path("rclone"), "serve", "webdav", "--addr", "127.0.0.1:\(port)", "--user", "tester",
                "--pass", "webdav-secret", "--vfs-cache-mode", "off", "\(folder.path)/files",
            ],
            environment: ["RCLONE_CONFIG": "/dev/null", "XDG_CACHE_HOME": "\(folder.path)/cache"])
    }
}

/// Apache's mod_dav: obeys conditions, keeps properties, and calls its tags weak for a second. It hangs up on nobody: a
/// connection that dies just as it is asked is an error of the bare provider, for which the retry layer has the cure.
public final class ApacheWebDAV: TestWebDAVServer {
    public let port: UInt16
    public let process: ChildProcess
    public var root: String { folder.path + "/files" }
    private let folder: TemporaryFolder

    private static let one = SharedServer { try await ApacheWebDAV.start() }

    /// The test process's common server; use folders of your own, and do not stop it.
    public static func shared() async throws -> ApacheWebDAV { try await one.get() }

    /// A server of one's own, ready when this returns.
    public static func start() async throws -> ApacheWebDAV {
        let server = try ApacheWebDAV(port: Ports.free())
        try await server.waitUntilReady()
        return server
    }

    /// Apache does not serve as root: its children are the system's last user then, who owns what they write.
    private static let nobody: UInt32 = 65_534

    private init(port: UInt16) throws {
        self.port = port
        let folder = try TemporaryFolder("apache")
        self.folder = folder
        let path = folder.path
        let isRoot = geteuid() == 0
        for name in ["files", "locks"] {
            mkdir("\(path)/\(name)", 0o700)
            if isRoot { chown("\(path)/\(name)", Self.nobody, Self.nobody) }
        }
        if isRoot { chmod(path, 0o711) }
        // The password in the form of htpasswd -s.
        try writeFile("\(path)/users", "tester:{SHA}KFJeidgR7tXZRZE2LrMktrB+bB4=\n", mode: 0o644)
        let names = [
            "mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "dav", "dav_fs",
        ]
        let modules = names.map { "LoadModule \($0)_module /usr/lib/apache2/modules/mod_\($0).so" }
        let user = isRoot ? "User #\(Self.nobody)\nGroup #\(Self.nobody)" : ""
        try writeFile(
            "\(path)/httpd.conf",
            """
            ServerRoot \(path)
            PidFile \(path)/httpd.pid
            ErrorLog \(path)/error.log
            ServerName localhost
            Listen 127.0.0.1:\(port)
            KeepAliveTimeout 300
            MaxKeepAliveRequests 0
            MaxSpareThreads 400
            \(user)
            \(modules.joined(separator: "\n"))
            DavLockDB \(path)/locks/db
            DocumentRoot \(path)/files
            <Directory \(path)/files>
              Dav On
              AuthType Basic
              AuthName test
              AuthUserFile \(path)/users
              Require valid-user
            </Directory>

            """)
        process = try ChildProcess(
            [try Tools.path("apache2", also: ["/usr/sbin"]), "-f", "\(path)/httpd.conf", "-DFOREGROUND"])
    }
}

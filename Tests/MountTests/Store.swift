import Foundation
import TestServers
import Testing

/// What a mount under test is a mount of.
enum Store: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case folder, seaweedFS, moto, b2
    /// WebDAV, by rclone and by Apache.
    case rcloneDAV, apacheDAV

    /// The stores that every case runs on.
    static let everyday: [Store] = chosen([.folder, .seaweedFS, .b2])
    /// Those and WebDAV: cases that ask for bytes and names, and for no attribute that a server without properties does not keep. What is long
    /// (a gibibyte, ten thousand entries, thousands of small files) is left to the others.
    static let everywhere: [Store] = chosen([.folder, .seaweedFS, .b2, .rcloneDAV, .apacheDAV])
    /// Where files keep mode, owner, links and extended attributes: not `rclone serve webdav`, which has no properties.
    static let describing: [Store] = chosen([.folder, .seaweedFS, .b2, .apacheDAV])
    /// Where folder objects keep their metadata and keys may be anything, which is not so on SeaweedFS.
    static let faithful: [Store] = chosen([.folder, .moto, .b2])

    static let webDAV: [Store] = chosen([.rcloneDAV, .apacheDAV])

    /// For a quick look at one store: `CLOUDMOUNT_STORES=folder`.
    private static func chosen(_ stores: [Store]) -> [Store] {
        guard let names = inheritedEnvironment()["CLOUDMOUNT_STORES"] else { return stores }
        return stores.filter { names.contains($0.rawValue) }
    }

    var testDescription: String { rawValue }

    /// The common S3 server of the test process; nil for other stores.
    func server() async throws -> (any TestS3Server)? {
        switch self {
        case .folder, .b2, .rcloneDAV, .apacheDAV: nil
        case .seaweedFS: try await SeaweedFS.shared()
        case .moto: try await Moto.shared()
        }
    }

    /// The common WebDAV server of the test process; nil for other stores.
    func webDAVServer() async throws -> (any TestWebDAVServer)? {
        switch self {
        case .rcloneDAV: try await RcloneWebDAV.shared()
        case .apacheDAV: try await ApacheWebDAV.shared()
        default: nil
        }
    }
}

/// A bucket of a store, for one test.
struct Bucket: Sendable {
    let name: String
    let server: (any TestS3Server)?
    /// Where the daemon finds it: the server's own endpoint, or that of a proxy before it.
    var endpoint: String
    /// Without a server: `directory` or `memory`.
    var localProvider = "directory"
    /// Where a bucket of B2 is; nil for others.
    var b2: B2Server?
    /// Whose folder it is, by its URL; nil for others.
    var webDAV: (any TestWebDAVServer)?

    /// A new, empty one. Folders are made below `place`.
    static func make(in store: Store, below place: String) async throws -> Bucket {
        if store == .b2 {
            let server = try await B2Server.shared()
            let name = try await server.makeBucket("mount")
            return Bucket(name: name, server: nil, endpoint: server.endpoint, b2: server)
        }
        if let server = try await store.webDAVServer() {
            let name = try await server.makeFolder("mount-\(UInt32.random(in: 0...UInt32.max))")
            return Bucket(name: name, server: nil, endpoint: server.url, webDAV: server)
        }
        guard let server = try await store.server() else {
            let path = "\(place)/store-\(UInt32.random(in: 0...UInt32.max))"
            try await ChildProcess.output(of: ["mkdir", path])
            return Bucket(name: path, server: nil, endpoint: "")
        }
        return Bucket(name: try await server.makeBucket("mount"), server: server, endpoint: server.endpoint)
    }

    /// Its lines under `credentials:` and under `mounts:`.
    func yaml(mount: MountOptions, path: String) -> (credentials: String, mount: String) {
        var fields = ["name: \(mount.name)", "path: \(path.yamlQuoted)", "bucket: \(name.yamlQuoted)"]
        if let server {
            fields += [
                "provider: s3", "endpoint: \(endpoint)", "region: \(server.region)", "path_style: true",
                "credentials: key-\(mount.name)",
            ]
        } else if b2 != nil {
            fields += ["provider: b2", "realm: \(endpoint)", "credentials: key-\(mount.name)"]
        } else if webDAV != nil {
            fields += ["provider: webdav", "credentials: key-\(mount.name)"]
        } else {
            fields.append("provider: \(localProvider)")
        }
        if !mount.settings.isEmpty { fields.append(mount.settings) }
        var credentials = ""
        if let server {
            let secret = (mount.secret ?? server.secretKey).yamlQuoted
            let id = mount.accessKey ?? server.accessKey
            credentials = "provider: s3, access_key_id: \(id), secret_access_key: \(secret)"
            if let profile = mount.profile { credentials = "provider: s3, profile: \(profile)" }
        } else if let key = b2?.masterKey {
            let secret = (mount.secret ?? key.applicationKey).yamlQuoted
            credentials = "provider: b2, key_id: \(mount.accessKey ?? key.keyID), application_key: \(secret)"
        }
        if let webDAV {
            let secret = (mount.secret ?? webDAV.password).yamlQuoted
            credentials = "provider: webdav, username: \(mount.accessKey ?? webDAV.user), password: \(secret)"
        }
        if !credentials.isEmpty { credentials = "  key-\(mount.name): { \(credentials) }\n" }
        return (credentials, "  - { \(fields.joined(separator: ", ")) }\n")
    }

    /// All keys, in the store's own order, seen without CloudMount.
    func keys() async throws -> [String] {
        // An object of this name stands for an empty folder of B2.
        try await files().filter { b2 == nil || !$0.hasSuffix("/.bzEmpty") }
    }

    /// What other programs show of the bucket.
    func files() async throws -> [String] {
        guard let remote else {
            let text = try await ChildProcess.output(of: [
                "find", path, "-mindepth", "1", "-name", ".cloudmount", "-prune", "-o", "-name", ".DAV", "-prune", "-o",
                "-type", "f", "-printf",
                "%P\\n",
            ])
            return text.split(separator: "\n").map(String.init).sorted()
        }
        let text = try await rclone(["lsf", "-R", "--files-only", "t:\(name)"], remote)
        return text.split(separator: "\n").map(String.init).sorted()
    }

    /// The bytes of an object as text, read without CloudMount.
    func content(_ key: String) async throws -> String {
        if let webDAV { return try await webDAV.curl([url(of: key)]) }
        guard let remote else { return try await ChildProcess.output(of: ["cat", "\(name)/\(key)"]) }
        return try await rclone(["cat", "t:\(name)/\(key)"], remote)
    }

    /// Stores an object without CloudMount.
    func put(_ key: String, _ text: String) async throws {
        if let webDAV {
            for folder in key.split(separator: "/").dropLast().indices.map({ index in
                key.split(separator: "/")[...index].joined(separator: "/")
            }) {
                try await webDAV.curl(["-X", "MKCOL", url(of: folder + "/")], mayFail: true)
            }
            try await webDAV.curl(["-T", "-", url(of: key)], input: text)
            return
        }
        guard let remote else {
            let script = "mkdir -p \"$(dirname \"$1\")\"; cat > \"$1.new\"; mv \"$1.new\" \"$1\""
            try await ChildProcess.output(of: ["bash", "-c", script, "-", "\(name)/\(key)"], input: text)
            return
        }
        try await rclone(["rcat", "t:\(name)/\(key)"], remote, input: text)
    }

    func delete(_ key: String) async throws {
        if let webDAV {
            try await webDAV.curl(["-X", "DELETE", url(of: key)])
            return
        }
        guard let remote else {
            try await ChildProcess.output(of: ["rm", "\(name)/\(key)"])
            return
        }
        try await rclone(["deletefile", "t:\(name)/\(key)"], remote)
    }

    /// Of a WebDAV server.
    private func url(of key: String) -> String {
        let escaped = key.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) ?? key
        return "\(name)/\(escaped)"
    }

    /// Of a store that is a folder of this machine.
    var path: String { webDAV.map { "\($0.root)/\(name.split(separator: "/").last ?? "")" } ?? name }

    /// The environment in which rclone knows the store as `t:`; nil for a folder.
    var remote: [String: String]? { server?.rcloneRemote(named: "t") ?? b2?.rcloneRemote(named: "t") }

    @discardableResult
    private func rclone(
        _ arguments: [String], _ remote: [String: String], input: String = ""
    ) async throws -> String {
        try await ChildProcess.output(of: [try Tools.path("rclone")] + arguments, environment: remote, input: input)
    }
}

struct MountOptions: Sendable {
    var name = "m"
    /// More settings of the mount, as YAML's flow style has them.
    var settings = ""
    /// In place of the right ones.
    var accessKey: String?
    var secret: String?
    /// A section of the shared files below the fixture's folder, in place of keys.
    var profile: String?
    /// Where it is mounted; nil: where the fixture has it.
    var path: String?
}

extension String {
    var yamlQuoted: String {
        "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }
}

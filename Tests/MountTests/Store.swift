import TestServers
import Testing

/// What a mount under test is a mount of.
enum Store: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case folder, seaweedFS, moto

    /// The stores that every case runs on.
    static let everyday: [Store] = chosen([.folder, .seaweedFS])
    /// Where folder objects keep their metadata and keys may be anything, which is not so on SeaweedFS.
    static let faithful: [Store] = chosen([.folder, .moto])

    /// For a quick look at one store: `CLOUDMOUNT_STORES=folder`.
    private static func chosen(_ stores: [Store]) -> [Store] {
        guard let names = inheritedEnvironment()["CLOUDMOUNT_STORES"] else { return stores }
        return stores.filter { names.contains($0.rawValue) }
    }

    var testDescription: String { rawValue }

    /// The common server of the test process; nil for a folder.
    func server() async throws -> (any TestS3Server)? {
        switch self {
        case .folder: nil
        case .seaweedFS: try await SeaweedFS.shared()
        case .moto: try await Moto.shared()
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

    /// A new, empty one. Folders are made below `place`.
    static func make(in store: Store, below place: String) async throws -> Bucket {
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
        } else {
            fields.append("provider: \(localProvider)")
        }
        if !mount.settings.isEmpty { fields.append(mount.settings) }
        let credentials = server.map {
            let secret = (mount.secret ?? $0.secretKey).yamlQuoted
            return
                "  key-\(mount.name): { provider: s3, access_key_id: \(mount.accessKey ?? $0.accessKey), secret_access_key: \(secret) }\n"
        }
        return (credentials ?? "", "  - { \(fields.joined(separator: ", ")) }\n")
    }

    /// All keys, in the store's own order, seen without CloudMount.
    func keys() async throws -> [String] {
        guard let server else {
            let text = try await ChildProcess.output(of: [
                "find", name, "-mindepth", "1", "-name", ".cloudmount", "-prune", "-o", "-type", "f", "-printf",
                "%P\\n",
            ])
            return text.split(separator: "\n").map(String.init).sorted()
        }
        let text = try await rclone(["lsf", "-R", "--files-only", "t:\(name)"], server)
        return text.split(separator: "\n").map(String.init).sorted()
    }

    /// The bytes of an object as text, read without CloudMount.
    func content(_ key: String) async throws -> String {
        guard let server else { return try await ChildProcess.output(of: ["cat", "\(name)/\(key)"]) }
        return try await rclone(["cat", "t:\(name)/\(key)"], server)
    }

    /// Stores an object without CloudMount.
    func put(_ key: String, _ text: String) async throws {
        guard let server else {
            let script = "mkdir -p \"$(dirname \"$1\")\"; cat > \"$1.new\"; mv \"$1.new\" \"$1\""
            try await ChildProcess.output(of: ["bash", "-c", script, "-", "\(name)/\(key)"], input: text)
            return
        }
        try await rclone(["rcat", "t:\(name)/\(key)"], server, input: text)
    }

    func delete(_ key: String) async throws {
        guard let server else {
            try await ChildProcess.output(of: ["rm", "\(name)/\(key)"])
            return
        }
        try await rclone(["deletefile", "t:\(name)/\(key)"], server)
    }

    @discardableResult
    private func rclone(_ arguments: [String], _ server: any TestS3Server, input: String = "") async throws -> String {
        try await ChildProcess.output(
            of: [try Tools.path("rclone")] + arguments, environment: server.rcloneRemote(named: "t"), input: input)
    }
}

struct MountOptions: Sendable {
    var name = "m"
    /// More settings of the mount, as YAML's flow style has them.
    var settings = ""
    /// In place of the right ones.
    var accessKey: String?
    var secret: String?
    /// Where it is mounted; nil: where the fixture has it.
    var path: String?
}

extension String {
    var yamlQuoted: String {
        "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }
}

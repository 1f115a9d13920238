import CloudMountVFS
import Testing

@testable import CloudMountConfig

@Suite("The example at the top of the repository")
struct ExampleTests {
    private func example() throws -> [UInt8] {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        return try SmallFile(path: root + "/mounts.yaml", limit: Configuration.maxFileSize).bytes
    }

    private static let b2 = ProviderDescriptor(
        name: "b2", summary: "another store", bucketMeaning: "bucket name",
        options: [
            OptionDescriptor("realm", .url, "where to log in"),
            OptionDescriptor("delete", .choice(["hide", "permanent"]), "what unlink does"),
            OptionDescriptor("sse", .choice(["SSE-B2", "SSE-C"]), "encryption"),
        ],
        credentials: [
            OptionDescriptor("key_id", .string, "who"),
            OptionDescriptor("application_key", .string, "proof", secret: true),
        ],
        make: { _ throws(VFSError) in throw VFSError(.notSupported, "a fixture") })

    private static let webdav = ProviderDescriptor(
        name: "webdav", summary: "a folder of a server", bucketMeaning: "its URL", options: [],
        credentials: [
            OptionDescriptor("username", .string, "who"),
            OptionDescriptor("password", .string, "proof", secret: true),
        ],
        make: { _ throws(VFSError) in throw VFSError(.notSupported, "a fixture") })

    @Test("it is right as it stands, without a warning even where everyone can read it")
    func valid() throws {
        let configuration = try Configuration.parse(
            example(), file: "mounts.yaml", mode: 0o644, providers: Fixtures.providers + [Self.b2, Self.webdav],
            places: UserPlaces(environment: [:], uid: 0, gid: 0))
        #expect(configuration.warnings == [])
        #expect(configuration.mounts.map(\.name) == ["photos", "lab", "backups", "documents", "cloud", "inbox"])
        #expect(configuration.mounts.map(\.provider.name) == ["s3", "s3", "b2", "b2", "webdav", "directory"])
        let policies = configuration.mounts.map(\.policy)
        for (number, policy) in policies.enumerated() {
            #expect(!policies[..<number].contains(policy), "each has a policy of its own")
        }
        #expect(configuration.controlSocket == "/tmp/cloudmount-demo/control.sock")
    }

    @Test("it names every key that there is")
    func complete() throws {
        let text = String(decoding: try example(), as: UTF8.self)
        let grammar = Grammar(providers: [])
        let sections = [
            grammar.root, Grammar.cache, Grammar.control, Grammar.log, Grammar.defaults, Grammar.policy, grammar.mount,
        ]
        for setting in sections.flatMap(\.settings) where !setting.isLater {
            #expect(text.contains("\(setting.name):"), "\(setting.name)")
        }
    }
}

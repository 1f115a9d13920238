import CloudMountVFS
import Testing

@testable import CloudMountConfig

@Suite("The example at the top of the repository")
struct ExampleTests {
    private func example() throws -> [UInt8] {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        return try SmallFile(path: root + "/mounts.yaml", limit: Configuration.maxFileSize).bytes
    }

    @Test("it is right as it stands, without a warning even where everyone can read it")
    func valid() throws {
        let configuration = try Configuration.parse(
            example(), file: "mounts.yaml", mode: 0o644, providers: Fixtures.providers,
            places: UserPlaces(environment: [:], uid: 0, gid: 0))
        #expect(configuration.warnings == [])
        #expect(configuration.mounts.map(\.name) == ["photos", "lab", "inbox"])
        #expect(configuration.mounts.map(\.provider.name) == ["s3", "s3", "directory"])
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

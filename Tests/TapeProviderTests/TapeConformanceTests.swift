import CloudMountVFS
import ProviderConformance
import TapeProvider
import TestServers
import Testing

@Suite("The example of a provider") struct TapeConformanceTests {
    static let library = Result { try TapeLibrary() }
    static let subject = Subject(
        deviations: [KnownDeviation("the store's time of an object is about now", "the scripted library has no clock")],
        missingBucket: { try provider(reel: "two") },
        wrongCredentials: { try provider(token: "wrong") }
    ) { try provider() }

    private static func provider(reel: String = "one", token: String = "open") throws -> any ObjectProvider {
        let context = ProviderContext(
            mountName: "tape", bucket: reel, options: OptionValues(["url": .string(try library.get().url)]),
            credentials: OptionValues(["token": .string(token)]))
        return try TapeProvider.descriptor.make(context)
    }

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}

@Suite("A program with one more provider") struct TapeProgramTests {
    @Test("knows it beside the others, and checks its mounts")
    func program() async throws {
        let folder = try TemporaryFolder("tape")
        let file = folder.path + "/mounts.yaml"
        try writeFile(
            file,
            """
            version: 1
            mounts:
              - { name: reel, path: /tmp/reel, provider: tape, bucket: one, url: "http://tapes.example.com" }
              - { name: other, path: /tmp/other, provider: memory, bucket: any }
            """)
        let binary = "\(Tools.packageRoot)/.build/debug/tape-program"
        let known = try await ChildProcess.output(of: [binary, "providers"])
        #expect(known.contains("tape: ") && known.contains("s3: "))
        let checked = try await ChildProcess.output(of: [binary, "check", "-f", file])
        #expect(checked.contains("provider: tape"))
    }
}

import CloudMountLayers
import CloudMountVFS
import ProviderConformance
import TestServers
import Testing
import WebDAVProvider

extension Subject {
    /// The WebDAV provider, as it is mounted, over a new folder of a server.
    fileprivate convenience init(
        webdav server: @escaping @Sendable () async throws -> any TestWebDAVServer, deviations: [KnownDeviation]
    ) {
        @Sendable func provider(_ url: String, password: String? = nil) async throws -> any ObjectProvider {
            let server = try await server()
            let context = ProviderContext(
                mountName: "conformance", bucket: url,
                credentials: OptionValues([
                    "username": .string(server.user), "password": .string(password ?? server.password),
                ]))
            return RetryLayer(try WebDAVProvider.descriptor.make(context))
        }
        self.init(
            deviations: deviations,
            missingBucket: { try await provider(server().url + "/missing") },
            wrongCredentials: { try await provider(server().url, password: "wrong") },
            remove: { try await server().curl(["-X", "DELETE", server().url + "/conformance/"]) },
            start: { try await provider(server().makeFolder("conformance")) })
    }
}

private let replacing = KnownDeviation(
    "bytes are never mixed while an object is overwritten", "MOVE removes what it overwrites first: 404 for a moment",
    isIntermittent: true)

@Suite("The WebDAV provider on rclone serve webdav") struct RcloneWebDAVConformanceTests {
    private static let forms = "names are looked up whatever form of Unicode they have"

    static let subject = Subject(
        webdav: { try await RcloneWebDAV.shared() },
        deviations: [
            KnownDeviation("keys that differ only in unicode composition", forms),
            KnownDeviation("delete of many odd keys at once", forms),
            replacing,
        ])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}

@Suite("The WebDAV provider on Apache") struct ApacheWebDAVConformanceTests {
    static let subject = Subject(webdav: { try await ApacheWebDAV.shared() }, deviations: [replacing])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}

@Suite("A folder that a conformance run shares") struct SharedWebDAVTests {
    @Test("holds afterwards what it held before, without a folder more")
    func shared() async throws {
        let server = try await ApacheWebDAV.shared()
        let folder = try await server.makeFolder("shared")
        try await server.curl(["-T", "-", "\(folder)/foreign"], input: "x")
        let context = ProviderContext(
            mountName: "shared", bucket: folder,
            credentials: OptionValues(["username": .string(server.user), "password": .string(server.password)]))
        let provider = RetryLayer(try WebDAVProvider.descriptor.make(context))
        let subject = Subject(isShared: true) { provider }
        let cases = try await subject.cases().filter { $0.name.contains("folder") }
        #expect(cases.count > 8)
        for test in cases { try await subject.run(test) }
        let left = try await provider.list(ListRequest(prefix: "", delimited: false)).objects
        #expect(left.map(\.key) == ["foreign"])
    }
}

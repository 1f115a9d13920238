import CloudMountPlatform
import CloudMountVFS
import Testing

@testable import B2Provider

@Suite("Options")
struct OptionTests {
    private static func problems(
        _ options: [String: OptionValue] = [:], bucket: String = "my-bucket", prefix: String = "",
        credentials: [String: OptionValue] = ["key_id": .string("id"), "application_key": .string("k")]
    ) -> [OptionProblem] {
        B2Options.problems(
            ProviderContext(
                mountName: "m", bucket: bucket, prefix: prefix, options: OptionValues(options),
                credentials: OptionValues(credentials)))
    }

    @Test(
        "A bucket's name",
        arguments: [
            ("my-bucket", true), ("MyBucket1", true), ("short", false), ("b2-mine", false), ("my_bucket", false),
            (String(repeating: "b", count: 64), false), ("my.bucket", false),
        ])
    func buckets(name: String, isFine: Bool) { #expect(Self.problems(bucket: name).isEmpty == isFine) }

    @Test("Mounts share an endpoint when realm and account are the same, whichever key they have")
    func endpoints() throws {
        func endpoint(_ key: String, realm: String? = nil) throws -> String {
            var options: [String: OptionValue] = [:]
            if let realm { options["realm"] = .string(realm) }
            return try B2Provider.descriptor.endpoint(
                ProviderContext(
                    mountName: "m", bucket: key, options: OptionValues(options),
                    credentials: OptionValues(["key_id": .string(key), "application_key": .string("secret")])))
        }
        let (first, second) = ("0054d1e2f3a4b5c0000000001", "0054d1e2f3a4b5c0000000002")
        #expect(try endpoint(first) == endpoint(second))
        #expect(try endpoint(first) == endpoint("4d1e2f3a4b5c"))
        #expect(try endpoint(first) != endpoint("0054d1e2f3a4b5d0000000001"))
        #expect(try endpoint(first) != endpoint(first, realm: "http://127.0.0.1:8000"))
        #expect(try !endpoint(first).contains("secret"))
    }

    @Test(
        "A realm is https, or on this machine, or meant to be open",
        arguments: [
            ("https://api.example.com", false, true), ("http://127.0.0.1:8000", false, true),
            ("http://localhost:8000/", false, true), ("http://[::1]:8000", false, true),
            ("http://nas.lan", false, false),
            ("http://nas.lan", true, true), ("https://host/path", false, false), ("nas.lan", false, false),
        ])
    func realms(realm: String, allowsHTTP: Bool, isFine: Bool) {
        let found = Self.problems(["realm": .string(realm), "allow_http": .boolean(allowsHTTP)])
        #expect(found.isEmpty == isFine)
        if !isFine { #expect(found.map(\.option) == ["realm"]) }
    }

    @Test("What goes together is given together")
    func pairs() {
        let key = OptionValue.string(Base64.encode([UInt8](repeating: 1, count: 32)))
        let pair: [String: OptionValue] = ["key_id": .string("id"), "application_key": .string("k")]
        #expect(Self.problems(["sse": .string("SSE-C")]).map(\.option) == ["sse"])
        #expect(Self.problems(["sse": .string("SSE-C")], credentials: pair.merging(["sse_c_key": key]) { $1 }).isEmpty)
        #expect(
            Self.problems(credentials: pair.merging(["sse_c_key": .string("c2hvcnQ=")]) { $1 }).map(\.option)
                == ["sse_c_key"])
        #expect(
            Self.problems(credentials: pair.merging(["sse_c_key_id": .string("x")]) { $1 }).map(\.option)
                == ["sse_c_key_id"])
        #expect(Self.problems(credentials: ["key_id": .string("id")]).map(\.option) == ["credentials"])
        #expect(Self.problems(["ca_file": .string("/nonexistent")]).map(\.option) == ["ca_file"])
        #expect(Self.problems(prefix: "a\nb/").map(\.option) == ["prefix"])
        #expect(Self.problems(prefix: "a/b/").isEmpty)
    }

    @Test("A key comes from the configuration, else from the environment, else it is missing")
    func credentials() throws {
        let environment = ["B2_APPLICATION_KEY_ID": "env", "B2_APPLICATION_KEY": "envkey"]
        let given = OptionValues(["key_id": .string("id"), "application_key": .string("k")])
        #expect(try B2Credentials(given, environment: { environment[$0] }).keyID == "id")
        #expect(try B2Credentials(OptionValues(), environment: { environment[$0] }).key == "envkey")
        #expect(throws: VFSError.self) { try B2Credentials(OptionValues(), environment: { _ in nil }) }
    }

    @Test("Secrets are declared as such")
    func secrets() {
        let secret = B2Provider.descriptor.credentials.filter(\.secret).map(\.name)
        #expect(secret == ["application_key", "sse_c_key"])
    }
}

import B2Provider
import CloudMountLayers
import CloudMountVFS
import ProviderConformance
import TestServers
import Testing

/// The B2 provider, as a mount would have it, on a bucket of its own.
func b2Provider(
    _ server: B2Server, bucket: String, key: B2Server.Key? = nil, prefix: String = "",
    _ options: [String: OptionValue] = [:], credentials: [String: OptionValue] = [:]
) throws -> any ObjectProvider {
    let key = key ?? server.masterKey
    var values = OptionValues(options)
    values["realm"] = .string(server.endpoint)
    let context = ProviderContext(
        mountName: "conformance", bucket: bucket, prefix: prefix, options: values,
        credentials: OptionValues(
            credentials.merging(["key_id": .string(key.keyID), "application_key": .string(key.applicationKey)]) { $1 })
    )
    return RetryLayer(try B2Provider.descriptor.make(context))
}

private let deviations = [KnownDeviation("part numbers with gaps", "B2 numbers parts from 1 on, without gaps")]

extension Subject {
    fileprivate convenience init(
        b2 options: [String: OptionValue], label: String, credentials: [String: OptionValue] = [:]
    ) {
        self.init(
            deviations: deviations,
            missingBucket: {
                try await b2Provider(.shared(), bucket: "no-such-bucket", options, credentials: credentials)
            },
            wrongCredentials: {
                let server = try await B2Server.shared()
                let key = B2Server.Key(keyID: server.masterKey.keyID, applicationKey: "notTheKey")
                return try await b2Provider(
                    server, bucket: server.makeBucket(label), key: key, options, credentials: credentials)
            }
        ) {
            let server = try await B2Server.shared()
            return try await b2Provider(server, bucket: server.makeBucket(label), options, credentials: credentials)
        }
    }
}

@Suite("The B2 provider on Backblaze's simulator") struct B2ConformanceTests {
    static let subject = Subject(b2: [:], label: "conformance")

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}

/// Where every request that touches bytes carries the key to them, and metadata have less room.
@Suite("The B2 provider with a key of one's own") struct B2CustomerKeyConformanceTests {
    static let subject = Subject(
        b2: ["sse": .string("SSE-C")], label: "customer-key",
        credentials: ["sse_c_key": .string("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")])

    @Test("keeps the provider contract", arguments: try await subject.cases())
    func conforms(_ test: ConformanceCase) async throws { try await Self.subject.run(test) }
}

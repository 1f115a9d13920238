import CloudMountLayers
import CloudMountVFS
import ProviderConformance
import S3Provider
import TestServers
import Testing

/// What the probe finds on real servers, and what copies keep there.
@Suite("S3 servers and versions") struct ProvedFeatureTests {
    private enum Server: String, CaseIterable, Sendable {
        case seaweed, moto, rclone

        func started() async throws -> any TestS3Server {
            switch self {
            case .seaweed: try await SeaweedFS.shared()
            case .moto: try await Moto.shared()
            case .rclone: try await RcloneServe.shared()
            }
        }
    }

    private func provider(
        _ server: any TestS3Server, _ bucket: String, _ options: [String: OptionValue] = [:]
    ) async throws -> any ObjectProvider {
        var values = OptionValues(options)
        values["endpoint"] = .string(server.endpoint)
        values["region"] = .string(server.region)
        let context = ProviderContext(
            mountName: "versions", bucket: bucket, options: values,
            credentials: OptionValues([
                "access_key_id": .string(server.accessKey), "secret_access_key": .string(server.secretKey),
            ]))
        let provider = RetryLayer(try S3Provider.descriptor.make(context))
        try await provider.prepare(writable: true)
        return provider
    }

    @Test("The probe believes of deletes and copies what each server keeps", arguments: Server.allCases)
    private func proved(server: Server) async throws {
        let running = try await server.started()
        let capabilities = try await provider(running, running.makeBucket("proved")).capabilities
        #expect(capabilities.conditionalCreate == (server != .rclone))
        #expect(capabilities.conditionalReplace == (server == .seaweed))
        #expect(capabilities.conditionalCopy == (server == .seaweed))
        #expect(capabilities.conditionalDelete == (server == .seaweed))
    }

    @Test("Every copy keeps the storage class of its source, also where only its version is known")
    func storageClass() async throws {
        let server = try await Moto.shared()
        let bucket = try await server.makeBucket("class")
        let cold = try await provider(server, bucket, ["storage_class": .string("STANDARD_IA")])
        let stored = try await cold.put(PutRequest(key: "a"), from: BytesSource("x"))
        let plain = try await provider(server, bucket)
        let known = ObjectInfo(key: "a", size: 1, etag: stored.etag, stored: stored.stored)
        let moved = try await plain.copy(CopyRequest(source: known, destination: "b"))
        #expect(moved.storageClass == "STANDARD_IA")
        #expect(try await plain.head("b").storageClass == "STANDARD_IA")
        let changed = try await plain.copy(
            CopyRequest(source: known, destination: "a", metadata: ObjectMetadata(user: ["mode": "33188"])))
        #expect(changed.storageClass == "STANDARD_IA")
        #expect(try await plain.head("a").storageClass == "STANDARD_IA")
        #expect(
            try await plain.list(ListRequest(prefix: "", delimited: false)).objects.map(\.storageClass)
                == ["STANDARD_IA", "STANDARD_IA"])
    }

    @Test("Every copy keeps the key that its source is encrypted with")
    func encryption() async throws {
        let server = try await Moto.shared()
        let bucket = try await server.makeBucket("kms")
        let secret = try await provider(
            server, bucket, ["sse": .string("aws:kms"), "sse_kms_key_id": .string("arn:aws:kms:us-east-1:1:key/k1")])
        _ = try await secret.put(PutRequest(key: "d/a"), from: BytesSource("x"))
        let plain = try await provider(server, bucket)
        for object in try await plain.list(ListRequest(prefix: "d/", delimited: false)).objects {
            _ = try await plain.copy(CopyRequest(source: object, destination: "e/a"))
        }
        #expect(try await plain.head("e/a").encryption == "aws:kms arn:aws:kms:us-east-1:1:key/k1")
    }
}

import CloudMountLayers
import CloudMountVFS
import ProviderConformance
import S3Provider
import TestServers

extension Subject {
    /// The S3 provider, as a mount would have it, on a bucket of its own at the server that `start` gives.
    ///
    /// - Parameter checksSignatures: the server refuses a wrong secret.
    convenience init(
        s3 start: @escaping @Sendable () async throws -> any TestS3Server, checksSignatures: Bool,
        deviations: [KnownDeviation]
    ) {
        @Sendable func provider(
            _ server: any TestS3Server, bucket: String, secret: String? = nil
        ) throws -> any ObjectProvider {
            let context = ProviderContext(
                mountName: "conformance", bucket: bucket,
                options: OptionValues([
                    "endpoint": .string(server.endpoint), "region": .string(server.region),
                    "path_style": .boolean(true),
                ]),
                credentials: OptionValues([
                    "access_key_id": .string(server.accessKey),
                    "secret_access_key": .string(secret ?? server.secretKey),
                ]))
            // moto and rclone answer 500 now and then when much is asked at once: retried, as on a mount.
            var policy = RetryPolicy()
            policy.maxAttempts = 4
            return RetryLayer(try S3Provider.descriptor.make(context), policy: policy)
        }
        var wrongCredentials: (@Sendable () async throws -> any ObjectProvider)?
        if checksSignatures {
            wrongCredentials = {
                let server = try await start()
                return try await provider(server, bucket: server.makeBucket(), secret: "not the secret")
            }
        }
        self.init(
            deviations: deviations, missingBucket: { try await provider(start(), bucket: "no-such-bucket") },
            wrongCredentials: wrongCredentials
        ) {
            let server = try await start()
            return try await provider(server, bucket: server.makeBucket("conformance"))
        }
    }
}

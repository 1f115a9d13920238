import TestServers
import Testing

extension MountTests {
    @Suite("A mount with the credentials of a role", .serialized)
    struct Roles {
        @Test("Files go by a role that another profile may take on; status tells the role and its end")
        func role() async throws {
            let owner = try TemporaryFolder("mount")
            let bucket = try await Bucket.make(in: .moto, below: owner.path)
            let server = try #require(bucket.server)
            try await ChildProcess.output(of: ["mkdir", "\(owner.path)/.aws"])
            try writeFile(
                "\(owner.path)/.aws/config",
                """
                [profile base]
                aws_access_key_id = \(server.accessKey)
                aws_secret_access_key = \(server.secretKey)
                [profile worker]
                role_arn = arn:aws:iam::123456789012:role/worker
                source_profile = base
                services = here
                [services here]
                sts =
                  endpoint_url = \(server.endpoint)
                """)
            var options = MountOptions()
            options.profile = "worker"
            try await MountFixture.use([(options, bucket)], in: owner) { mount in
                try await mount.python("write('f', b'by a role'); assert read('f') == b'by a role'")
                #expect(try await bucket.content("f") == "by a role")
                #expect(
                    try await mount.status("mounts.0.credentials.source")
                        == "profile 'worker': role arn:aws:iam::123456789012:role/worker by profile 'base'")
                #expect(try await mount.status("mounts.0.credentials.state") == "valid")
                #expect(Int(try await mount.status("mounts.0.credentials.ends_at")) ?? 0 > 1_700_000_000)
                let text = try await mount.command("status").output
                #expect(text.contains("m: credentials of profile 'worker': role") && !text.contains(server.secretKey))
            }
        }

        @Test("A profile whose source does not exist ends in an error that names it, and no other identity is taken")
        func noRole() async throws {
            let owner = try TemporaryFolder("mount")
            let bucket = try await Bucket.make(in: .moto, below: owner.path)
            try await ChildProcess.output(of: ["mkdir", "\(owner.path)/.aws"])
            try writeFile(
                "\(owner.path)/.aws/config",
                """
                [default]
                aws_access_key_id = other
                aws_secret_access_key = other
                [profile worker]
                role_arn = arn:aws:iam::123456789012:role/worker
                source_profile = nobody
                """)
            var options = MountOptions()
            options.profile = "worker"
            try await MountFixture.use([(options, bucket)], in: owner, expecting: []) { mount in
                try await eventually("a reason") {
                    // It may not listen yet.
                    let reason = try? await mount.status("mounts.0.reason")
                    return reason?.contains("'nobody', the source_profile of 'worker'") ?? false
                }
            }
        }
    }
}

import TestServers
import Testing

extension MountTests {
    /// Waiting for the store by command.
    @Suite("Sync by command")
    struct SyncByCommand {
        @Test(
            "What is named is stored when the command ends, whatever links and bind mounts lead there, and nothing else is",
            arguments: [Store.folder, .seaweedFS])
        func named(store: Store) async throws {
            try await MountFixture.use(store, "cache: { write: back, write_delay: 1h }") { mount in
                let duty = Reaper.atEnd("umount -l \("\(mount.folder)/bound".shellQuoted)")
                try await mount.shell(
                    """
                    mkdir d 'd/ü e'; ln -s d link; mkdir $W/bound; mount --bind d $W/bound
                    echo 1 > d/one; echo 2 > two; echo 3 > three; echo 4 > 'd/ü e/four (deleted)'
                    """)
                func stored() async throws -> [String] {
                    try await mount.bucket.keys().filter { !$0.hasSuffix("link") && !$0.hasSuffix("/") }
                }
                func sync(_ target: String) async throws {
                    let result = try await mount.command("sync", target, "--timeout", "1m")
                    #expect(result.succeeded && result.output.isEmpty, "\(result)")
                }
                #expect(try await stored() == [])
                try await sync("\(mount.folder)/bound/ü e")
                #expect(try await stored() == ["d/ü e/four (deleted)"])
                try await sync(mount.path + "/link")
                #expect(try await stored() == ["d/one", "d/ü e/four (deleted)"])
                #expect(try await mount.bucket.content("d/one") == "1\n")
                try await mount.shell("\(MountFixture.binary) sync -f \(mount.configuration) ./two")
                #expect(try await stored() == ["d/one", "d/ü e/four (deleted)", "two"])
                try await mount.shell("umount $W/bound")
                Reaper.withdraw(duty)
                try await sync("m")
                #expect(try await stored() == ["d/one", "d/ü e/four (deleted)", "three", "two"])
                for wrong in ["n", mount.path + "/absent", mount.folder] {
                    let result = try await mount.command("sync", wrong)
                    #expect(result.exit == .code(1) && !result.errors.isEmpty, "\(result)")
                }
                #expect(try await mount.status("mounts.0.dirty_files") == "0")
            }
        }

        @Test("What cannot be stored is named with the reason, and the command fails")
        func failed() async throws {
            let owner = try TemporaryFolder("mount")
            var bucket = try await Bucket.make(in: .moto, below: owner.path)
            guard let server = bucket.server else { throw TestSupportError("no server") }
            let proxy = try FaultProxy(before: server)
            bucket.endpoint = proxy.endpoint
            let options = MountOptions(settings: "cache: { write: back, write_delay: 1h, deadline: 2s }")
            try await MountFixture.use([(options, bucket)], in: owner) { mount in
                try await mount.shell("ls; echo kept > f")
                try proxy.set(.refuse)
                let result = try await mount.command("sync", "m")
                #expect(result.exit == .code(1) && result.errors.contains("m: f (5 B) is not stored"), "\(result)")
                let json = try await mount.command("sync", "--json", "--timeout", "3s", "m")
                #expect(json.exit == .code(1) && json.output.contains(#""is_timed_out" : true"#), "\(json)")
                try proxy.set(.pass)
                #expect(try await mount.command("sync", "--timeout", "5m", "m").succeeded)
                #expect(try await mount.bucket.content("f") == "kept\n")
            }
            proxy.stop()
        }
    }

    /// Seeing changes made elsewhere, by command.
    @Suite("Refresh by command")
    struct RefreshByCommand {
        @Test(
            "What others have changed is seen at once, and nothing else is asked for",
            arguments: [Store.seaweedFS, .b2])
        func changed(store: Store) async throws {
            try await MountFixture.use(store, "cache: { metadata_ttl: 1h, negative_ttl: 1h }") { mount in
                try await mount.shell(
                    "mkdir d other; echo one > d/f; echo one > other/f; cat d/f other/f; ls -l d other")
                for folder in ["d", "other"] { try await mount.bucket.put("\(folder)/f", "longer\n") }
                try await mount.bucket.put("d/new", "new\n")
                try await mount.shell("test $(cat d/f) = one; test $(ls d) = f")
                #expect(try await mount.command("refresh", mount.path + "/d").succeeded)
                try await mount.shell("test $(cat d/f) = longer; test $(cat d/new) = new; test $(ls d | wc -l) = 2")
                try await mount.shell("test $(cat other/f) = one")
                #expect(try await mount.command("refresh", "m").succeeded)
                try await mount.shell("test $(cat other/f) = longer")
                for wrong in ["n", mount.path + "/absent", mount.folder] {
                    let result = try await mount.command("refresh", wrong)
                    #expect(result.exit == .code(1) && !result.errors.isEmpty, "\(result)")
                }
            }
        }
    }
}

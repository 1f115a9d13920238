import TestServers
import Testing

extension MountTests {
    /// What is kept of files that are never stored by themselves, by command.
    @Suite("Recover by command")
    struct RecoverByCommand {
        @Test("Bytes that lost to another version are named, copied and discarded, with the daemon and without")
        func lost() async throws {
            try await MountFixture.use(.moto, "cache: { metadata_ttl: 1h }") { mount in
                func recover(_ words: String...) async throws -> ChildProcess.Result {
                    let line = (["recover", "-f", mount.configuration] + words).map(\.shellQuoted)
                    return try await ChildProcess.run(
                        ["bash", "-c", "\(MountFixture.binary) \(line.joined(separator: " ")) < /dev/null"],
                        environment: ["HOME": mount.folder], seconds: 60)
                }
                func said(_ words: String, _ result: ChildProcess.Result, _ code: Int32 = 0) {
                    #expect(
                        result.exit == .code(code) && (result.output + result.errors).contains(words), "\(result)")
                }
                #expect(try await recover().output == "")
                for name in ["one", "two"] {
                    try await mount.bucket.put(name, String(repeating: "a", count: 100_000))
                    async let writing = mount.python(
                        """
                        fd = os.open("\(name)", os.O_RDWR); os.pwrite(fd, b"OURS", 10)
                        write(W + "/ready-\(name)", b"")
                        while not os.path.exists(W + "/go-\(name)"): time.sleep(0.02)
                        try: os.close(fd); raise AssertionError("stored")
                        except OSError: pass
                        """)
                    try await mount.waitForFile("ready-\(name)")
                    try await mount.bucket.put(name, "theirs")
                    try writeFile("\(mount.folder)/go-\(name)", "")
                    #expect(try await writing == "")
                }
                let listed = try await recover("m")
                said("m: one (97.7 KiB as written", listed)
                said("m: two (", listed)
                let copied = try await recover("m", "one", "--to", "\(mount.folder)/rescued")
                said("has 4 of 100000 bytes, at 10-13", copied)
                let rescued = try await mount.shell("wc -c < $W/rescued; head -c 14 $W/rescued | tail -c 4")
                #expect(rescued == "100000\nOURS")
                said("exists already", try await recover("m", "one", "--to", "\(mount.folder)/rescued"), 1)
                said("nobody can be asked", try await recover("m", "one", "--discard"), 2)
                said("", try await recover("m", "one", "--discard", "--yes"))
                said("nothing of the name", try await recover("m", "one", "--to", "\(mount.folder)/again"), 1)
                #expect(try await mount.status("mounts.0.failed_commits.0.path") == "two")

                try await mount.stop()
                said("m: two (", try await recover())
                said("has 4 of 100000 bytes", try await recover("m", "two", "--to", "\(mount.folder)/rescued-2"))
                said("", try await recover("m", "two", "--discard", "--yes"))
                #expect(try await recover().output == "")
                try await mount.start()
                #expect(try await mount.status("mounts.0.failed_commits.0.path") == "nil")
                #expect(try await mount.status("staging.used") == "0")
                #expect(try await mount.shell("cat one two") == "theirstheirs")
            }
        }
    }
}

extension MountFixture {
    fileprivate func waitForFile(_ name: String) async throws {
        try await eventually(name) { try await shell("test -e $W/\(name) && echo yes || true") == "yes\n" }
    }
}

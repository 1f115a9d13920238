import TestServers
import Testing

extension MountTests {
    /// What `data: disk` keeps on the local disk.
    @Suite("Kept on disk")
    struct KeptOnDisk {
        @Test(
            "What was read or written is there after a restart without a read of the store, and damage is fetched again",
            arguments: [Store.seaweedFS, .b2])
        func again(store: Store) async throws {
            try await MountFixture.use(store, "cache: { data: disk }") { mount in
                let files = [("small", 900), ("middle", 300_000), ("large", 9_000_000)]
                for (name, size) in files {
                    try await mount.python(
                        "import random; random.seed(\(size)); write('written-\(name)', random.randbytes(\(size)))")
                    try await mount.shell("cp written-\(name) $W/\(name); cat $W/\(name) > copied-\(name)")
                }
                let compare = files.map { "cmp $W/\($0.0) written-\($0.0) && cmp $W/\($0.0) copied-\($0.0)" }
                    .joined(separator: " && ")
                try await mount.remount()
                try await mount.shell(compare)
                #expect(try await mount.requests()["read"] ?? 0 == 0)
                #expect(try await mount.status("mounts.0.kept_bytes") != "0")
                try await mount.stop()
                // Every file of the store loses a bit.
                let damaged = try await ChildProcess.run(
                    ["python3", "-c", Self.damage, "\(mount.folder)/cache/versions"], seconds: 60)
                #expect(damaged.succeeded, "\(damaged)")
                try await mount.start()
                try await mount.shell(compare)
                #expect(try await mount.requests()["read"] ?? 0 > 0)
            }
        }

        private static let damage = """
            import os, sys
            found = 0
            for folder, _, names in os.walk(sys.argv[1]):
                for name in names:
                    path = folder + "/" + name
                    with open(path, "r+b") as file:
                        at = os.path.getsize(path) // 2
                        file.seek(at); bit = file.read(1)[0] ^ 4
                        file.seek(at); file.write(bytes([bit]))
                    found += 1
            assert found >= 6, found
            """

        @Test("Programs that write, rename and remove find no old bytes, with a cache that is always full")
        func crowded() async throws {
            try await MountFixture.use(
                .seaweedFS, "cache: { data: disk, size: 1MiB, write: back, write_delay: 0s }"
            ) { mount in
                try await mount.python(
                    """
                    import random
                    random.seed(1)
                    known = {}
                    for step in range(400):
                        name = f"f{random.randrange(12)}"
                        what = random.randrange(6)
                        if what < 2 or name not in known:
                            known[name] = random.randbytes(random.choice([10, 5000, 200_000, 1_500_000]))
                            write(name, known[name])
                        elif what == 2:
                            more = random.randbytes(3000)
                            with open(name, "ab") as file: file.write(more)
                            known[name] += more
                        elif what == 3:
                            other = f"f{random.randrange(12)}"
                            os.rename(name, other)
                            if other != name: known[other] = known.pop(name)
                        elif what == 4:
                            os.unlink(name); del known[name]
                        else:
                            with open(name, "rb") as file:
                                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                                assert file.read() == known[name], name
                    for name, content in known.items():
                        with open(name, "rb") as file: assert file.read() == content, name
                    """)
                try await mount.remount()
                #expect(Int(try await mount.status("mounts.0.kept_bytes")) ?? .max <= 1 << 20)
            }
        }
    }
}

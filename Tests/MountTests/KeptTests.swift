import Glibc
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

        @Test(
            "What was known of names and attributes is there after a restart without a request, and asked for again after a kill",
            arguments: [Store.seaweedFS, .b2])
        func names(store: Store) async throws {
            try await MountFixture.use(store, "cache: { extends: archive, data: disk }") { mount in
                await mount.expectBadEnd()
                try await mount.python(
                    """
                    for folder in ("a", "a/b", "c"):
                        os.mkdir(folder)
                        for index in range(40):
                            path = f"{folder}/f{index}"
                            write(path, b"x" * index)
                            os.chmod(path, 0o600 + index % 8)
                            os.utime(path, ns=(10**18 + index, 10**18 + index))
                    os.setxattr("c/f1", "user.colour", b"red")
                    os.symlink("f2", "c/link")
                    """)
                // Twice: what the first sees of folders may be about to be stored.
                let look = """
                    find . -type f -printf '%P %y %m %s %T@\\n' | sort > $W/seen
                    find . ! -type f -printf '%P %y %m %l\\n' | sort >> $W/seen
                    getfattr -d -R . 2> /dev/null | sort >> $W/seen; cat $W/seen
                    """
                try await mount.shell(look)
                try await mount.remount()
                try await mount.shell(look)
                let before = try await mount.shell(look)
                #expect(before.contains("user.colour") && before.contains("c/f39 f 607 39"))
                for _ in 0..<2 {
                    try await mount.remount()
                    let after = try await mount.shell(look)
                    #expect(Set(after.split(separator: "\n")).symmetricDifference(before.split(separator: "\n")) == [])
                    let status = try await mount.command("status", "--json").output
                    #expect(status.filter { !$0.isWhitespace }.contains(#""requests":[]"#), "\(status)")
                }
                try await mount.shell("echo more >> a/f1; rm a/f2; mv a/b d")
                await mount.daemon?.signal(SIGKILL)
                try await mount.startAfterKill()
                try await mount.shell(
                    "test ! -e a/f2; test ! -e a/b; grep -q more a/f1; test $(ls a | wc -l) = 39; test -e d/f39")
                #expect(try await mount.requests()["list"] ?? 0 > 0)
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

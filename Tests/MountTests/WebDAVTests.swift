import TestServers
import Testing

/// What is peculiar to stores with real folders, and to those that keep no attributes.
extension MountTests {
    @Suite("WebDAV")
    struct WebDAV {
        @Test(
            "A tree is copied in, moved, listed and removed, and the server holds what the mount shows",
            arguments: Store.webDAV)
        func tree(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    """
                    for number in range(60):
                        os.makedirs(f"t/d{number % 6}/e", exist_ok=True)
                        write(f"t/d{number % 6}/e/file {number}", b"x" * number)
                    os.makedirs("t/empty/inside")
                    """)
                try await mount.python(
                    """
                    os.rename("t", "moved")
                    assert sorted(os.listdir("moved")) == ["d0", "d1", "d2", "d3", "d4", "d5", "empty"]
                    assert os.listdir("moved/empty") == ["inside"]
                    assert read("moved/d3/e/file 9") == b"x" * 9
                    fails(errno.ENOENT, os.stat, "t"); os.mkdir("t"); assert os.listdir("t") == []; os.rmdir("t")
                    """)
                let keys = try await mount.bucket.keys()
                #expect(keys.count == 60 && keys.allSatisfy { $0.hasPrefix("moved/d") })
                try await mount.remount()
                try await mount.shell("test $(find moved -type f | wc -l) = 60 && test -d moved/empty/inside")
                try await mount.shell("rm -r moved && test -z \"$(ls -A)\"")
                #expect(try await mount.bucket.keys() == [])
            }
        }

        @Test("Attributes are kept, or refused: never taken and lost", arguments: Store.webDAV)
        func attributes(store: Store) async throws {
            let isKept = store == .apacheDAV
            try await MountFixture.use(store) { mount in
                try await mount.python("write('f', b'1'); os.mkdir('d'); os.chmod('f', os.stat('f').st_mode & 0o7777)")
                if isKept {
                    try await mount.python(
                        """
                        os.chmod("f", 0o640); os.utime("f", (1_600_000_000, 1_600_000_001)); os.symlink("f", "link")
                        os.setxattr("f", "user.a", b"b"); os.mkfifo("pipe")
                        """)
                } else {
                    try await mount.python(
                        """
                        fails(errno.EPERM, os.chmod, "f", 0o640); fails(errno.EPERM, os.symlink, "f", "link")
                        fails(errno.EOPNOTSUPP, os.setxattr, "f", "user.a", b"b"); fails(errno.EPERM, os.mkfifo, "pipe")
                        fails(errno.EPERM, os.chown, "f", 12345, -1); os.utime("f", (1_600_000_000, 1_600_000_001))
                        assert sorted(os.listdir(".")) == ["d", "f"]
                        """)
                }
                try await mount.python(
                    """
                    fails(errno.EPERM, os.chmod, "d", 0o700); fails(errno.EOPNOTSUPP, os.setxattr, "d", "user.a", b"b")
                    """)
                try await mount.remount()
                try await mount.python(
                    isKept
                        ? """
                        s = os.stat("f"); assert s.st_mode & 0o777 == 0o640 and s.st_mtime == 1_600_000_001
                        assert os.readlink("link") == "f" and os.getxattr("f", "user.a") == b"b"
                        assert stat.S_ISFIFO(os.stat("pipe").st_mode)
                        """
                        : "assert sorted(os.listdir('.')) == ['d', 'f'] and read('f') == b'1'")
            }
        }

        @Test(
            "What others put, replace and remove is seen, and nothing of theirs is destroyed", arguments: Store.webDAV)
        func others(store: Store) async throws {
            try await MountFixture.use(store, "cache: { metadata_ttl: 0s, negative_ttl: 0s }") { mount in
                let bucket = mount.bucket
                try await mount.python("write('f', b'ours'); os.makedirs('d/e'); write('d/e/x', b'1')")
                try await bucket.put("f", "theirs")
                try await bucket.put("d/theirs", "t")
                try await mount.python(
                    """
                    assert read("f") == b"theirs" and read("d/theirs") == b"t"
                    fails(errno.ENOTEMPTY, os.rmdir, "d"); fails(errno.EEXIST, os.mkdir, "d")
                    """)
                // A folder goes, and a file comes in its place.
                try await bucket.delete("d/e/")
                try await bucket.put("d/e", "now a file")
                try await mount.python(
                    "assert read('d/e') == b'now a file'; os.remove('d/e'); os.remove('d/theirs'); os.rmdir('d')")
                #expect(try await bucket.keys() == ["f"])
            }
        }
    }
}

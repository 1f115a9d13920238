import Foundation
import TestServers
import Testing

extension MountTests {
    /// A mount whose store is gone.
    @Suite("Without a store")
    struct WithoutStore {
        private static let settings =
            "cache: { offline: serve, write: back, write_delay: 0s, data: disk, metadata_ttl: 1s, negative_ttl: 1s, "
            + "deadline: 10s }"

        private static func behindProxy(_ body: (MountFixture, FaultProxy) async throws -> Void) async throws {
            let owner = try TemporaryFolder("mount")
            var bucket = try await Bucket.make(in: .moto, below: owner.path)
            guard let server = bucket.server else { throw TestSupportError("no server") }
            let proxy = try FaultProxy(before: server)
            bucket.endpoint = proxy.endpoint
            try await MountFixture.use([(MountOptions(settings: settings), bucket)], in: owner) { mount in
                try await body(mount, proxy)
            }
            proxy.stop()
        }

        private static func wait(_ mount: MountFixture, _ name: String) async throws {
            for _ in 0..<6000 where !FileManager.default.fileExists(atPath: "\(mount.folder)/\(name)") {
                try await Task.sleep(for: .milliseconds(20))
            }
        }

        private static func stored(_ mount: MountFixture, _ key: String, _ text: String) async throws {
            try await eventually("\(key) is stored", seconds: 60) {
                guard try await mount.bucket.keys().contains(key) else { return false }
                return try await mount.bucket.content(key) == text
            }
        }

        @Test(
            "A store that hangs or is gone keeps nobody waiting for what is known; files are changed, and stored when it is back",
            arguments: [FaultProxy.Fault.blackHole, .refuse])
        func outage(fault: FaultProxy.Fault) async throws {
            try await Self.behindProxy { mount, proxy in
                try await mount.shell("mkdir d; for i in 1 2 3 4 5 6 7 8; do echo $i > d/f$i; done; ls -l . d")
                #expect(try await mount.command("sync", "m").succeeded)
                async let session = mount.python(
                    """
                    names = [f"f{number}" for number in range(1, 9)]
                    assert sorted(os.listdir("d")) == names
                    write(W + "/ready", b"")
                    while not os.path.exists(W + "/down"): time.sleep(0.02)
                    time.sleep(1.5)
                    def within(limit, call, *arguments):
                        begun = time.time()
                        try: return call(*arguments)
                        finally:
                            took = time.time() - begun
                            assert took < limit, (call, arguments, took)
                    first = time.time()
                    assert within(4, os.stat, "d/f1").st_size == 2
                    first = time.time() - first
                    begun = time.time()
                    assert within(4, os.listdir, "d") == names or sorted(os.listdir("d")) == names
                    for name in names: assert within(4, read, "d/" + name) == (name[1:] + "\\n").encode()
                    fails(errno.ENOENT, os.stat, "d/none")
                    all = time.time() - begun
                    assert all < 12, all
                    write("d/new", b"new"); write("d/f1", b"changed")
                    with open("d/f2", "ab") as file: file.write(b"appended")
                    assert read("d/new") == b"new" and read("d/f1") == b"changed" and read("d/f2") == b"2\\nappended"
                    assert "new" in os.listdir("d")
                    write(W + "/seconds", f"first {first:.2f}, all {all:.2f}".encode())
                    write(W + "/written", b"")
                    """, seconds: 200)
                try await Self.wait(mount, "ready")
                try proxy.set(fault)
                try writeFile(mount.folder + "/down", "")
                _ = try await session
                try await Self.wait(mount, "written")
                print("\(fault): \(try String(contentsOfFile: mount.folder + "/seconds", encoding: .utf8))")
                #expect(try await !mount.bucket.keys().contains("d/new"))
                try proxy.set(.pass)
                let back = ContinuousClock.now
                for (key, text) in [("new", "new"), ("f1", "changed"), ("f2", "2\nappended")] {
                    try await Self.stored(mount, "d/" + key, text)
                }
                print("\(fault): stored \(ContinuousClock.now - back) after its return")
                try await eventually("all is stored", seconds: 30) {
                    try await mount.status("mounts.0.dirty_files") == "0"
                }
                try await mount.bucket.put("d/f8", "from elsewhere")
                try await eventually("what others wrote", seconds: 30) {
                    try await mount.shell("cat d/f8") == "from elsewhere"
                }
            }
        }

        @Test("A mount starts while its store cannot be reached, with names and bytes, and goes on by itself")
        func start() async throws {
            try await Self.behindProxy { mount, proxy in
                try await mount.shell("mkdir d; echo one > d/one; echo two > d/two; ls -l d; cat d/*")
                try await mount.stop()
                try proxy.set(.refuse)
                try await mount.start()
                #expect(try await mount.status("mounts.0.state") == "mounted")
                #expect(try await mount.status("mounts.0.offline.reason").contains("not been reached since the start"))
                let table = try await mount.command("status")
                #expect(table.exit == .code(1) && table.output.contains("mounted (offline"), "\(table)")
                try await mount.python(
                    """
                    time.sleep(1.2)
                    begun = time.time()
                    assert sorted(os.listdir("d")) == ["one", "two"]
                    assert read("d/one") == b"one\\n" and read("d/two") == b"two\\n"
                    fails(errno.ENOENT, os.stat, "d/none")
                    write("d/three", b"three"); write("d/one", b"changed"); fails(errno.EIO, os.mkdir, "d/sub")
                    assert read("d/three") == b"three" and time.time() < begun + 8, time.time() - begun
                    """)
                try proxy.set(.pass)
                try await Self.stored(mount, "d/three", "three")
                try await Self.stored(mount, "d/one", "changed")
                try await eventually("the contact is made", seconds: 30) {
                    try await mount.status("mounts.0.offline.reason") == "nil"
                }
                try await mount.shell("mkdir d/sub; echo later > d/sub/later")
                try await Self.stored(mount, "d/sub/later", "later\n")
            }
        }

        @Test("By command a mount is offline at once, whatever its store does, and back at once; a restart forgets it")
        func command() async throws {
            try await Self.behindProxy { mount, proxy in
                try await mount.shell("mkdir d; echo one > d/one; ls -l d; cat d/one")
                #expect(try await mount.command("sync", "m").succeeded)
                #expect(try await mount.command("offline", "m", "on").succeeded)
                #expect(try await mount.status("mounts.0.offline.reason") == "offline by command")
                try await mount.python(
                    """
                    time.sleep(1.5)
                    begun = time.time()
                    assert os.listdir("d") == ["one"] and read("d/one") == b"one\\n"
                    fails(errno.ENOENT, os.stat, "d/none"); write("d/two", b"two"); fails(errno.EIO, os.mkdir, "d/sub")
                    assert time.time() < begun + 5
                    """)
                try await mount.bucket.put("d/elsewhere", "1")
                try await mount.shell("! test -e d/elsewhere; test \"$(cat d/two)\" = two")
                #expect(try await !mount.bucket.keys().contains("d/two"))
                #expect(try await mount.command("offline", mount.path + "/d", "off").succeeded)
                try await Self.stored(mount, "d/two", "two")
                try await mount.shell("sleep 1.2; test \"$(cat d/elsewhere)\" = 1")
                #expect(try await mount.status("mounts.0.offline.reason") == "nil")
                #expect(try await mount.command("offline", "m", "on").succeeded)
                try await mount.remount()
                try await mount.shell("mkdir d/sub")
                let wrong = try await mount.command("offline", "n", "on")
                #expect(wrong.exit == .code(1) && wrong.errors.contains("there is no mount 'n'"), "\(wrong)")
                _ = proxy
            }
        }
    }
}

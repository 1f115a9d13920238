import Glibc
import TestServers
import Testing

extension MountTests {
    /// Two mounts of one bucket in one process, each through a proxy of its own that counts. One has the one value of a
    /// setting, one the other; then the file is changed so that they change places.
    @Suite("Policies, by what reaches the server", .serialized)
    struct Policies {
        struct Case: Sendable, CustomTestStringConvertible {
            var setting: String
            /// As YAML, for the mount that asks much and for the one that asks little.
            var much: String
            var little: String
            /// Run once in each mount before, and then measured; `N` is another number each time.
            var prepare = "pass"
            var script: String
            var counts: @Sendable (FaultProxy) -> Int = { $0.count() }
            /// What `much` asks at least, and `little` at most.
            var atLeast: Int
            var atMost: Int
            var testDescription: String { setting }
        }

        static let cases = [
            Case(
                setting: "metadata_ttl", much: "metadata_ttl: 0s", little: "metadata_ttl: 1h", prepare: "os.stat('f')",
                script: "for _ in range(6): os.stat('f')", atLeast: 5, atMost: 0),
            Case(
                setting: "negative_ttl", much: "metadata_ttl: 1h, negative_ttl: 0s",
                little: "metadata_ttl: 1h, negative_ttl: 1h", prepare: "os.stat(f'd{N}')",
                script: "for _ in range(3): fails(errno.ENOENT, os.stat, f'd{N}/none')", atLeast: 6, atMost: 2),
            Case(
                setting: "freshness: open", much: "metadata_ttl: 1h, freshness: open",
                little: "metadata_ttl: 1h, freshness: ttl", prepare: "os.stat('f')",
                script: "for _ in range(6): os.close(os.open('f', os.O_RDONLY))", atLeast: 6, atMost: 0),
            Case(
                setting: "freshness: always", much: "metadata_ttl: 1h, freshness: always",
                little: "metadata_ttl: 1h, freshness: ttl", prepare: "os.stat('f')",
                script: "for _ in range(6): os.stat('f')", atLeast: 6, atMost: 0),
            Case(
                setting: "prefetch", much: "metadata_ttl: 1h, prefetch: 8MiB", little: "metadata_ttl: 1h, prefetch: 0",
                prepare: "os.stat(f'big{N}')",
                script: """
                    file = os.open(f'big{N}', os.O_RDONLY)
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
                    for index in range(16): assert len(os.pread(file, 4096, index * 4096)) == 4096
                    time.sleep(0.5)
                    """,
                // Exactly 64 KiB, and the heads of sixteen answers.
                counts: { $0.bytesDown }, atLeast: 2 << 20, atMost: (64 << 10) + 16 * 1024),
            Case(
                setting: "data", much: "metadata_ttl: 1h, data: off", little: "metadata_ttl: 1h, data: memory",
                prepare: "read('f')", script: "for _ in range(4): assert read('f') == b'content'",
                counts: { $0.count { $0.method == "GET" && $0.path.hasSuffix("/f") } }, atLeast: 4, atMost: 0),
            Case(
                setting: "durable_attributes", much: "metadata_ttl: 1h, durable_attributes: true",
                little: "metadata_ttl: 1h, durable_attributes: false",
                prepare: "os.stat('own'); os.getxattr('own', 'user.x') if 'user.x' in os.listxattr('own') else None",
                script: """
                    os.chmod('own', 0o600 + N)
                    os.utime('own', (N, N))
                    os.setxattr('own', 'user.x', b'%d' % N)
                    assert os.stat('own').st_mode & 0o777 == 0o600 + N and os.stat('own').st_mtime == N
                    """, atLeast: 3, atMost: 0),
        ]

        @Test("Each setting shows on the wire, apart for each mount, and changes by a reload", arguments: cases)
        func wire(_ test: Case) async throws {
            let owner = try TemporaryFolder("mount")
            let server = try await SeaweedFS.shared()
            let name = try await server.makeBucket("policy")
            for key in ["f", "d1/x", "d2/x", "d3/x", "d4/x"] { try await server.put(key, in: name, "content") }
            let big = String(repeating: "0123456789abcdef", count: 1 << 18)
            for index in 1...4 where test.setting == "prefetch" { try await server.put("big\(index)", in: name, big) }
            let proxies = [try FaultProxy(before: server), try FaultProxy(before: server)]
            defer { for proxy in proxies { proxy.stop() } }
            func mounts(_ settings: [String]) -> [(options: MountOptions, bucket: Bucket)] {
                zip(["a", "b"], zip(settings, proxies)).map { name, rest in
                    (
                        MountOptions(name: name, settings: "cache: { \(rest.0) }"),
                        Bucket(name: bucketName, server: server, endpoint: rest.1.endpoint)
                    )
                }
            }
            let bucketName = name
            var number = 0
            func measure(_ mount: MountFixture, _ which: Int) async throws -> Int {
                number += 1
                let on = ["a", "b"][which]
                try await mount.python("N = \(number)\n" + test.prepare, on: on)
                // What goes on in the background afterwards.
                try await Task.sleep(for: .milliseconds(300))
                proxies[which].resetCounts()
                try await mount.python("N = \(number)\n" + test.script, on: on)
                return test.counts(proxies[which])
            }
            try await MountFixture.use(mounts([test.much, test.little]), in: owner) { mount in
                if test.setting == "durable_attributes" {
                    try await mount.python("write('own', b'x')", on: "a")
                }
                #expect(try await measure(mount, 0) >= test.atLeast)
                #expect(try await measure(mount, 1) <= test.atMost)
                try mount.write(mounts([test.little, test.much]))
                let result = try await mount.reload()
                #expect(result.succeeded, "\(result)")
                #expect(result.output.contains("a: changed in place (cache."), "\(result)")
                #expect(try await measure(mount, 0) <= test.atMost)
                #expect(try await measure(mount, 1) >= test.atLeast)
            }
        }

        @Test("A deadline ends what waits, for each mount its own, and a reload changes it")
        func deadline() async throws {
            let owner = try TemporaryFolder("mount")
            let server = try await SeaweedFS.shared()
            let name = try await server.makeBucket("policy")
            try await server.put("f", in: name, "content")
            let proxies = [try FaultProxy(before: server), try FaultProxy(before: server)]
            defer { for proxy in proxies { proxy.stop() } }
            func mounts(_ deadlines: [String]) -> [(options: MountOptions, bucket: Bucket)] {
                zip(["a", "b"], zip(deadlines, proxies)).map { on, rest in
                    (
                        MountOptions(name: on, settings: "cache: { metadata_ttl: 0s, deadline: \(rest.0) }"),
                        Bucket(name: name, server: server, endpoint: rest.1.endpoint)
                    )
                }
            }
            func seconds(_ mount: MountFixture, _ on: String) async throws -> Double {
                let text = try await mount.python(
                    "start = time.monotonic(); fails(errno.EIO, os.stat, 'f'); print(time.monotonic() - start)", on: on)
                return Double(text.split(separator: "\n").last ?? "") ?? -1
            }
            try await MountFixture.use(mounts(["1s", "6s"]), in: owner) { mount in
                for on in ["a", "b"] { try await mount.python("os.stat('f')", on: on) }
                for proxy in proxies { try proxy.set(.blackHole) }
                async let short = seconds(mount, "a")
                async let long = seconds(mount, "b")
                let first = try await (short, long)
                #expect(first.0 < 5 && first.1 > 5, "\(first)")
                for proxy in proxies { try proxy.set(.pass) }
                for on in ["a", "b"] {
                    try await eventually("the store again") {
                        (try? await mount.python("assert read('f') == b'content'", on: on)) != nil
                    }
                }
                try mount.write(mounts(["6s", "1s"]))
                #expect(try await mount.reload().output.contains("a: changed in place (cache.deadline)"))
                for proxy in proxies { try proxy.set(.blackHole) }
                async let nowLong = seconds(mount, "a")
                async let nowShort = seconds(mount, "b")
                let second = try await (nowLong, nowShort)
                #expect(second.1 < 5 && second.0 > 5, "\(second)")
                for proxy in proxies { try proxy.set(.pass) }
            }
        }

        @Test("Unplugged, one mount serves what it knows and the other says EIO; neither says that anything is gone")
        func offline() async throws {
            let owner = try TemporaryFolder("mount")
            let server = try await SeaweedFS.shared()
            let name = try await server.makeBucket("policy")
            for key in ["f", "d/x", "e/y"] { try await server.put(key, in: name, "content") }
            let proxies = [try FaultProxy(before: server), try FaultProxy(before: server)]
            defer { for proxy in proxies { proxy.stop() } }
            func mounts(_ rules: [String]) -> [(options: MountOptions, bucket: Bucket)] {
                zip(["a", "b"], zip(rules, proxies)).map { on, rest in
                    (
                        MountOptions(
                            name: on,
                            settings:
                                "cache: { metadata_ttl: 0s, negative_ttl: 0s, deadline: 1s, offline: \(rest.0) }"),
                        Bucket(name: name, server: server, endpoint: rest.1.endpoint)
                    )
                }
            }
            let known = """
                assert sorted(os.listdir('.')) == ['d', 'e', 'f'], os.listdir('.')
                assert os.stat('f').st_size == 7
                assert os.listdir('d') == ['x']
                """
            // `e` has never been listed.
            let serves =
                known
                    + """

                    assert os.getxattr('f', 'user.cloudmount.state') == b'stale'
                    fails(errno.ENOENT, os.stat, 'nothing')
                    fails(errno.EIO, os.stat, 'e/nothing')
                    fails(errno.EIO, os.listdir, 'e')
                    fails(errno.EIO, read, 'd/x')
                    """
            let fails = """
                fails(errno.EIO, os.stat, 'f')
                fails(errno.EIO, os.stat, 'nothing')
                fails(errno.EIO, os.listdir, '.')
                """
            try await MountFixture.use(mounts(["serve", "fail"]), in: owner) { mount in
                for on in ["a", "b"] {
                    try await mount.python(known + "\nassert read('f') == b'content'; os.stat('d/x')", on: on)
                }
                for proxy in proxies { try proxy.set(.refuse) }
                // Read before, so its pages are in the kernel. (An error makes the kernel forget them.)
                try await mount.python("assert read('f') == b'content'\n" + serves, on: "a")
                try await mount.python(fails, on: "b")
                #expect(try await mount.status("mounts.0.stale_nodes") != "0")
                #expect(try await mount.status("mounts.1.stale_nodes") == "0")
                try mount.write(mounts(["fail", "serve"]))
                #expect(try await mount.reload().succeeded)
                try await Task.sleep(for: .milliseconds(1500))
                try await mount.python(fails, on: "a")
                try await mount.python(serves, on: "b")
                for proxy in proxies { try proxy.set(.pass) }
                try await server.delete("f", in: name)
                for on in ["a", "b"] {
                    try await eventually("the store again") {
                        (try? await mount.python(
                            "fails(errno.ENOENT, os.stat, 'f'); assert sorted(os.listdir('.')) == ['d', 'e']; "
                                + "assert read('e/y') == b'content'", on: on)) != nil
                    }
                }
            }
        }

        @Test("A conflict keeps both, fails or overwrites, for each mount its own way", arguments: Store.everywhere)
        func conflict(_ store: Store) async throws {
            let owner = try TemporaryFolder("mount")
            let bucket = try await Bucket.make(in: store, below: owner.path)
            func mounts(_ rules: [String]) -> [(options: MountOptions, bucket: Bucket)] {
                zip(["a", "b"], rules).map {
                    (MountOptions(name: $0, settings: "cache: { extends: strict, on_conflict: \($1) }"), bucket)
                }
            }
            /// Both are changed between open and close.
            func collide(_ mount: MountFixture, _ on: String, _ key: String, error: String = "None") async throws {
                try await bucket.put(key, "before")
                let writer = try await mount.background(
                    """
                    file = os.open('\(key)', os.O_WRONLY | os.O_TRUNC)
                    os.write(file, b'ours')
                    open(W + '/\(key).open', 'w').close()
                    while not os.path.exists(W + '/\(key).changed'): time.sleep(0.01)
                    try: os.close(file); code = None
                    except OSError as caught: code = caught.errno
                    assert code == \(error), code
                    """, in: mount.path(of: on))
                try await eventually("the writer") { access("\(mount.folder)/\(key).open", F_OK) == 0 }
                try await bucket.put(key, "theirs, longer")
                try writeFile("\(mount.folder)/\(key).changed", "")
                let exit = await writer.wait(seconds: 60)
                #expect(exit == .code(0), "\(key): \(writer.transcript)")
            }
            try await MountFixture.use(mounts(["keep-both", "overwrite"]), in: owner) { mount in
                try await collide(mount, "a", "k1")
                #expect(try await bucket.content("k1") == "theirs, longer")
                let other = try #require(try await bucket.keys().first { $0.hasPrefix("k1 (conflict ") })
                #expect(try await bucket.content(other) == "ours")
                try await collide(mount, "b", "k2")
                #expect(try await bucket.content("k2") == "ours")
                #expect(try await bucket.keys().filter { $0.hasPrefix("k2") } == ["k2"])

                try mount.write(mounts(["fail", "keep-both"]))
                #expect(try await mount.reload().succeeded)
                try await collide(mount, "a", "k3", error: "errno.ESTALE")
                #expect(try await bucket.content("k3") == "theirs, longer")
                #expect(try await mount.status("mounts.0.failed_commits.0.path") == "k3")
                #expect(
                    try await mount.shell("getfattr --only-values -n user.cloudmount.state k3", on: "a") == "failed")
                try await collide(mount, "b", "k4")
                #expect(try await bucket.content("k4") == "theirs, longer")
                // Another rule lets go what was held.
                try mount.write(mounts(["overwrite", "keep-both"]))
                #expect(try await mount.reload().succeeded)
                try await eventually("what was held") { try await mount.status("mounts.0.dirty_files") == "0" }
                #expect(try await bucket.content("k3") == "ours")
            }
        }

        @Test(
            "A changed object is seen at once with its new bytes: at open, and at every look",
            arguments: Store.everywhere)
        func fresh(_ store: Store) async throws {
            let owner = try TemporaryFolder("mount")
            let bucket = try await Bucket.make(in: store, below: owner.path)
            func mounts(_ rules: [String]) -> [(options: MountOptions, bucket: Bucket)] {
                zip(["a", "b"], rules).map {
                    (MountOptions(name: $0, settings: "cache: { metadata_ttl: 1h, freshness: \($1) }"), bucket)
                }
            }
            let texts = ["short", "rather longer than before", "", "x", "the same length a", "the same length b"]
            func follow(_ mount: MountFixture, _ on: String, looks: Bool) async throws {
                for text in texts {
                    try await bucket.put("f", text)
                    let look = looks ? "assert os.stat('f').st_size == \(text.utf8.count), os.stat('f'); " : ""
                    try await mount.python("\(look)assert read('f') == b'\(text)', read('f')", on: on)
                    // By the same process, with what the kernel has kept.
                    try await mount.python("for _ in range(3): assert read('f') == b'\(text)'", on: on)
                }
            }
            try await bucket.put("f", "first")
            try await MountFixture.use(mounts(["open", "always"]), in: owner) { mount in
                try await follow(mount, "a", looks: false)
                try await follow(mount, "b", looks: true)
                try mount.write(mounts(["always", "ttl"]))
                #expect(try await mount.reload().succeeded)
                try await follow(mount, "a", looks: true)
                // Of what was known before, the time begins anew; it is believed for an hour.
                try await mount.python("read('f')", on: "b")
                try await bucket.put("f", "unseen")
                try await mount.python("assert read('f') == b'\(texts.last ?? "")'", on: "b")
            }
        }
    }
}

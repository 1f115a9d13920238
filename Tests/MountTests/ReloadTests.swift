import Glibc
import Synchronization
import TestSeeds
import TestServers
import Testing

extension MountTests {
    @Suite("The file, changed while running", .serialized)
    struct Reload {
        typealias Mounts = [(options: MountOptions, bucket: Bucket)]

        private func folders(_ names: [String], _ owner: TemporaryFolder) async throws -> Mounts {
            var mounts: Mounts = []
            for name in names {
                mounts.append((MountOptions(name: name), try await Bucket.make(in: .folder, below: owner.path)))
            }
            return mounts
        }

        private func expectExit(_ result: ChildProcess.Result, _ code: Int32, _ text: String = "") {
            #expect(result.exit == .code(code), "\(result)")
            #expect((result.output + result.errors).contains(text), "\(result)")
        }

        @Test("A wrong file changes nothing and is told by line; a right one adds, removes and remounts")
        func steps() async throws {
            let owner = try TemporaryFolder("mount")
            let mounts = try await folders(["a", "b", "c"], owner)
            try await MountFixture.use(mounts, in: owner) { mount in
                try await mount.shell("echo kept > f", on: "a")
                try await mount.shell("echo gone > f", on: "b")
                // Wrong in two places.
                var wrong = mounts
                wrong[0].options.settings = "cache: { metadata_ttl: 5 }"
                wrong[1].options.settings = "umask: '999'"
                try mount.write(wrong)
                let refused = try await mount.command("reload")
                expectExit(refused, 78, "mounts.yaml:")
                #expect(refused.errors.split(separator: "\n").count == 2, "\(refused)")
                try await mount.signal(SIGHUP, until: "the file is wrong")
                #expect(try await mount.status("mounts.2.state") == "mounted")

                try mount.write([mounts[0], mounts[2]], memory: "96MiB")
                expectExit(try await mount.command("reload", "--dry-run"), 0, "b: would be removed")
                #expect(mount.isMounted("b"))
                let removed = try await mount.command("reload")
                expectExit(removed, 0, "b: removed")
                #expect(removed.output.contains("a: kept") && removed.output.contains("changed: memory"), "\(removed)")
                #expect(!mount.isMounted("b") && mount.isMounted("a") && mount.isMounted("c"))
                #expect(try await mount.status("memory.limit") == "\(96 << 20)")

                // In use: it stays where it is until nobody works in it.
                var moved = mounts
                moved[0].options.path = mount.path(of: "elsewhere")
                try mount.write(moved)
                let user = try ChildProcess(["sleep", "600"], directory: mount.path(of: "a"))
                let pending = try await mount.command("reload")
                expectExit(pending, 0, "a: pending (path): a program works in it")
                #expect(pending.output.contains("b: added"), "\(pending)")
                #expect(mount.isMounted("a") && mount.isMounted("b") && !mount.isMounted("elsewhere"))
                #expect(try await mount.status("mounts.0.pending").contains("to be remounted"))
                #expect(try await mount.shell("cat f", on: "b") == "gone\n")
                user.stop()
                try await eventually("the remount") { mount.isMounted("elsewhere") && !mount.isMounted("a") }
                #expect(try await mount.shell("cat f", on: "elsewhere") == "kept\n")

                // By force an open file goes on, and the place is the new mount's at once.
                let reader = try await mount.hold("elsewhere/f")
                try mount.write(mounts)
                expectExit(try await mount.command("reload"), 0, "a: pending (path): 1 file is open")
                expectExit(try await mount.command("reload", "--force"), 0, "a: remounted (path)")
                #expect(mount.isMounted("a") && !mount.isMounted("elsewhere"))
                #expect(try await reader.finish() == "kept\n")
                #expect(try await mount.shell("cat f", on: "a") == "kept\n")
            }
        }

        @Test("A mount that has gone leaves nothing behind: no connection to the kernel, no thread")
        func remounts() async throws {
            let owner = try TemporaryFolder("mount")
            var mounts = try await folders(["a", "b"], owner)
            try await MountFixture.use(mounts, in: owner) { mount in
                func count(_ script: String) async throws -> Int {
                    let pid = await mount.daemon?.pid ?? 0
                    let text = try await ChildProcess.output(of: ["bash", "-c", "cd /proc/\(pid); \(script) | wc -l"])
                    return Int(text.split(separator: "\n").joined()) ?? -1
                }
                for index in 0..<6 {
                    mounts[1].options.settings = "prefix: p\(index)/"
                    try mount.write(mounts)
                    expectExit(try await mount.command("reload"), 0, "b: remounted (prefix)")
                    try await mount.shell("echo x > f; cat f > /dev/null", on: "b")
                }
                try await eventually("two connections to the kernel") {
                    try await count("ls -l fd | grep /dev/fuse") == 2
                }
                try await eventually("two threads that serve") {
                    try await count("cat task/*/comm | grep cm-fuse") <= 4
                }
            }
        }

        @Test("A mount that failed for a wrong bucket comes up as soon as the file is right")
        func corrected() async throws {
            let owner = try TemporaryFolder("mount")
            let right = try await folders(["a", "b"], owner)
            let server = try await SeaweedFS.shared()
            let s3 = Bucket(name: try await server.makeBucket("reload"), server: server, endpoint: server.endpoint)
            var wrong = right + [(MountOptions(name: "c"), s3)]
            wrong[2].bucket = Bucket(name: "no-such-bucket-here", server: server, endpoint: server.endpoint)
            try await MountFixture.use(wrong, in: owner, expecting: ["a", "b"]) { mount in
                try await eventually("the failure") { try await mount.status("mounts.2.state") == "failed" }
                try mount.write(right + [(MountOptions(name: "c"), s3)])
                try await mount.signal(SIGHUP, until: "reload: c: changed (bucket)")
                #expect(mount.isMounted("c"))
                try await mount.shell("echo 1 > f; cat f", on: "c")
            }
        }

        @Test("Credentials are rotated with fifty reads in flight; wrong ones leave the old in use")
        func rotation() async throws {
            let owner = try TemporaryFolder("mount")
            let server = try await SeaweedFS.shared()
            let proxy = try FaultProxy(before: server)
            defer { proxy.stop() }
            let bucket = Bucket(
                name: try await server.makeBucket("rotate"), server: server, endpoint: proxy.endpoint)
            for index in 0..<51 { try await server.put("f\(index)", in: bucket.name, "content of \(index)") }
            var mounts: Mounts = [(MountOptions(settings: "cache: { data: off }"), bucket)]
            try await MountFixture.use(mounts, in: owner) { mount in
                try await mount.shell("ls -l > /dev/null")
                try proxy.set(.delay(milliseconds: 3000)) { $0.method == "GET" && $0.path.contains("/f") }
                let readers = try await mount.background(
                    """
                    def one(index):
                        assert read(f"f{index}") == f"content of {index}".encode(), index
                        done.append(index)
                    done = []
                    threads = [threading.Thread(target=one, args=(index,)) for index in range(50)]
                    for thread in threads: thread.start()
                    for thread in threads: thread.join()
                    assert len(done) == 50, done
                    """)
                func reads() -> Int { proxy.count { $0.method == "GET" && $0.path.contains("/f") } }
                try await eventually("fifty reads in flight") { reads() >= 50 }
                mounts[0].options.accessKey = server.secondAccessKey
                mounts[0].options.secret = server.secondSecretKey
                try mount.write(mounts)
                expectExit(try await mount.command("reload"), 0, "m: changed in place (credentials)")
                #expect(readers.poll() == nil, "the reads were over before the keys were changed")
                #expect(await readers.wait() == .code(0), "\(readers.transcript)")
                try proxy.set(.pass)

                proxy.resetCounts()
                func signed(by key: String) -> Int {
                    proxy.count { $0.headers.contains { $0.contains("Credential=\(key)/") } }
                }
                try await mount.shell("cat f50; echo new > g; rm g")
                #expect(signed(by: server.secondAccessKey) >= 3)
                #expect(signed(by: server.accessKey) == 0)

                mounts[0].options.secret = "not the right one"
                try mount.write(mounts)
                expectExit(try await mount.command("reload"), 1, "m: failed (credentials): the credentials in use stay")
                try await mount.shell("cat f50; echo new > g; rm g")
            }
        }

        @Test("Thirty edits under load lose nothing")
        func thirtyEdits() async throws {
            let seed = UInt64.random(in: 0...UInt64.max)
            var random = SeededGenerator(seed: seed)
            let owner = try TemporaryFolder("mount")
            let server = try await SeaweedFS.shared()
            var all = try await folders(["m0", "m2", "m3"], owner)
            for name in ["m1", "m4"] {
                let bucket = Bucket(
                    name: try await server.makeBucket("thirty"), server: server, endpoint: server.endpoint)
                all.append((MountOptions(name: name), bucket))
            }
            try await MountFixture.use(all, in: owner) { mount in
                let load = try await mount.background(Self.load, in: owner.path)
                for edit in 0..<30 {
                    let mounts = Self.edited(all, mount, server, &random)
                    try mount.write(mounts)
                    let isWrong = edit % 5 == 4
                    if isWrong {
                        try writeFile(
                            mount.configuration,
                            readFile(mount.configuration) + Self.faults[Int.random(in: 0..<2, using: &random)])
                    }
                    if edit % 3 == 2 {
                        try await mount.signal(SIGHUP)
                        try await Task.sleep(for: .milliseconds(300))
                    } else {
                        // A signal's turn may not be over yet.
                        try await eventually("edit \(edit), seed \(seed)") {
                            let force = Int.random(in: 0..<4, using: &random) == 0 ? ["--force"] : []
                            let result = try await mount.reload(force)
                            if result.errors.contains("another reload") { return false }
                            #expect(result.exit == .code(isWrong ? 78 : 0), "edit \(edit), seed \(seed): \(result)")
                            return true
                        }
                    }
                    #expect(load.poll() == nil, "seed \(seed): \(load.transcript)")
                }
                // All that can become of a mount has become of some.
                let said = await mount.log.split(separator: "\n").filter { $0.contains("reload: ") }
                for outcome in ["added", "removed", "changed", "remounted", "pending"] {
                    #expect(said.contains { $0.contains(": \(outcome)") }, "\(outcome), seed \(seed)")
                }
                try writeFile("\(owner.path)/stop", "")
                #expect(await load.wait() == .code(0), "seed \(seed): \(load.transcript)")

                try mount.write(all)
                try await eventually("all mounts at their places, seed \(seed)") {
                    let result = try await mount.reload()
                    return result.succeeded && !result.output.contains("pending")
                        && all.allSatisfy { mount.isMounted($0.options.name) }
                }
                #expect(try await mount.status("staging.leftovers.0") == "nil")
                try await mount.remount()
                let checked = try await mount.python(Self.check)
                #expect((Int(checked.split(separator: " ").first ?? "") ?? 0) > 100, "seed \(seed): \(checked)")
            }
        }

        /// Another state of the file: two mounts always, the others now and then, each with settings of its own.
        private static func edited(
            _ all: Mounts, _ mount: MountFixture, _ server: SeaweedFS, _ random: inout SeededGenerator
        ) -> Mounts {
            var mounts: Mounts = []
            for var entry in all {
                let name = entry.options.name
                let isSteady = name == "m0" || name == "m1"
                if !isSteady, Int.random(in: 0..<3, using: &random) == 0 { continue }
                let policies = [
                    "default", "media", "strict", "small-files", "offline",
                    "{ data: off, metadata_ttl: 1s, freshness: open }",
                    "{ prefetch: 0, durable_attributes: false, on_conflict: overwrite }",
                    "{ extends: offline, deadline: 60s, negative_ttl: 0s }",
                ]
                entry.options.settings = "cache: \(policies[Int.random(in: 0..<policies.count, using: &random)])"
                if Int.random(in: 0..<3, using: &random) == 0 { entry.options.settings += ", umask: '077', uid: 0" }
                if !isSteady, Int.random(in: 0..<3, using: &random) == 0 {
                    entry.options.path = mount.path(of: name + "-moved")
                }
                if entry.bucket.server != nil, Int.random(in: 0..<2, using: &random) == 0 {
                    entry.options.accessKey = server.secondAccessKey
                    entry.options.secret = server.secondSecretKey
                }
                mounts.append(entry)
            }
            return mounts
        }

        private static let faults = [
            "\n  - { name: m9, nonsense",
            "\n  - { name: m9, path: /x, provider: directory, bucket: /y, nonsense: 1 }\n",
        ]

        /// Writers and readers on whatever is mounted, until the file `stop` is there. What a close has acknowledged goes into
        /// `acknowledged`. A file is made below an open directory of the mount, so it can only be the mount's.
        private static let load = """
            import itertools
            os.chdir(W)
            base = os.stat("mnt").st_dev
            written = []
            failures = []
            lock = threading.Lock()
            def stopping(): return os.path.exists("stop")
            def places(name): return [f"mnt/{name}", f"mnt/{name}-moved"]
            def opened(name):
                for place in places(name):
                    try: fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
                    except FileNotFoundError: continue
                    except OSError as error:
                        # Between the making of the folder and the mount, or detached a moment ago.
                        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED): continue
                        raise
                    if os.fstat(fd).st_dev != base: return fd
                    os.close(fd)
                return None
            def writer(name, number):
                generator = random.Random(name + str(number))
                for count in itertools.count():
                    if stopping(): return
                    fd = opened(name)
                    if fd is None:
                        time.sleep(0.02)
                        continue
                    try:
                        dev = os.fstat(fd).st_dev
                        # Two mounts of one name may live at once for a while, and each has its own knowledge.
                        file = f"w{number}-{dev}-{count % 40}"
                        data = generator.randbytes(generator.choice([0, 10, 5000, 300000]))
                        with lock: expected[(name, file)] = None
                        out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=fd)
                        for start in range(0, len(data), 65536):
                            os.write(out, data[start:start + 65536])
                            time.sleep(0.002)
                        os.close(out)
                        with lock: expected[(name, file)] = (hashlib.sha256(data).hexdigest(), dev)
                    finally:
                        os.close(fd)
                    time.sleep(generator.uniform(0, 0.2))
            def reader(name):
                generator = random.Random(name)
                while not stopping():
                    fd = opened(name)
                    if fd is None:
                        time.sleep(0.02)
                        continue
                    try:
                        with lock: known = [
                            (file, sum) for (n, file), sum in expected.items()
                            if n == name and sum and sum[1] == os.fstat(fd).st_dev]
                        if known:
                            file, sum = generator.choice(known)
                            got = os.open(file, os.O_RDONLY, dir_fd=fd)
                            data = b""
                            while True:
                                some = os.read(got, 100000)
                                if not some: break
                                data += some
                            os.close(got)
                            with lock: now = expected[(name, file)]
                            # Not one that was being written meanwhile.
                            if now == sum: assert hashlib.sha256(data).hexdigest() == sum[0], (name, file)
                    finally:
                        os.close(fd)
                    time.sleep(generator.uniform(0, 0.1))
            def guarded(work, *arguments):
                try: work(*arguments)
                except BaseException as error:
                    import traceback
                    failures.append(f"{arguments}: {traceback.format_exc()}")
            expected = {}
            threads = []
            for name in ["m0", "m1", "m2", "m3", "m4"]:
                for number in range(2): threads.append(threading.Thread(target=guarded, args=(writer, name, number)))
                threads.append(threading.Thread(target=guarded, args=(reader, name)))
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            with open("acknowledged", "w") as out:
                for (name, file), sum in expected.items(): print(name, file, sum[0], file=out)
            assert not failures, "\\n".join(failures)
            """

        private static let check = """
            os.chdir(W)
            count = 0
            for line in open("acknowledged"):
                name, file, sum = line.split()
                found = hashlib.sha256(read(f"mnt/{name}/{file}")).hexdigest()
                assert found == sum, line
                count += 1
            print(count, "files")
            """
    }
}

/// Waits for what follows by itself.
func eventually(
    _ what: String, seconds: Double = 60, shown: () -> [String] = { [] }, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            throw TestSupportError("\(what) did not come in \(seconds) s: \(shown().joined(separator: "; "))")
        }
        try await Task.sleep(for: .milliseconds(50))
    }
}

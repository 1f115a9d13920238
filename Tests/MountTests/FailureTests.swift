import Foundation
import Glibc
import TestServers
import Testing

/// What happens when something fails: the store, the network, the local disk, the daemon, the user's patience.
extension MountTests {
    @Suite("Failures")
    struct Failures {
        /// One mount whose store is behind a proxy.
        private static func behindProxy(
            _ settings: String, _ body: (MountFixture, FaultProxy) async throws -> Void
        ) async throws {
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

        @Test("Signals that do not end a program never show as EINTR", arguments: [Store.folder, .moto])
        func timers(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                // Perl neither restarts calls nor repeats them.
                try writeFile(
                    mount.folder + "/storm.pl",
                    """
                    use Fcntl; use Errno; use IO::Handle;
                    $SIG{$_} = sub {} for qw(URG ALRM CHLD USR1);
                    my $me = $$; my $child = fork;
                    if (!$child) { while (kill 0, $me) { kill $_, $me for qw(URG ALRM CHLD USR1); select undef, undef, undef, 0.0005 } exit }
                    my $bad = 0; sub check { my ($what, $ok) = @_; if (!$ok) { print "$what: $!\\n"; $bad++ } }
                    for my $i (1 .. 12) {
                        check("create", sysopen(my $f, "f$i", O_CREAT | O_RDWR)); check("write", syswrite($f, "x" x 60000));
                        check("sync", $f->sync); check("close", close($f)); check("rename", rename("f$i", "g$i"));
                        check("stat", -e "g$i"); check("mkdir", mkdir("d$i")); check("chmod", chmod(0600, "g$i"));
                        check("truncate", truncate("g$i", 5)); check("open", sysopen($f, "g$i", O_RDONLY));
                        check("read", sysread($f, my $b, 10)); check("close", close($f)); check("unlink", unlink("g$i"));
                        check("rmdir", rmdir("d$i"));
                    }
                    kill KILL => $child; exit($bad ? 1 : 0);
                    """)
                #expect(try await mount.shell("perl $W/storm.pl; ls -A") == "")
            }
        }

        @Test(
            "A rename of a folder that is interrupted is whole all the same, and everybody sees that",
            arguments: [Store.folder, .moto])
        func interruptedRename(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    """
                    import subprocess
                    os.mkdir("d"); [write(f"d/{number}", b"%d" % number) for number in range(200)]
                    old, new = "d", "e"
                    for attempt in range(4):
                        os.path.exists(new)
                        child = subprocess.Popen([sys.executable, "-c", f"import os; os.rename('{old}', '{new}')"], stderr=subprocess.DEVNULL)
                        time.sleep(0.08 + 0.05 * attempt); child.send_signal(2); child.wait()
                        end = time.time() + 60
                        while True:
                            there = [name for name in (old, new) if os.path.exists(name)]
                            if len(there) == 1 and there[0] == new or child.returncode and time.time() > end: break
                            if there == [old] and not child.returncode: raise AssertionError("renamed, and is not")
                            # Interrupted before the daemon heard of it: nothing happens any more.
                            if there == [old] and time.time() > end - 50: break
                            time.sleep(0.1)
                        if there == [new]: old, new = new, old
                        assert len(there) == 1 and len(os.listdir(old)) == 200 and read(old + "/77") == b"77"
                    """, seconds: 300)
                let keys = try await mount.bucket.keys().filter { !$0.hasSuffix("/") }
                #expect(keys.count == 200 && Set(keys.map { $0.prefix(2) }).count == 1)
            }
        }

        @Test(
            "Unreachable is not deleted: while nobody listens calls end with EIO; bytes are kept, read and stored later"
        )
        func unplugged() async throws {
            try await Self.behindProxy("cache: { deadline: 2s, metadata_ttl: 300s, negative_ttl: 300s }") {
                mount, proxy in
                async let session = mount.python(
                    """
                    os.mkdir("d"); write("d/x", b"x"); write("ok", b"ok")
                    fd = os.open("w", os.O_RDWR | os.O_CREAT); os.write(fd, b"kept bytes")
                    big = os.open("big", os.O_RDWR | os.O_CREAT); os.write(big, b"b" * (20 << 20))
                    write(W + "/ready", b"")
                    while not os.path.exists(W + "/down"): time.sleep(0.02)
                    fails(errno.EIO, os.fsync, fd); fails(errno.EIO, os.close, os.dup(fd)); fails(errno.EIO, os.close, big)
                    assert read("w") == b"kept bytes" and read("big") == b"b" * (20 << 20)
                    fails(errno.EIO, write, "new", b"n"); fails(errno.EIO, os.unlink, "d/x"); fails(errno.EIO, os.mkdir, "e")
                    fails(errno.EIO, os.rename, "d/x", "d/y"); fails(errno.EIO, os.chmod, "ok", 0o600)
                    assert os.stat("ok").st_size == 2 and stat.S_IMODE(os.stat("ok").st_mode) == 0o644
                    write(W + "/failed", b"")
                    while not os.path.exists(W + "/up"): time.sleep(0.02)
                    def in_time(call, *arguments):
                        end = time.time() + 60  # Whether a store has returned is tried from time to time.
                        while True:
                            try: return call(*arguments)
                            except OSError as error:
                                assert error.errno == errno.EIO and time.time() < end, error
                                time.sleep(0.2)
                    in_time(os.fsync, fd); os.close(fd)
                    for name in ("big", "new"):
                        fd = os.open(name, os.O_RDWR); in_time(os.fsync, fd); os.close(fd)
                    assert sorted(os.listdir(".")) == ["big", "d", "new", "ok", "w"] and read("d/x") == b"x"
                    """, seconds: 280)
                func wait(_ name: String) async throws {
                    for _ in 0..<8000 where !FileManager.default.fileExists(atPath: "\(mount.folder)/\(name)") {
                        try await Task.sleep(for: .milliseconds(20))
                    }
                }
                try await wait("ready")
                try proxy.set(.refuse)
                try writeFile(mount.folder + "/down", "")
                try await wait("failed")
                #expect(try await mount.status("mounts.0.failed_commits.2.path") != "nil")
                try proxy.set(.pass)
                try writeFile(mount.folder + "/up", "")
                _ = try await session
                #expect(try await mount.bucket.content("w") == "kept bytes")
                #expect(try await mount.bucket.content("new") == "n")
                #expect(try await mount.status("mounts.0.failed_commits.0.path") == "nil")
            }
        }

        @Test("A store that forbids to delete or to write: nothing is lost, nothing is shown that is not so")
        func forbidden() async throws {
            try await Self.behindProxy("") { mount, proxy in
                try await mount.shell("echo f > f; mkdir d e; echo x > d/x")
                let isChange: @Sendable (FaultProxy.Request) -> Bool = {
                    ["PUT", "POST", "DELETE"].contains($0.method)
                }
                let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
                try proxy.set(.status(403, body: denied), where: isChange)
                try await mount.python(
                    """
                    fails(errno.EACCES, os.unlink, "f"); fails(errno.EACCES, os.rmdir, "e"); fails(errno.EACCES, os.mkdir, "n")
                    fails(errno.EACCES, os.symlink, "x", "s"); fails(errno.EACCES, os.rename, "f", "g"); fails(errno.EACCES, os.rename, "d", "g")
                    fails(errno.EACCES, os.chmod, "f", 0o600); fails(errno.EACCES, os.truncate, "f", 0); fails(errno.EACCES, os.utime, "f", (1, 1))
                    fails(errno.EACCES, os.setxattr, "f", "user.a", b"1"); fails(errno.EACCES, write, "new", b"1")
                    fails(errno.EACCES, write, "f", b"over")
                    assert sorted(os.listdir(".")) == ["d", "e", "f"] and read("f") == b"f\\n" and os.listdir("d") == ["x"]
                    assert stat.S_IMODE(os.stat("f").st_mode) == 0o644 and os.stat("f").st_mtime > 10 and os.listxattr("f") == []
                    """)
                try proxy.set(.pass)
                #expect(try await mount.bucket.content("f") == "f\n")
                #expect(try await mount.bucket.keys().filter { !$0.hasSuffix("/") } == ["d/x", "f"])
                #expect(try await mount.status("mounts.0.dirty_files") == "0")
            }
        }

        @Test(
            "The disk of the cache is full: ENOSPC, what is there is right, and it goes on when there is room",
            arguments: Store.everyday)
        func fullDisk(store: Store) async throws {
            let owner = try TemporaryFolder("mount")
            let disk = owner.path + "/cache"
            try await ChildProcess.output(of: ["mkdir", disk])
            let duty = Reaper.atEnd("umount -l \(disk)")
            try await ChildProcess.output(of: ["mount", "-t", "tmpfs", "-o", "size=100m", "none", disk])
            let bucket = try await Bucket.make(in: store, below: owner.path)
            try await MountFixture.use([(MountOptions(), bucket)], in: owner) { mount in
                try await mount.python(
                    """
                    data = random.Random(1).randbytes(1 << 20)
                    write("stored", data)
                    fd = os.open("w", os.O_RDWR | os.O_CREAT); written = 0
                    try:
                        while written < 200 << 20: written += os.write(fd, data)
                        raise AssertionError("no end of space")
                    except OSError as error: assert error.errno == errno.ENOSPC, error
                    size = os.fstat(fd).st_size; assert written <= size < written + len(data) and written > 20 << 20, (size, written)
                    for offset in range(0, written - len(data), len(data)): assert os.pread(fd, len(data), offset) == data
                    fails(errno.ENOSPC, write, "stored", data, "ab"); assert read("stored") == data
                    os.close(fd)
                    with open("w", "rb") as file:
                        for _ in range(written // len(data)): assert file.read(len(data)) == data
                    write("after", data * 10); assert read("after") == data * 10
                    os.unlink("w")
                    """, seconds: 300)
                try await mount.remount()
                try await mount.python(
                    "data = random.Random(1).randbytes(1 << 20); assert read('after') == data * 10 and read('stored') == data"
                )
            }
            _ = try await ChildProcess.run(["umount", "-l", disk], seconds: 10)
            Reaper.withdraw(duty)
        }

        @Test(
            "Bounded: hundreds of open files are written and read within the daemon's memory", arguments: Store.everyday
        )
        func manyFiles(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    """
                    handles = [os.open(f"f{number}", os.O_RDWR | os.O_CREAT) for number in range(500)]
                    for number, fd in enumerate(handles): os.write(fd, b"%d " % number * 5000)
                    for number, fd in enumerate(handles): assert os.pread(fd, 99999, 0) == b"%d " % number * 5000
                    def close(first):
                        for fd in handles[first::8]: os.close(fd)
                    threads = [threading.Thread(target=close, args=(first,)) for first in range(8)]
                    [thread.start() for thread in threads]; [thread.join() for thread in threads]
                    """, seconds: 300)
                try await mount.remount()
                try await mount.python(
                    """
                    handles = [os.open(f"f{number}", os.O_RDONLY) for number in range(500)]
                    def check(first):
                        for number in range(first, 500, 16):
                            assert os.pread(handles[number], 99999, 0) == b"%d " % number * 5000
                    threads = [threading.Thread(target=check, args=(first,)) for first in range(16)]
                    [thread.start() for thread in threads]; [thread.join() for thread in threads]
                    """, seconds: 300)
            }
        }

        @Test("Names of one directory are looked up side by side: none waits for the answer to another")
        func parallelLookups() async throws {
            try await Self.behindProxy("cache: { deadline: 20s }") { mount, proxy in
                try proxy.set(.blackHole)
                let user = try await mount.background(
                    """
                    threads = [threading.Thread(target=os.path.exists, args=(f"absent{index}",)) for index in range(8)]
                    for thread in threads: thread.start()
                    for thread in threads: thread.join()
                    """)
                try await eventually(
                    "eight questions at once", seconds: 15,
                    shown: { proxy.requests.map { "\($0.method) \($0.target)" } }
                ) {
                    Set(proxy.requests.map(\.path).filter { $0.contains("/absent") }).count == 8
                }
                try proxy.set(.pass)
                #expect(await user.wait() == .code(0), "\(user.transcript)")
            }
        }

        @Test("A store that is silent over a copy for longer than the deadline, and answers otherwise, is waited for")
        func silentCopy() async throws {
            try await Self.behindProxy("cache: { deadline: 2s }") { mount, proxy in
                try await mount.python("write('f', b'f' * 1000)")
                try proxy.set(.delay(milliseconds: 6_000)) { request in
                    request.headers.contains { $0.lowercased().hasPrefix("x-amz-copy-source:") }
                }
                try await mount.python(
                    "os.rename('f', 'g'); assert read('g') == b'f' * 1000 and os.listdir('.') == ['g']")
                try proxy.set(.blackHole)
                try await mount.python(
                    """
                    start = time.time(); fails(errno.EIO, os.rename, 'g', 'h')
                    assert time.time() - start < 20, time.time() - start
                    """)
                try proxy.set(.pass)
            }
        }

        @Test(
            "A folder's rename that the daemon's death cuts short loses nothing and changes nothing",
            arguments: [Store.moto, .b2])
        func killedRename(store: Store) async throws {
            let owner = try TemporaryFolder("mount")
            var bucket = try await Bucket.make(in: store, below: owner.path)
            let proxy = try bucket.server.map { try FaultProxy(before: $0) }
            if let proxy { bucket.endpoint = proxy.endpoint }
            defer { proxy?.stop() }
            try await MountFixture.use([(MountOptions(), bucket)], in: owner) { mount in
                await mount.expectBadEnd()
                try await mount.shell("mkdir old; for i in $(seq 1 120); do echo $i > old/$i; done")
                try proxy?.set(.delay(milliseconds: 150)) { request in request.method == "PUT" }
                let slow =
                    #"{"latency": {"milliseconds": 300, "operation": "b2_copy_file", "bucket": "\#(bucket.name)"}}"#
                try await bucket.b2?.control(slow)
                let user = try await mount.background("os.rename('old', 'new')")
                try await eventually("a rename half done") {
                    let copies = try await bucket.keys().count { $0.hasPrefix("new/") }
                    return copies > 0 || user.poll() != nil
                }
                await mount.daemon?.signal(SIGKILL)
                #expect(await user.wait() != .code(0))
                try proxy?.set(.pass)
                try await bucket.b2?.control(#"{"clear": {"bucket": "\#(bucket.name)"}}"#)
                try await mount.start()
                let path = mount.path
                try await eventually("a mount") { try await ChildProcess.run(["ls", path], seconds: 10).succeeded }
                try await mount.shell(
                    """
                    for i in $(seq 1 120); do cat old/$i 2>/dev/null || cat new/$i; done | diff - <(seq 1 120)
                    [ ! -e new ] || for f in $(ls new); do [ "$(cat new/$f)" = $f ]; done
                    mkdir -p new; rsync -a --remove-source-files old/ new/; find old -depth -type d -delete
                    [ $(ls new | wc -l) = 120 ] && [ "$(ls)" = new ]
                    """)
            }
        }

        @Test("A daemon that is told to end at the moment at which it mounts leaves no mount behind")
        func endedWhileMounting() async throws {
            try await MountFixture.use(.folder) { mount in
                for _ in 0..<20 {
                    try await mount.stop()
                    try await mount.start()
                }
            }
        }

        @Test(
            "Unmount and stop drain: what is open is stored, also what only the kernel has of a shared map",
            arguments: Store.everyday)
        func drain(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                let held = Task {
                    try? await mount.python(
                        """
                        fd = os.open("open", os.O_RDWR | os.O_CREAT); os.write(fd, b"not closed")
                        other = os.open("map", os.O_RDWR | os.O_CREAT); os.ftruncate(other, 10000)
                        pages = mmap.mmap(other, 10000); pages[5:8] = b"map"
                        write(W + "/ready", b"")
                        while not os.path.exists(W + "/end"): time.sleep(0.05)
                        """, seconds: 60)
                }
                for _ in 0..<3000 where !FileManager.default.fileExists(atPath: mount.folder + "/ready") {
                    try await Task.sleep(for: .milliseconds(20))
                }
                try await mount.stop()
                try writeFile(mount.folder + "/end", "")
                _ = await held.value
                #expect(try await mount.bucket.content("open") == "not closed")
                #expect(try await mount.bucket.content("map").dropFirst(5).prefix(3) == "map")
                try await mount.start()
            }
        }
    }
}

import Foundation
import TestServers
import Testing

/// Open files beside other programs and other clients of the bucket.
extension MountTests {
    @Suite("Open handles")
    struct Handles {
        @Test(
            "Durable close: what close and fsync have acknowledged is in the store, whatever happens to the daemon",
            arguments: Store.describing)
        func durable(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                await mount.expectBadEnd()
                try await mount.python(
                    """
                    write("closed", b"closed"); write("large", b"l" * (20 << 20)); os.mkdir("d"); os.symlink("closed", "link")
                    fd = os.open("synced", os.O_WRONLY | os.O_CREAT); os.write(fd, b"synced"); os.fsync(fd)
                    import signal
                    os.kill(\(await mount.daemon?.pid ?? 0), signal.SIGKILL)
                    """)
                #expect(try await mount.bucket.content("closed") == "closed")
                #expect(try await mount.bucket.content("synced") == "synced")
                #expect(try await mount.bucket.content("large").utf8.count == 20 << 20)
                // The dead mount, which the kernel shows until then, is cleared at the next start.
                try await mount.start()
                let path = mount.path
                for _ in 0..<300 {
                    // Between the two the folder itself is seen.
                    let kind = try await ChildProcess.run(["stat", "-f", "-c", "%T", path], seconds: 10)
                    if kind.succeeded, kind.output.contains("fuse") { break }
                    try await Task.sleep(for: .milliseconds(100))
                }
                try await mount.shell(
                    "test -d d && test $(readlink link) = closed && test $(cat synced) = synced")
            }
        }

        @Test(
            "No silent overwrite: who writes what others have changed meanwhile keeps both", arguments: Store.everywhere
        )
        func conflict(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.bucket.put("note.txt", "base")
                async let writer = mount.python(
                    """
                    fd = os.open("note.txt", os.O_RDWR | os.O_TRUNC); new = os.open("new", os.O_WRONLY | os.O_CREAT)
                    os.write(fd, b"mine"); os.write(new, b"mine")
                    write(W + "/opened", b"")
                    while not os.path.exists(W + "/replaced"): time.sleep(0.02)
                    os.close(fd); os.close(new)
                    """)
                while !FileManager.default.fileExists(atPath: mount.folder + "/opened") {
                    try await Task.sleep(for: .milliseconds(20))
                }
                try await mount.bucket.put("note.txt", "theirs")
                try await mount.bucket.put("new", "theirs")
                try writeFile(mount.folder + "/replaced", "")
                _ = try await writer
                let keys = try await mount.bucket.keys()
                #expect(keys.count == 4)
                for key in keys {
                    let isTheirs = key == "note.txt" || key == "new"
                    #expect(isTheirs || key.contains(" (conflict "))
                    #expect(try await mount.bucket.content(key) == (isTheirs ? "theirs" : "mine"))
                }
            }
        }

        @Test(
            "One version per handle: a file replaced by others while it is open is read as it was or not at all, never mixed",
            arguments: Store.everywhere)
        func replaced(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.bucket.put("f", String(repeating: "o", count: 3_000_000))
                async let reader = mount.python(
                    """
                    fd = os.open("f", os.O_RDONLY); assert os.pread(fd, 4096, 0) == b"o" * 4096
                    write(W + "/opened", b"")
                    while not os.path.exists(W + "/replaced"): time.sleep(0.02)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    seen = b""
                    try:
                        while True:
                            piece = os.read(fd, 100_000)
                            if not piece: break
                            seen += piece
                        assert len(seen) == 3_000_000
                    except OSError as error: assert error.errno == errno.ESTALE
                    assert set(seen) <= {ord("o")}
                    """)
                while !FileManager.default.fileExists(atPath: mount.folder + "/opened") {
                    try await Task.sleep(for: .milliseconds(20))
                }
                try await mount.bucket.put("f", String(repeating: "n", count: 3_000_000))
                try writeFile(mount.folder + "/replaced", "")
                _ = try await reader
                try await mount.remount()
                try await mount.python("assert set(read('f')) == {ord('n')}")
            }
        }

        @Test(
            "A name unlinked while open is free for another file, for reading, writing and syncing",
            arguments: Store.describing)
        func unlinked(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    """
                    write("a", b"old"); reader = os.open("a", os.O_RDONLY); writer = os.open("a", os.O_RDWR); os.unlink("a")
                    write("a", b"new")
                    assert os.pread(reader, 10, 0) == b"old"
                    os.pwrite(writer, b"X", 0); os.fsync(writer); os.ftruncate(writer, 2)
                    os.fchmod(writer, 0o600); os.utime(writer, (1, 1)); os.setxattr(writer, "user.a", b"1")
                    assert os.pread(reader, 10, 0) == b"Xl" and os.fstat(reader).st_size == 2
                    os.close(reader); os.close(writer)
                    assert read("a") == b"new" and stat.S_IMODE(os.stat("a").st_mode) == 0o644
                    os.mkdir("d"); held = os.open("d", os.O_RDONLY | os.O_DIRECTORY); os.rmdir("d")
                    assert os.listdir(held) == []
                    fails(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=held)
                    fails(errno.ENOENT, os.mkdir, "x", dir_fd=held)
                    os.mkdir("d"); assert os.listdir("d") == [] and os.stat("d").st_ino != os.fstat(held).st_ino
                    """)
                #expect(try await mount.bucket.content("a") == "new")
            }
        }

        @Test(
            "Large files written out of order, over parts that are sent, cut while they are sent and synced on the way",
            arguments: Store.everywhere)
        func streams(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    """
                    random.seed(3); M = 1 << 20; SIZE = 36
                    data = bytearray(random.randbytes(SIZE * M))
                    def put(fd, block): os.pwrite(fd, data[block * M:(block + 1) * M], block * M)
                    def scenario(name, steps):
                        fd = os.open(name, os.O_RDWR | os.O_CREAT)
                        steps(fd); os.close(fd)
                        assert read(name) == data, name
                        write(W + "/" + name, data)
                    def rewritten(fd):
                        for block in range(SIZE):
                            put(fd, block)
                            if block == 30: data[3 * M:4 * M] = random.randbytes(M); put(fd, 3)
                    def synced(fd):
                        for block in range(SIZE):
                            put(fd, block)
                            if block % 9 == 8: os.fsync(fd)
                    def cut(fd):
                        for block in range(SIZE):
                            put(fd, block)
                            if block == 28:
                                os.ftruncate(fd, 7 * M); os.ftruncate(fd, 29 * M)
                                data[7 * M:29 * M] = bytes(22 * M)
                    def shuffled(fd):
                        for block in random.sample(range(SIZE), SIZE): put(fd, block)
                    def gap(fd):
                        for block in range(20): put(fd, block)
                        for block in range(30, SIZE): put(fd, block)
                        data[20 * M:30 * M] = bytes(10 * M)
                    for steps in (rewritten, synced, cut, shuffled, gap): scenario(steps.__name__, steps)
                    fd = os.open("gone", os.O_WRONLY | os.O_CREAT)
                    for block in range(25): put(fd, block)
                    os.unlink("gone"); os.close(fd)
                    """, seconds: 300)
                try await mount.remount()
                try await mount.shell("for f in *; do cmp $f $W/$f; done; test $(ls | wc -l) = 5")
            }
        }

        @Test(
            "Programs that change one file at once, by writes, maps, holes, copies and truncation, agree with local files",
            arguments: Store.everywhere)
        func exerciser(store: Store) async throws {
            let seed = UInt32.random(in: 0...999_999)
            try await MountFixture.use(store) { mount in
                for round in 0..<2 {
                    try await mount.python(Self.exerciserScript(seed: seed + UInt32(round), files: 4), seconds: 300)
                    try await mount.remount()
                    try await mount.shell("for f in f*; do cmp $f $W/$f; done # seed \(seed)")
                }
            }
        }

        /// As fsx does it, each program on a file of its own, compared with a file on local disk at each read.
        private static func exerciserScript(seed: UInt32, files: Int) -> String {
            """
            import ctypes, mmap
            libc = ctypes.CDLL(None, use_errno=True)
            def fallocate(fd, mode, offset, count):
                if libc.fallocate64(fd, mode, ctypes.c_long(offset), ctypes.c_long(count)): raise OSError(ctypes.get_errno(), "fallocate")
            MOST = 400_000
            def run(name, R):
                local = W + "/" + name
                fd, ref = os.open(name, os.O_RDWR | os.O_CREAT), os.open(local, os.O_RDWR | os.O_CREAT)
                size = lambda: os.fstat(ref).st_size
                block = mmap.mmap(-1, 1 << 19)
                for step in range(250):
                    offset = R.randrange(MOST); count = min(MOST - offset, int(2 ** R.uniform(0, 18)))
                    kind = R.randrange(13)
                    if kind < 3:
                        data = R.randbytes(count); os.pwrite(fd, data, offset); os.pwrite(ref, data, offset)
                    elif kind == 3:
                        length = R.randrange(MOST)
                        os.ftruncate(fd, length) if R.random() < .5 else os.truncate(name, length)
                        os.ftruncate(ref, length)
                    elif kind == 4:
                        mode = R.choice([3, 16, 17, 0, 1]); fallocate(fd, mode, offset, count); fallocate(ref, mode, offset, count)
                    elif kind == 5 and size():
                        offset %= size(); count = min(count, size() - offset); page = offset // 4096 * 4096
                        data = R.randbytes(count)
                        with mmap.mmap(fd, offset - page + count, offset=page) as pages:
                            pages[offset - page:] = data
                            if R.random() < .5: pages.flush()
                        os.pwrite(ref, data, offset)
                    elif kind == 6 and size():
                        offset %= size(); count = min(count, size() - offset); page = offset // 4096 * 4096
                        with mmap.mmap(fd, offset - page + count, offset=page) as pages:
                            assert pages[offset - page:] == os.pread(ref, count, offset), (step, "map")
                    elif kind == 7 and size() + count <= MOST:
                        data = R.randbytes(count)
                        with open(name, "ab") as file: file.write(data)
                        os.pwrite(ref, data, size())
                    elif kind == 8:
                        os.fsync(fd)
                        if R.random() < .5: os.close(fd); fd = os.open(name, os.O_RDWR)
                    elif kind == 9 and offset < size():
                        target = R.randrange(MOST); count = min(count, MOST - target)
                        if abs(target - offset) >= count:
                            done = os.copy_file_range(fd, fd, count, offset, target)
                            os.pwrite(ref, os.pread(ref, done, offset), target)
                    elif kind == 10:
                        offset = offset // 4096 * 4096; count = -(-count // 4096) * 4096
                        direct = os.open(name, os.O_RDWR | os.O_DIRECT); part = memoryview(block)[:count]
                        if R.random() < .5 and offset + count <= MOST:
                            part[:] = R.randbytes(count); os.pwritev(direct, [part], offset); os.pwritev(ref, [part], offset)
                        else:
                            done = os.preadv(direct, [part], offset)
                            assert part[:done] == os.pread(ref, count, offset), (step, "direct")
                        part.release(); os.close(direct)
                    elif kind == 11 and offset < size():
                        try: data = os.lseek(fd, offset, os.SEEK_DATA)
                        except OSError as error: assert error.errno == errno.ENXIO; data = size()
                        assert not any(os.pread(ref, data - offset, offset)), (step, "hole")
                        assert os.lseek(fd, offset, os.SEEK_HOLE) <= size()
                    assert os.pread(fd, count, offset) == os.pread(ref, count, offset), (step, kind, offset, count)
                    assert os.fstat(fd).st_size == size(), (step, kind)
                os.close(fd)
            children = []
            for number in range(\(files)):
                child = os.fork()
                if child == 0:
                    try: run(f"f{number}", random.Random(\(seed) * 10 + number)); os._exit(0)
                    except BaseException as error: print(f"seed \(seed), file {number}:", repr(error), file=sys.stderr, flush=True); os._exit(1)
                children.append(child)
            assert not any([os.waitpid(child, 0)[1] for child in children])
            """
        }

        @Test("Names at the edge of what a store and a kernel take", arguments: Store.faithful)
        func names(store: Store) async throws {
            // B2 takes 250 bytes between slashes, and no control characters; both are refused at once.
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    """
                    b2, longest = \(store == .b2 ? "True, 250" : "False, 255")
                    names = ["tab\\t", "back\\\\slash", "q'\\"", "*?[", "u\\u0308", "\\u00fc", "\\U0001F600" * 63, "n" * 255, "-rf",
                        " lead", "trail ", "a%20b", "a+b", "a&b=c;d", "#h", "~", "..a", "...", "<xml>&amp;", "x" * 200 + "é" * 27]
                    names = [name for name in names if len(name.encode()) <= longest and not (b2 and "\\t" in name)]
                    for name in names:
                        write(name, name.encode()); os.mkdir("d" + name[:60]); write("d" + name[:60] + "/" + name, b"in")
                    assert len(os.listdir(".")) == 2 * len(names)
                    fails(errno.ENAMETOOLONG, os.open, "n" * (longest + 1), os.O_CREAT)
                    fails(errno.ENAMETOOLONG, os.stat, "n" * 256)
                    fails(errno.ENOENT, os.stat, "#h\\n")
                    if b2:
                        fails(errno.EINVAL, os.open, "tab\\t", os.O_CREAT)
                        fails(errno.EINVAL, os.rename, "a+b", "a\\nb")
                        fails(errno.EINVAL, os.mkdir, "del\\x7f")
                    write(W + "/names", repr(names).encode())
                    path = ""
                    while len(path) + 201 <= 1000: path += "k" * 200 + "/"; os.mkdir(path)
                    name = "z" * (1022 - len(path))
                    write(path + name, b"deep"); write("short", b"")
                    fails(errno.ENAMETOOLONG, write, path + name + "zzz", b"")
                    fails(errno.ENAMETOOLONG, os.rename, "short", path + name + "zzz")
                    fails(errno.ENAMETOOLONG, os.rename, "k" * 200, "K" * 240)
                    assert read(path + name) == b"deep" and os.path.exists("short")
                    """)
                try await mount.remount()
                try await mount.python(
                    """
                    names = eval(read(W + "/names"))
                    assert set(os.listdir(".")) == set(names) | {"d" + name[:60] for name in names} | {"short", "k" * 200}
                    for name in names: assert read(name) == name.encode() and read("d" + name[:60] + "/" + name) == b"in"
                    """)
            }
        }
    }
}

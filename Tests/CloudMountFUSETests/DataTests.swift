import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import Testing

@testable import CloudMountFUSE

@Suite("Data through a mount")
struct DataTests {
    @Test("Bytes written are the bytes read, at any offset, in requests of up to 1 MiB")
    func roundTrip() async throws {
        let files = FakeFileSystem()
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                import os, random
                random.seed(4)
                path = '\(mount.path)/file'
                model = bytearray(random.randbytes(5 << 20))
                f = os.open(path, os.O_RDWR | os.O_CREAT)
                written = 0
                while written < len(model): written += os.pwrite(f, model[written:written + (4 << 20)], written)
                for _ in range(60):
                    at = random.randrange(len(model)); piece = random.randbytes(random.randrange(1, 9000))
                    os.pwrite(f, piece, at); model[at:at + len(piece)] = piece
                os.fsync(f); os.fdatasync(f)
                os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
                print(os.pread(f, len(model) + 5, 0) == model, os.lseek(f, 3, os.SEEK_HOLE) == len(model))
                os.close(f)
                """)
            #expect(outcome.output == "True True\n")
            #expect(files.count("write") < 5 + 60 * 2)
            #expect(files.count("fsync") == 2)
            #expect(files.state.withLock { $0.calls }.contains("fsync data"))
        }
    }

    @Test("A sequential reader's requests grow to 1 MiB with the read-ahead that was asked for")
    func readAhead() async throws {
        try requireRoot()
        let files = FakeFileSystem()
        try files.make("large", bytes: [UInt8](repeating: 5, count: 16 << 20))
        try await TestMount.use(files, options: { $0.readAhead = 2 << 20 }) { mount in
            let text = try await output(
                of: "cat /sys/class/bdi/$(mountpoint -d .)/read_ahead_kb; cat large | cksum", in: mount)
            #expect(text.hasPrefix("2048\n"))
            #expect(text.hasSuffix(" 16777216"))
            #expect(files.count("read") <= 24)
        }
    }

    @Test("A write does not ask for security.capability each time, and set-id bits are dropped when the kernel says so")
    func setID() async throws {
        try requireRoot()
        let files = FakeFileSystem()
        try files.make("program", permissions: 0o6777, bytes: [1])
        try files.make("other", permissions: 0o6777, bytes: [1])
        try files.make("third", permissions: 0o6777, bytes: [1, 2, 3])
        try await TestMount.use(files, options: { $0.allowOther = true }) { mount in
            let outcome = try await Child.python(
                """
                import os
                for name in ['program', 'other', 'third']: os.stat('\(mount.path)/' + name)
                f = os.open('\(mount.path)/plain', os.O_WRONLY | os.O_CREAT)
                for i in range(20): os.write(f, b'x')
                os.close(f)
                os.setgid(65534); os.setuid(65534)
                f = os.open('\(mount.path)/program', os.O_WRONLY)
                os.write(f, b'x')
                os.close(f)
                os.close(os.open('\(mount.path)/other', os.O_WRONLY | os.O_TRUNC))
                os.truncate('\(mount.path)/third', 1)
                """)
            #expect(outcome.status == 0, "\(outcome.output)")
            let calls = files.state.withLock { $0.calls }
            #expect(calls.contains("write clear set-id"))
            #expect(calls.contains("open clear set-id"))
            #expect(calls.contains("setattr clear set-id"))
            // Once for each file, when the kernel knows nothing of it yet.
            #expect(files.count("getxattr") <= 4, "\(calls)")
        }
    }

    @Test("A read answered in thousands of slices is whole")
    func slices() async throws {
        let files = FakeFileSystem(bytesPerSlice: 7)
        try files.make("file", bytes: (0..<100_000).map { UInt8(truncatingIfNeeded: ($0 * 31) >> 3) })
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                data = open('\(mount.path)/file', 'rb').read()
                print(data == bytes((i * 31 >> 3) & 255 for i in range(100000)))
                """)
            #expect(outcome.output == "True\n")
        }
    }

    @Test("fallocate and copy_file_range reach the file system")
    func ranges() async throws {
        let files = FakeFileSystem()
        try files.make("from", bytes: Array("0123456789".utf8))
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                import os
                a = os.open('\(mount.path)/from', os.O_RDONLY); b = os.open('\(mount.path)/to', os.O_RDWR | os.O_CREAT)
                print(os.copy_file_range(a, b, 6, 2), os.pread(b, 10, 0))
                os.posix_fallocate(b, 100, 50)
                """)
            #expect(outcome.output == "6 b'234567'\n")
            #expect(files.state.withLock { $0.calls }.contains("fallocate 0 100 50"))
        }
    }

    @Test("Locks stay with the kernel")
    func locks() async throws {
        let files = FakeFileSystem()
        try files.make("file")
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                import fcntl, os
                path = '\(mount.path)/file'
                def child(lock):
                    if os.fork() == 0:
                        f = open(path, 'r+')
                        try: lock(f); os._exit(0)
                        except BlockingIOError: os._exit(7)
                    return os.waitstatus_to_exitcode(os.wait()[1])
                f = open(path, 'r+')
                fcntl.flock(f, fcntl.LOCK_EX)
                print(child(lambda g: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)))
                fcntl.lockf(f, fcntl.LOCK_EX)
                print(child(lambda g: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB)))
                fcntl.flock(f, fcntl.LOCK_UN); fcntl.lockf(f, fcntl.LOCK_UN)
                print(child(lambda g: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)))
                """)
            #expect(outcome.output == "7\n7\n0\n")
        }
    }

    @Test("A shared writable mapping reads and writes")
    func mapping() async throws {
        let files = FakeFileSystem()
        try files.make("file", bytes: [UInt8](repeating: 65, count: 10000))
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                import mmap, os
                f = os.open('\(mount.path)/file', os.O_RDWR)
                m = mmap.mmap(f, 10000)
                m[5000:5003] = b'xyz'; m.flush(); m.close(); os.close(f)
                print(open('\(mount.path)/file', 'rb').read()[4999:5004])
                """)
            #expect(outcome.output == "b'AxyzA'\n")
        }
        #expect(files.node(named: "file")?.bytes[4999..<5004].elementsEqual("AxyzA".utf8) == true)
    }

    @Test("What is not supported says so without ENOSYS")
    func unsupported() async throws {
        let files = FakeFileSystem()
        try files.make("file")
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                import ctypes, os, errno, fcntl, select
                path = '\(mount.path)'
                def say(call):
                    try: return str(call())
                    except OSError as error: return errno.errorcode[error.errno]
                f = os.open(path + '/file', os.O_RDWR)
                print(say(lambda: fcntl.ioctl(f, 0x80086601, b'12345678')), say(lambda: os.open(path, os.O_TMPFILE | os.O_RDWR)),
                      say(lambda: os.link(path + '/file', path + '/hard')), ctypes.CDLL(None).syncfs(f), select.select([f], [f], [], 5)[1] == [f])
                """)
            #expect(outcome.output == "ENOTTY ENOTSUP EPERM 0 True\n")
        }
    }

    @Test("A dropped reply answers EIO")
    func dropped() async throws {
        let files = FakeFileSystem()
        try files.make("dropped", bytes: [1, 2, 3])
        try await TestMount.use(files) { mount in
            let outcome = try await Child.shell("cat \(mount.path)/dropped")
            #expect(outcome.status == 1)
            #expect(outcome.output.contains("Input/output error"))
        }
    }

    @Test("A signal interrupts a read that waits", arguments: [SIGINT, SIGKILL])
    func interrupted(signal: Int32) async throws {
        let files = FakeFileSystem()
        try files.make("pending", bytes: [1, 2, 3])
        try await TestMount.use(files) { mount in
            let path = mount.path
            let outcome = try await Child.pool.run { () throws(Child.Failure) in
                // The kernel tells of interrupts only when the caller itself waits, not its read-ahead.
                let child = try Child.start(["dd", "iflag=direct", "bs=4096", "if=\(path)/pending", "of=/dev/null"])
                while files.count("read") == 0 { usleep(1000) }
                kill(child.process, signal)
                return try Child.wait(child)
            }
            #expect(outcome.status == 128 + signal)
            try await eventually { files.openHandles == 0 }
        }
    }
}

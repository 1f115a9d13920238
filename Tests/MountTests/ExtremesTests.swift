import TestServers
import Testing

extension MountTests {
    @Suite("System calls at the ends of what they take", .serialized)
    struct Extremes {
        /// `libc` with results as numbers or the names of errors; `same(what, want, got)`.
        private static let tools = """
            import ctypes, struct
            libc = ctypes.CDLL(None, use_errno=True); LL, SIZE, INT = ctypes.c_longlong, ctypes.c_size_t, ctypes.c_int
            def call(name, *arguments):
                function = getattr(libc, name); function.restype = ctypes.c_long; ctypes.set_errno(0)
                result = function(*arguments)
                if result in (-1, 2**32 - 1): return errno.errorcode[ctypes.get_errno()]
                return result
            wrong = []
            def same(what, want, got):
                if got not in (want if isinstance(want, tuple) else (want,)): wrong.append(f"{what}: {got} instead of {want}")
            TOP = 2**63 - 1
            fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644); os.write(fd, b"0123456789"); os.fsync(fd)
            buffer = ctypes.create_string_buffer(70000)

            """
        /// The file is what it was, and the daemon serves.
        private static let end = """

            assert not wrong, "\\n".join(wrong)
            assert os.fstat(fd).st_size == 10 and os.pread(fd, 20, 0) == b"0123456789"
            os.close(fd); write("after", b"ok"); assert read("after") == b"ok" and read("f") == b"0123456789"
            """

        @Test("Offsets, lengths and modes of reads, writes, truncate, fallocate and lseek", arguments: Store.everyday)
        func offsets(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    Self.tools + """
                        for offset, count, want in ((TOP, 0, 0), (TOP, 1, "EINVAL"), (TOP - 1, 1, 0), (TOP - 4096, 4096, 0), (2**62, 4096, 0),
                                                    (2**53, 1, 0), (-1, 1, "EINVAL"), (-TOP - 1, 1, "EINVAL"), (10, 1, 0), (9, 4096, 1)):
                            same(f"pread {count} at {offset}", want, call("pread64", fd, buffer, SIZE(count), LL(offset)))
                        for offset, count, want in ((TOP, 0, 0), (TOP, 1, "EINVAL"), (TOP - 1, 1, "EFBIG"), (TOP - 4096, 4096, "EFBIG"),
                                                    (2**62, 1, "EFBIG"), (2**53, 4096, "EFBIG"), (-1, 1, "EINVAL"), (-TOP - 1, 1, "EINVAL")):
                            same(f"pwrite {count} at {offset}", want, call("pwrite64", fd, buffer, SIZE(count), LL(offset)))
                        for count in (2**63, 2**64 - 1):
                            same("a read of that many", ("EFAULT", "EINVAL"), call("pread64", fd, buffer, SIZE(count), LL(0)))
                        for size, want in ((TOP, "EFBIG"), (TOP - 1, "EFBIG"), (2**62, "EFBIG"), (2**53 + 1, "EFBIG"), (-1, "EINVAL"), (-TOP - 1, "EINVAL")):
                            same(f"ftruncate {size}", want, call("ftruncate64", fd, LL(size))); same(f"truncate {size}", want, call("truncate64", b"f", LL(size)))
                        for mode in (0, 1, 3, 8, 16, 17, 32, 64, 128, 2, 2**31 - 1, -1, -2**31):
                            known = mode in (0, 1, 3, 16, 17)
                            for offset, count in ((TOP, 1), (TOP - 1, 1), (0, TOP), (1, TOP), (TOP, TOP), (2**62, 2**62), (2**53, 1), (5, 2**53)):
                                same(f"fallocate {mode} {offset} {count}", ("EFBIG",) if known else ("EFBIG", "EOPNOTSUPP", "ENOTSUP", "EINVAL"),
                                     call("fallocate64", fd, INT(mode), LL(offset), LL(count)))
                            for offset, count in ((0, 0), (0, -1), (-1, 1), (-TOP - 1, -TOP - 1)):
                                same(f"fallocate {mode} {offset} {count}", ("EINVAL", "EOPNOTSUPP", "ENOTSUP"), call("fallocate64", fd, INT(mode), LL(offset), LL(count)))
                        for whence, offset, want in ((3, 0, 0), (3, 9, 9), (4, 0, 10), (4, 9, 10), (5, 0, "EINVAL"), (-1, 0, "EINVAL"), (2**31 - 1, 0, "EINVAL"),
                                                     (0, TOP, TOP), (0, -1, "EINVAL"), (1, TOP, "EINVAL"), (2, TOP, "EINVAL"), (2, -11, "EINVAL")):
                            same(f"lseek {whence} {offset}", (want, "EOVERFLOW") if want == "EINVAL" else want, call("lseek64", fd, LL(offset), INT(whence)))
                        for whence in (3, 4):
                            for offset in (10, 11, -1, -TOP - 1, TOP, TOP - 1, 2**53):
                                same(f"lseek {whence} {offset}", "ENXIO", call("lseek64", fd, LL(offset), INT(whence)))
                        same("posix_fadvise", 0, call("posix_fadvise64", fd, LL(TOP), LL(TOP), 4))
                        for offset, count in ((TOP, 1), (-1, 1)): same("sync_file_range", "EINVAL", call("sync_file_range", fd, LL(offset), LL(count), 7))
                        other = os.open("g", os.O_RDWR | os.O_CREAT, 0o644)
                        for source, target, count, flags, want in (
                                (TOP, 0, 1, 0, 0), (0, TOP, 1, 0, "EFBIG"), (TOP, TOP, TOP, 0, ("EFBIG", "EOVERFLOW")), (-1, 0, 1, 0, ("EOVERFLOW", "EINVAL")),
                                (0, -1, 1, 0, ("EOVERFLOW", "EINVAL")), (0, 2**62, 10, 0, "EFBIG"), (0, 0, 1, 1, "EINVAL"), (0, 0, 1, 2**32 - 1, "EINVAL"),
                                (0, 0, 0, 0, 0), (0, 0, TOP, 0, 10), (0, 0, 2**64 - 1, 0, (10, "EINVAL", "EOVERFLOW"))):
                            got = call("copy_file_range", fd, ctypes.byref(LL(source)), other, ctypes.byref(LL(target)), SIZE(count), ctypes.c_uint(flags))
                            same(f"copy_file_range {source} {target} {count} {flags}", want, got)
                        os.close(other); assert read("g") == b"0123456789"
                        here = os.open(".", os.O_RDONLY)
                        for offset in (TOP, 2**62, 2**31): same("lseek of a directory", offset, call("lseek64", here, LL(offset), 0)); same("getdents", 0, call("syscall", 217, here, buffer, 70000))
                        os.close(here); assert sorted(os.listdir(".")) == ["f", "g"]
                        """ + Self.end)
            }
        }

        @Test("Times, names, attributes, flags of rename and open, locks, ioctls", arguments: Store.faithful)
        func others(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    Self.tools + """
                        class Time(ctypes.Structure): _fields_ = [("s", ctypes.c_long), ("n", ctypes.c_long)]
                        for seconds in (0, -1, 2**31, 2**32, 2**34, 253402300800, TOP, -TOP - 1):
                            for nano in (0, 999999999, 10**9, -1, TOP, 0x3fffffff):
                                got = call("utimensat", -100, b"f", (Time * 2)(Time(seconds, nano), Time(seconds, nano)), 0)
                                same(f"utimensat {seconds} {nano}", 0 if nano in (0, 999999999, 0x3fffffff) else "EINVAL", got)
                                if got == 0 and nano == 999999999 and abs(seconds) < 2**34: same("mtime", seconds * 10**9 + nano, os.stat("f").st_mtime_ns)
                        for length in (254, 255, 256, 4095):
                            name, other = b"n" * length, b"m" * length
                            fits = length < (251 if \(store == .b2 ? "True" : "False") else 256)
                            same(f"mkdir {length}", 0 if fits else "ENAMETOOLONG", call("mkdir", name, 0o755))
                            same(f"rename {length}", 0 if fits else ("ENAMETOOLONG", "ENOENT"), call("rename", name, other))
                            same(f"rmdir {length}", 0 if fits else ("ENAMETOOLONG", "ENOENT"), call("rmdir", other))
                            same(f"symlink {length}", 0 if fits else "ENAMETOOLONG", call("symlink", b"x", name))
                            same(f"unlink {length}", 0 if fits else ("ENAMETOOLONG", "ENOENT"), call("unlink", name))
                            same(f"mknod {length}", 0 if fits else "ENAMETOOLONG", call("mknod", name, 0o100644, 0))
                            same(f"unlink {length}", 0 if fits else ("ENAMETOOLONG", "ENOENT"), call("unlink", name))
                        for length, want in ((4096, "ENAMETOOLONG"), (8000, "ENAMETOOLONG")): same("a target", want, call("symlink", b"t" * length, b"l"))
                        for size, want in ((0, 0), (1, 0), (65535, ("ENOSPC", "E2BIG")), (65536, ("ENOSPC", "E2BIG")), (65537, "E2BIG"), (2**32, "E2BIG"), (2**64 - 1, "E2BIG")):
                            same(f"setxattr of {size}", want, call("setxattr", b"f", b"user.x", buffer, SIZE(size), 0))
                        for size in (1, 65536, 65537, 2**32): same(f"getxattr of {size}", 1, call("getxattr", b"f", b"user.x", buffer, SIZE(size)))
                        same("its size", 1, call("getxattr", b"f", b"user.x", None, SIZE(0))); same("listxattr", "ERANGE", call("listxattr", b"f", buffer, SIZE(1)))
                        for name, want in ((b"user.", "EINVAL"), (b"trusted.", "EINVAL"), (b"user." + b"a" * 251, "ERANGE"), (b"", "ERANGE"), (b"x", ("ENOTSUP", "EOPNOTSUPP")),
                                           (b"system.a", ("ENOTSUP", "EOPNOTSUPP")), (b"user.\\xff", "EINVAL"), (b"user.cloudmount.x", "EPERM")):
                            same(f"setxattr {name}", want, call("setxattr", b"f", name, b"v", SIZE(1), 0))
                        for flags, want in ((1, "EEXIST"), (3, "EEXIST"), (4, "EINVAL"), (-1, "EINVAL"), (2**31 - 1, "EINVAL")):
                            same(f"setxattr flags {flags}", want, call("setxattr", b"f", b"user.x", b"v", SIZE(1), INT(flags)))
                        write("g", b"g"); write("h", b"h")
                        for flags, want in ((1, "EEXIST"), (2, "EINVAL"), (3, "EINVAL"), (4, "EINVAL"), (5, ("EINVAL", "EEXIST")), (6, "EINVAL"), (8, "EINVAL"), (2**31, "EINVAL"), (2**32 - 1, "EINVAL")):
                            same(f"renameat2 {flags}", want, call("renameat2", -100, b"h", -100, b"g", ctypes.c_uint(flags)))
                        assert read("g") == b"g" and read("h") == b"h"
                        def lock(command, kind, whence, start, length):
                            return call("fcntl", fd, INT(command), ctypes.create_string_buffer(struct.pack("hhqqi4x", kind, whence, start, length, 0), 32))
                        for command in (6, 37):
                            for whence, start, length, want in ((0, 0, 0, 0), (0, TOP, 0, 0), (0, TOP, 1, 0), (0, TOP, 2, "EOVERFLOW"), (0, 1, TOP, 0), (0, -1, 1, "EINVAL"),
                                                                (0, 0, -1, "EINVAL"), (0, TOP, -TOP, 0), (2, TOP, 0, "EOVERFLOW"), (2, 0, -5, 0), (3, 0, 0, "EINVAL")):
                                for kind in (0, 1, 2): same(f"lock {command} {kind} {whence} {start} {length}", want, lock(command, kind, whence, start, length))
                            for kind in (3, -1, 32767): same(f"lock {kind}", "EINVAL", lock(command, kind, 0, 0, 0))
                        for command in (0, 0x5401, 0x6601, 0x80086601, 0x40086602, 2**31, 2**32 - 1, 0x801c581f, 0xc0185879):
                            same(f"ioctl {command:#x}", ("ENOTTY", "EOPNOTSUPP", "ENOTSUP"), call("ioctl", fd, ctypes.c_ulong(command), buffer))
                        for mode, want in ((0o040000, "EPERM"), (0o120000, "EINVAL"), (0o170000, "EINVAL"), (0o030000, "EINVAL"), (2**32 - 1, "EINVAL")):
                            same(f"mknod {mode:o}", want, call("mknod", b"made", ctypes.c_uint(mode), ctypes.c_ulong(0)))
                        same("mknod of a device beyond all", "EINVAL", call("mknod", b"made", 0o20600, ctypes.c_ulong(2**64 - 1)))
                        for device in (2**32 - 1, 2**20):
                            same("mknod", 0, call("mknod", b"made", 0o20600, ctypes.c_ulong(device))); assert os.lstat("made").st_rdev == device; os.unlink("made")
                        for owner in (2**32 - 2, 2**31, 0): same(f"chown {owner}", 0, call("chown", b"f", ctypes.c_uint(owner), ctypes.c_uint(owner))); assert os.stat("f").st_uid == owner
                        for mode in (2**32 - 1, 0o177777, 0o644): same(f"chmod {mode:o}", 0, call("chmod", b"f", ctypes.c_uint(mode))); assert stat.S_IMODE(os.stat("f").st_mode) == mode & 0o7777
                        for flags in (-1, 2**31 - 1): same(f"open {flags}", ("ENOTDIR", "EINVAL"), call("open", b"f", INT(flags), 0o600))
                        for mask in (8, -1): same(f"access {mask}", "EINVAL", call("access", b"f", INT(mask)))
                        """ + Self.end)
            }
        }
    }
}

import CloudMountFilesystem
import CloudMountVFS
import Glibc
import Synchronization
import Testing

@testable import CloudMountFUSE

@Suite("Attributes through a mount")
struct AttributeTests {
    @Test("stat tells what the file system said, with the time of birth")
    func status() async throws {
        let files = FakeFileSystem()
        let inode = try files.make("file", permissions: 0o640, bytes: [UInt8](repeating: 7, count: 1025))
        files.change(inode) { node in
            node.attributes.uid = 12
            node.attributes.gid = 34
            node.attributes.linkCount = 1
            node.attributes.modified = Timestamp(seconds: 1_234_567_890, nanoseconds: 123_456_789)
            node.attributes.accessed = Timestamp(seconds: -5, nanoseconds: 250_000_000)
            node.attributes.changed = Timestamp(seconds: 4_294_967_296 + 7, nanoseconds: 1)
        }
        try await TestMount.use(files) { mount in
            let text = try await output(of: "TZ=UTC stat -c '%A %u %g %h %s %b %i %.9X %.9Y %.9Z %.9W' file", in: mount)
            let birth = "1000000000.123456789"
            #expect(
                text
                    == "-rw-r----- 12 34 1 1025 3 \(inode) -4.750000000 1234567890.123456789 4294967303.000000001 \(birth)"
            )
        }
    }

    @Test("Blocks are of what takes room where that is known, by stat and by statx")
    func blocks() async throws {
        let files = FakeFileSystem(validFor: .zero)
        let sparse = try files.make("sparse", bytes: [UInt8](repeating: 0, count: 100_000))
        try files.make("whole", bytes: [UInt8](repeating: 7, count: 100_000))
        files.change(sparse) { $0.attributes.allocated = 4096 }
        try await TestMount.use(files) { mount in
            let path = mount.path
            let outcome = try await Child.python(
                """
                import os
                print(os.stat('\(path)/sparse').st_blocks, os.stat('\(path)/whole').st_blocks)
                """)
            #expect(outcome.output == "8 196\n")
            // stat(1) asks with statx(2), and for the time of birth the kernel sends FUSE_STATX.
            #expect(try await output(of: "stat -c '%b %W' sparse whole", in: mount) == "8 1000000000\n196 1000000000")
            files.change(sparse) { $0.attributes.allocated = 0 }
            #expect(try await output(of: "stat -c '%b' sparse", in: mount) == "0")
        }
    }

    @Test("Times and owners change only where the kernel says so: UTIME_OMIT, UTIME_NOW, a uid of -1")
    func partialChanges() async throws {
        try requireRoot()
        let files = FakeFileSystem()
        try files.make("file")
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                import ctypes, os
                path = b'\(mount.path)/file'
                libc = ctypes.CDLL(None, use_errno=True)
                NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
                def times(*pairs):
                    values = (ctypes.c_long * 4)(*[word for pair in pairs for word in pair])
                    assert libc.utimensat(-100, path, values, 0) == 0, ctypes.get_errno()
                    status = os.stat(path)
                    print(status.st_atime_ns, status.st_mtime_ns)
                times((11, 5), (22, 7))
                times((0, OMIT), (33, 0))
                times((44, 0), (0, OMIT))
                times((0, NOW), (0, OMIT))
                times((0, OMIT), (0, NOW))
                os.chown(path, 5, -1); os.chown(path, -1, 6); os.chown(path, -1, -1)
                status = os.stat(path)
                print(status.st_uid, status.st_gid)
                """)
            #expect(
                outcome.output == """
                    11000000005 22000000007
                    11000000005 33000000000
                    44000000000 33000000000
                    1600000000000000000 33000000000
                    1600000000000000000 1600000000000000000
                    5 6

                    """)
        }
    }

    @Test("ACLs are the kernel's to enforce where the mount has them, and unsupported where it has not")
    func acls() async throws {
        try requireRoot()
        let asNobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
        // u::rw-, u:65534:r--, g::---, m::r--, o::---
        let list = "0200000001000600ffffffff02000400feff000004000000ffffffff10000400ffffffff20000000ffffffff"
        for acl in [true, false] {
            let files = FakeFileSystem(validFor: .zero)
            try files.make("file", permissions: 0o640, bytes: Array("yes".utf8))
            try await TestMount.use(
                files,
                options: {
                    $0.allowOther = true
                    $0.acl = acl
                }
            ) { mount in
                // FUSE_POSIX_ACL of linux/fuse.h.
                #expect(mount.mount.session.agreed & (1 << 20) == (acl ? 1 << 20 : 0))
                let text = try await output(
                    of: """
                        \(asNobody) cat file 2>&1
                        setfattr -n system.posix_acl_access -v 0x\(list) file 2>&1
                        \(asNobody) cat file 2>&1; true
                        """, in: mount)
                #expect(text.hasPrefix("cat: file: Permission denied"))
                #expect(text.hasSuffix("yes") == acl, "\(text)")
                #expect(text.contains("not supported") != acl, "\(text)")
            }
        }
    }

    @Test("chmod, chown, truncate and touch reach the file system as changes")
    func changes() async throws {
        let files = FakeFileSystem()
        try files.make("file", bytes: Array("0123456789".utf8))
        try await TestMount.use(files) { mount in
            let text = try await output(
                of: """
                    chmod 4711 file; chown 5:6 file; truncate -s 4 file; touch -d '2020-02-02 02:02:02.5 UTC' file
                    TZ=UTC stat -c '%a %u %g %s %.9Y' file; cat file
                    """, in: mount)
            // chown clears set-user-id for whoever may not set it; root may, and chmod came first.
            #expect(text.hasSuffix("5 6 4 1580608922.500000000\n0123"))
            #expect(files.node(named: "file")?.attributes.permissions ?? 0 & 0o777 == 0o711)
        }
    }

    @Test("A name that does not exist is remembered by the kernel for as long as it was told")
    func negativeEntries() async throws {
        let files = FakeFileSystem()
        try await TestMount.use(files) { mount in
            let text = try await output(of: "for i in 1 2 3; do stat absent 2>&1; done; true", in: mount)
            #expect(text.contains("No such file or directory"))
            #expect(files.count("lookup") == 1)
        }
        let forgetful = FakeFileSystem(validFor: .zero)
        try await TestMount.use(forgetful) { mount in
            _ = try await output(of: "for i in 1 2 3; do stat absent 2>&1; done; true", in: mount)
            #expect(forgetful.count("lookup") == 3)
        }
    }

    @Test("Names that can be no key do not exist, and those that are too long are told so")
    func oddNames() async throws {
        let files = FakeFileSystem()
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                import os, errno
                base = b'\(mount.path)/'
                def say(call):
                    try: return str(call())
                    except OSError as error: return errno.errorcode[error.errno]
                print(say(lambda: os.stat(base + b'\\xff\\xfe')), say(lambda: os.mkdir(base + b'\\xff')),
                      say(lambda: os.stat(base + b'a' * 256)), say(lambda: os.mkdir(base + b'a' * 255)),
                      say(lambda: os.mkdir(base + 'ä'.encode())), say(lambda: os.mkdir(base + 'a\\u0308'.encode())),
                      len(os.listdir(base)))
                """)
            #expect(outcome.output == "ENOENT EINVAL ENAMETOOLONG None None None 3\n")
        }
    }

    @Test("Links, special files, renames and removals reach the file system")
    func names() async throws {
        let files = FakeFileSystem()
        try await TestMount.use(files) { mount in
            let text = try await output(
                of: """
                    mkdir -m 750 d; mkfifo d/pipe; mknod d/device c 5 300; ln -s 'over there' link; readlink link
                    stat -c '%F %t %T %W' d/pipe d/device link; touch a b; ln a hard 2>&1; mv a c; mv -n b c; ls; rm c b link
                    rmdir d 2>&1; rm d/pipe d/device; rmdir d; ls | wc -l; stat -f -c '%S %b %f %c %d %l' .
                    """, in: mount)
            #expect(
                text == """
                    over there
                    fifo 0 0 1000000000
                    character special file 5 12c 1000000000
                    symbolic link 0 0 1000000000
                    ln: failed to create hard link 'hard' => 'a': Operation not permitted
                    b
                    c
                    d
                    link
                    rmdir: failed to remove 'd': Directory not empty
                    0
                    4096 1000 900 70 60 255
                    """)
        }
    }

    @Test("The caller's umask goes to the file system, which applies it")
    func umask() async throws {
        let files = FakeFileSystem()
        try await TestMount.use(files) { mount in
            let text = try await output(
                of: "umask 027; touch file; mkdir dir; mkfifo pipe; stat -c '%a' file dir pipe", in: mount)
            #expect(text == "640\n750\n640")
        }
    }

    @Test("The kernel enforces permissions, for every user when others are allowed")
    func permissions() async throws {
        try requireRoot()
        let files = FakeFileSystem()
        try files.make("open", permissions: 0o644, bytes: Array("yes".utf8))
        try files.make("secret", permissions: 0o600, bytes: Array("no".utf8))
        let asNobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
        try await TestMount.use(files, options: { $0.allowOther = true }) { mount in
            let text = try await output(
                of: "\(asNobody) cat open secret 2>&1; \(asNobody) sh -c ': > new' 2>&1; true", in: mount)
            #expect(text.hasPrefix("yes"))
            #expect(text.contains("secret: Permission denied"))
            #expect(text.contains("new: Permission denied"))
            #expect(files.count("create") == 0)
        }
        try await TestMount.use(files) { mount in
            let outcome = try await Child.shell("\(asNobody) ls \(mount.path)")
            #expect(outcome.status != 0)
            #expect(outcome.output.contains("Permission denied"))
        }
    }

    @Test("A read-only mount refuses to write")
    func readOnly() async throws {
        try await TestMount.use(options: { $0.readOnly = true }) { mount in
            let text = try await output(of: "touch file 2>&1; grep \(mount.path) /proc/mounts", in: mount)
            #expect(text.contains("Read-only file system"))
            #expect(text.contains("cloudmount:test \(mount.path) fuse.cloudmount ro,"))
        }
    }

    @Test("Extended attributes keep their bytes, and sizes are asked for and enforced")
    func extendedAttributes() async throws {
        let files = FakeFileSystem()
        try files.make("file")
        try await TestMount.use(files) { mount in
            let outcome = try await Child.python(
                """
                import os, errno, ctypes
                path = '\(mount.path)/file'
                libc = ctypes.CDLL(None, use_errno=True)
                def say(call):
                    try: return str(call())
                    except OSError as error: return errno.errorcode[error.errno]
                os.setxattr(path, 'user.one', bytes(range(256)))
                os.setxattr(path, 'user.two', b'')
                print(os.listxattr(path), os.getxattr(path, 'user.one') == bytes(range(256)), os.getxattr(path, 'user.two'))
                small = ctypes.create_string_buffer(10)
                print(libc.getxattr(path.encode(), b'user.one', None, 0),
                      libc.getxattr(path.encode(), b'user.one', small, 10), errno.errorcode[ctypes.get_errno()],
                      libc.listxattr(path.encode(), None, 0), libc.listxattr(path.encode(), small, 10))
                os.removexattr(path, 'user.one')
                print(os.listxattr(path), say(lambda: os.getxattr(path, 'user.one')),
                      say(lambda: os.removexattr(path, 'user.one')), say(lambda: os.getxattr(path, 'system.posix_acl_access')))
                """)
            #expect(
                outcome.output == """
                    ['user.one', 'user.two'] True b''
                    256 -1 ERANGE 18 -1
                    ['user.two'] ENODATA ENODATA ENOTSUP

                    """)
            #expect(files.state.withLock { $0.calls }.contains { $0.contains("system.") } == false)
        }
    }
}

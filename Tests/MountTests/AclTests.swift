import Glibc
import TestServers
import Testing

extension MountTests {
    @Suite("POSIX ACLs", .serialized)
    struct Acls {
        private static let stores: [Store] = Store.everyday
        private static let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"

        @Test("setfacl and getfacl work, the kernel enforces the lists, and they outlive the mount", arguments: stores)
        func lists(store: Store) async throws {
            try await MountFixture.use(store, "acl: true, allow_other: true") { mount in
                // The way to the mount is open to all.
                try await ChildProcess.output(of: ["chmod", "755", mount.folder, "\(mount.folder)/mnt"])
                try await mount.shell(
                    """
                    echo secret > f; chmod 640 f; mkdir d; chmod 750 d; echo inside > d/g
                    if \(Self.nobody) cat f 2> /dev/null; then exit 1; fi
                    setfacl -m u:65534:r f
                    test "$(\(Self.nobody) cat f)" = secret
                    if \(Self.nobody) sh -c 'echo x >> f' 2> /dev/null; then exit 1; fi
                    setfacl -m u:65534:rx,d:u:65534:rwx d
                    test "$(\(Self.nobody) ls d)" = g
                    """)
                // SeaweedFS keeps no metadata of folders.
                let lists = store == .seaweedFS ? "getfacl -cE f" : "getfacl -cE f d"
                let before = try await mount.shell(lists)
                #expect(before.contains("user:nobody:r--"), "\(before)")
                #expect(store == .seaweedFS || before.contains("default:user:nobody:rwx"), "\(before)")
                try await mount.remount()
                #expect(try await mount.shell(lists) == before)
                try await mount.shell("test \"$(\(Self.nobody) cat f)\" = secret")
                // The mask is what the mode shows of the group.
                #expect(
                    try await mount.shell("stat -c %a f; chmod 600 f; getfacl -cE f | grep mask") == "640\nmask::---\n")
                try await mount.shell(
                    "if \(Self.nobody) cat f 2> /dev/null; then exit 1; fi; setfacl -b f; test $(stat -c %a f) = 600")
                #expect(try await mount.shell("getfacl -cE f") == "user::rw-\ngroup::---\nother::---\n\n")
            }
        }

        @Test("What is made in a folder takes over its default list", arguments: stores)
        func inherited(store: Store) async throws {
            try await MountFixture.use(store, "acl: true") { mount in
                let text = try await mount.shell(
                    """
                    mkdir d; setfacl -m d:u:65534:rwx,d:g::rx,d:o::- d; umask 077
                    echo x > d/f; mkdir d/e
                    getfacl -cE d/f; getfacl -cE d/e
                    """)
                #expect(
                    text == """
                        user::rw-
                        user:nobody:rwx
                        group::r-x
                        mask::rw-
                        other::---

                        user::rwx
                        user:nobody:rwx
                        group::r-x
                        mask::rwx
                        other::---
                        default:user::rwx
                        default:user:nobody:rwx
                        default:group::r-x
                        default:mask::rwx
                        default:other::---


                        """)
            }
        }

        @Test("Without acl: true there are none, which setfacl is told")
        func none() async throws {
            try await MountFixture.use(.folder) { mount in
                let told = try await mount.shell("echo x > f; setfacl -m u:65534:r f 2>&1 || true")
                #expect(told.contains("Operation not supported"), "\(told)")
            }
        }
    }
}

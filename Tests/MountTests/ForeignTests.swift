import Glibc
import TestServers
import Testing

extension MountTests {
    @Suite("Buckets that others write", .serialized)
    struct Foreign {
        /// One mount of a new folder, which plants first what others have stored.
        private func use(
            _ settings: String, plant: (Bucket) async throws -> Void = { _ in },
            _ body: (MountFixture) async throws -> Void
        ) async throws {
            let owner = try TemporaryFolder("mount")
            let bucket = try await Bucket.make(in: .folder, below: owner.path)
            try await plant(bucket)
            try await MountFixture.use([(MountOptions(settings: settings), bucket)], in: owner, body)
        }

        /// The kernel's own options of the mount.
        private func options(_ mount: MountFixture) throws -> [String] {
            let line = try #require(
                readFile("/proc/self/mountinfo").split(separator: "\n").first { $0.contains(" \(mount.path) ") })
            return line.split(separator: " ")[5].split(separator: ",").map(String.init)
        }

        @Test(
            "Forced owners and modes hold for what is there and for what is made; the kernel goes by them; chmod and chown say EPERM",
            arguments: Store.everyday)
        func forced(store: Store) async throws {
            let settings = "allow_other: true, force_uid: 65534, force_gid: 65533, file_mode: '640', dir_mode: '750'"
            try await MountFixture.use(store, settings) { mount in
                try await ChildProcess.output(of: ["chmod", "755", mount.folder, "\(mount.folder)/mnt"])
                try await mount.bucket.put("d/f", "theirs")
                let script = """
                    mode = lambda path: (os.stat(path).st_uid, os.stat(path).st_gid, stat.S_IMODE(os.stat(path).st_mode))
                    assert mode(".") == mode("d") == (65534, 65533, 0o750), mode("d")
                    assert mode("d/f") == (65534, 65533, 0o640), mode("d/f")
                    """
                try await mount.python(
                    script + """

                        write("new", b"ours"); os.mkdir("e", 0o700); os.mkfifo("p") if \(store == .folder ? "True" : "False") else None
                        assert mode("new") == (65534, 65533, 0o640) and mode("e") == (65534, 65533, 0o750)
                        os.chmod("new", 0o640); os.chown("new", 65534, 65533); os.chmod("e", 0o750)
                        for change in (lambda: os.chmod("new", 0o600), lambda: os.chmod("new", 0o4640), lambda: os.chown("new", 0, -1),
                                       lambda: os.chown("new", -1, 0), lambda: os.chmod("e", 0o755)):
                            fails(errno.EPERM, change)
                        os.utime("new", (5, 6)); os.truncate("new", 2); assert read("new") == b"ou"
                        def run_as(uid, gid, *calls):
                            child = os.fork()
                            if child == 0:
                                try:
                                    os.setgroups([]); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
                                    for call in calls: call()
                                    os._exit(0)
                                except BaseException as error: print(repr(error), file=sys.stderr, flush=True); os._exit(1)
                            assert os.waitpid(child, 0)[1] == 0
                        run_as(65534, 65534, lambda: write("d/f", b"mine"), lambda: write("d/g", b"x"))
                        run_as(65532, 65533, lambda: read("d/f"), lambda: fails(errno.EACCES, write, "d/f", b"no"))
                        run_as(65532, 65532, lambda: fails(errno.EACCES, os.listdir, "."))
                        """)
                try await mount.remount()
                try await mount.python(
                    script + "\nassert mode('new') == (65534, 65533, 0o640) and read('d/f') == b'mine'")
            }
        }

        @Test("What was made under forced modes is stored as its maker said, and a reload shows that")
        func live() async throws {
            try await use("file_mode: '640'") { mount in
                try await mount.shell("umask 077; echo x > f; test $(stat -c %a f) = 640; exec 3< f; sleep 0.1")
                let (options, bucket) = mount.mounts[0]
                try mount.write([(MountOptions(name: options.name, settings: "file_mode: '604'"), bucket)])
                #expect(try await mount.reload().output.contains("changed in place"))
                try await mount.shell("test $(stat -c %a f) = 604")
                try mount.write([(MountOptions(name: options.name, settings: ""), bucket)])
                #expect(try await mount.reload().output.contains("changed in place"))
                try await mount.shell("test $(stat -c %a f) = 600")
                // The rest needs another mount.
                try mount.write([(MountOptions(name: options.name, settings: "exec: false, symlinks: refuse"), bucket)])
                #expect(try await mount.reload().output.contains("remounted"))
                try await mount.shell("! ln -s f l 2> /dev/null")
            }
        }

        /// Links that somebody has planted, and a file beside them.
        private func plant(_ bucket: Bucket) async throws {
            let owner = try TemporaryFolder("mount")
            try await MountFixture.use([(MountOptions(), bucket)], in: owner) { mount in
                try await mount.shell(
                    "mkdir d; ln -s /etc/passwd d/out; ln -s f d/in; echo x > d/f; mkdir only; ln -s x only/l")
            }
        }

        @Test("symlinks: refuse shows links that lead nowhere; hide shows none, and what is hidden is not destroyed")
        func links() async throws {
            try await use("symlinks: refuse", plant: plant) { mount in
                try await mount.python(
                    """
                    assert sorted(os.listdir("d")) == ["f", "in", "out"] and os.path.islink("d/out")
                    for call in (os.readlink, os.stat, lambda path: open(path), lambda path: open(path, "w"), os.listdir):
                        fails(errno.ELOOP, call, "d/out"); fails(errno.ELOOP, call, "d/in")
                    fails(errno.EPERM, os.symlink, "f", "d/new")
                    os.rename("d/in", "d/moved"); os.unlink("d/moved"); assert sorted(os.listdir("d")) == ["f", "out"]
                    """)
            }
            try await use("symlinks: hide", plant: plant) { mount in
                let before = try await mount.bucket.keys()
                try await mount.python(
                    """
                    assert os.listdir("d") == ["f"] and os.listdir("only") == []
                    for call in (os.lstat, os.readlink, os.unlink, os.rmdir, lambda path: open(path)): fails(errno.ENOENT, call, "d/out")
                    for call in (os.mkdir, lambda path: open(path, "w"), lambda path: open(path, "x"), os.mkfifo):
                        fails(errno.EEXIST, call, "d/out")
                    fails(errno.EPERM, os.symlink, "f", "d/new")
                    fails(errno.EEXIST, os.rename, "d/f", "d/out"); fails(errno.ENOENT, os.rename, "d/out", "d/x")
                    fails(errno.ENOTEMPTY, os.rmdir, "only")
                    os.mkdir("n"); fails(errno.ENOTEMPTY, os.rename, "n", "only"); os.rmdir("n")
                    """)
                #expect(try await mount.bucket.keys() == before)
            }
        }

        @Test("exec: false and nosymfollow are the kernel's; without them there are nosuid and nodev")
        func flags() async throws {
            try await use("") { mount in
                let options = try options(mount)
                #expect(options.contains("nosuid") && options.contains("nodev") && !options.contains("noexec"))
            }
            try await use("exec: false, nosymfollow: true", plant: plant) { mount in
                let options = try options(mount)
                #expect(["nosuid", "nodev", "noexec", "nosymfollow"].allSatisfy(options.contains), "\(options)")
                try await mount.python(
                    """
                    write("run", b"#!/bin/sh\\n"); os.chmod("run", 0o755); fails(errno.EACCES, os.execv, "./run", ["run"])
                    assert os.readlink("d/in") == "f"; fails(errno.ELOOP, open, "d/in"); os.symlink("x", "new")
                    """)
            }
        }

        @Test(
            "Another user's mount, by fusermount3: noexec holds, nosymfollow is refused in words, links are refused all the same"
        )
        func otherUser() async throws {
            let owner = try TemporaryFolder("mount")
            let text = try await ChildProcess.output(
                of: ["unshare", "-m", "bash", "-c", Self.unprivileged, owner.path, MountFixture.binary], seconds: 120)
            #expect(text.contains("nosuid,nodev,noexec"), "\(text)")
            for result in ["chmod 755: 1", "chmod 600: 0", "run: 126", "ln: 1", "refused"] {
                #expect(text.split(separator: "\n").contains(Substring(result)), "\(result) is missing in:\n\(text)")
            }
            #expect(text.contains("unknown option 'nosymfollow'"), "\(text)")
        }

        @Test(
            "A file that others replace by a longer or shorter one within metadata_ttl reads as one of the two, or not at all"
        )
        func anotherLength() async throws {
            try await MountFixture.use(.folder) { mount in
                try await mount.python(
                    """
                    import collections
                    S = "\(mount.bucket.name)"; seen = collections.Counter()
                    def ways(path):
                        # As cat and cp do, as who asks for no size, and beside somebody who does.
                        def plain(stat):
                            f = os.open(path, os.O_RDONLY); parts = []
                            try:
                                if stat: os.fstat(f)
                                while part := os.read(f, 131072): parts.append(part)
                            finally: os.close(f)
                            return b"".join(parts)
                        def beside():
                            other = threading.Thread(target=lambda: [os.stat(path) for _ in range(20)]); other.start()
                            try: return plain(False)
                            finally: other.join()
                        return (lambda: plain(True), lambda: plain(False), beside, lambda: (read(path)))
                    sizes = ((300000, 1000), (5000, 100), (3000000, 2000000), (1000, 300000), (2000000, 3000000), (8192, 4096))
                    rounds = [(f"{old}-{new}-{i}", old, new, i) for old, new in sizes for i in range(16 if old > 300000 else 40)]
                    for name, old, new, i in rounds: write(f"{S}/{name}", b"1" * old)
                    for name, old, new, i in rounds:
                        assert os.stat(name).st_size == old
                        write(f"{S}/.t", b"2" * new); os.rename(f"{S}/.t", f"{S}/{name}")
                        try: data = ways(name)[i % 4]()
                        except OSError as error:
                            assert error.errno == errno.ESTALE, error
                            seen["stale"] += 1
                            continue
                        assert data in (b"1" * old, b"2" * new), (name, len(data), collections.Counter(data))
                        seen["read"] += 1
                        assert data[:1] == b"1" or read(name) == b"2" * new, name
                    assert seen["read"] > 100, seen
                    """)
            }
        }

        /// With a /dev/fuse that anyone may open, as nearly every system has it; this one may not.
        private static let unprivileged = """
            set -e; cd "$0"; chmod 755 .; mkdir store mnt run; chown 65534:65534 store mnt run; chmod 700 run
            mknod -m 666 fuse c 10 229; mount --bind fuse /dev/fuse; cp "$1" cloudmount
            as="setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --"
            begin() {
                printf '%s\n' 'version: 1' "cache: { directory: $0/run/cache, keep_free: 64MiB }" "control: { socket: $0/run/c }" \
                    'mounts:' "  - { name: x, path: $0/mnt, provider: directory, bucket: $0/store, $1 }" > m.yaml
                HOME=$0/run $as ./cloudmount mount -f m.yaml > log 2>&1 & daemon=$!
            }
            end() { kill $daemon; wait $daemon; }
            begin "exec: false, symlinks: refuse, file_mode: '600'"
            for i in $(seq 300); do grep " $0/mnt " /proc/self/mountinfo && break; sleep 0.1; done
            $as bash -c 'cd mnt; echo "#!/bin/sh" > f; chmod 755 f; echo "chmod 755: $?"; chmod 600 f; echo "chmod 600: $?"
                ./f; echo "run: $?"; ln -s x l; echo "ln: $?"' 2> /dev/null
            end
            begin "nosymfollow: true"
            for i in $(seq 300); do grep nosymfollow log && break; sleep 0.1; done
            grep " $0/mnt " /proc/self/mountinfo || echo refused
            end
            """
    }
}

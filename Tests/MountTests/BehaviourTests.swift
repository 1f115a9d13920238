import Foundation
import Glibc
import TestServers
import Testing

/// What the testers of other mounters look at by name, as far as no other suite does.
extension MountTests {
    @Suite("Behaviours")
    struct Behaviours {
        private static let impatient = "cache: { metadata_ttl: 0s, negative_ttl: 0s }"

        @Test(
            "Files and folders that others make, replace and remove are seen as they are",
            arguments: [
                Store.seaweedFS, .moto,
            ])
        func others(store: Store) async throws {
            try await MountFixture.use(store, Self.impatient) { mount in
                let bucket = mount.bucket
                try await mount.python(
                    "os.mkdir('d'); write('d/x', b'1'); write('f', b'1'); write('moved', b'1'); os.mkdir('empty')")

                // A folder that others empty: gone or empty, it can be made and used again.
                try await bucket.delete("d/x")
                try await mount.python(
                    """
                    try: assert os.listdir("d") == []; os.rmdir("d")
                    except FileNotFoundError: pass
                    os.mkdir("d"); assert os.listdir("d") == []; write("d/y", b"2"); assert read("d/y") == b"2"
                    """)

                // A file that becomes a folder, and a file again.
                try await bucket.delete("f")
                try await bucket.put("f/in", "folder")
                try await mount.python(
                    "assert os.listdir('f') == ['in'] and read('f/in') == b'folder'; fails(errno.EISDIR, read, 'f')")
                try await bucket.delete("f/in")
                try await bucket.put("f", "file")
                try await mount.python("assert read('f') == b'file'; fails(errno.ENOTDIR, os.listdir, 'f')")

                // What is to be moved has gone; what is to be removed has been filled.
                try await bucket.delete("moved")
                try await bucket.put("empty/unseen", "!")
                try await mount.python(
                    """
                    fails(errno.ENOENT, os.rename, "moved", "elsewhere"); fails(errno.ENOENT, os.stat, "moved")
                    fails(errno.ENOTEMPTY, os.rmdir, "empty"); assert os.listdir("empty") == ["unseen"]
                    assert sorted(os.listdir(".")) == ["d", "empty", "f"]
                    """)

            }
        }

        @Test("Folders that no object stands for", arguments: [Store.folder, .moto])
        func implicitFolders(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.bucket.put("a/b/c/file", "1")
                try await mount.bucket.put("a/b2/file", "2")
                try await mount.python(
                    """
                    assert stat.S_ISDIR(os.stat("a/b").st_mode) and os.listdir("a/b/c") == ["file"]
                    fails(errno.EEXIST, os.mkdir, "a/b"); fails(errno.ENOTEMPTY, os.rmdir, "a/b/c")
                    os.mkdir("a/b/made"); write("a/b/made/x", b"3"); os.rename("a/b/c/file", "a/b/made/file")
                    assert os.listdir("a/b/c") == [] and sorted(os.listdir("a/b/made")) == ["file", "x"]
                    os.rename("a/b", "B"); assert os.listdir("a") == ["b2"] and read("B/made/file") == b"1"
                    os.unlink("a/b2/file"); assert os.listdir("a/b2") == []
                    """)
                try await mount.remount()
                try await mount.python(
                    """
                    assert sorted(os.listdir(".")) == ["B", "a"] and os.listdir("a") == ["b2"] and os.listdir("B/c") == []
                    os.rmdir("a/b2"); os.rmdir("a"); fails(errno.ENOENT, os.stat, "a")
                    """)
            }
        }

        @Test("A key beside keys below it is hidden by their folder, and shows when that has gone")
        func shadowed() async throws {
            try await MountFixture.use(.moto, Self.impatient) { mount in
                for key in ["a", "a/b"] { try await mount.bucket.put(key, key) }
                try await mount.python("assert os.listdir('a') == ['b'] and os.listdir('.') == ['a']; os.stat('a/b')")
                #expect(try await mount.status("mounts.0.hiddenKeys") != "0")
                try await mount.bucket.delete("a/b")
                try await mount.python("assert read('a') == b'a' and os.listdir('.') == ['a']")
            }
        }

        @Test(
            "Files that no store has yet are linked to, renamed with their folder, and removed with it",
            arguments: [
                Store.folder, .moto,
            ])
        func notYetStored(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    """
                    import shutil
                    for name in ("d", "gone"): os.mkdir(name); write(name + "/stored", b"s")
                    held = os.open("d/new", os.O_CREAT | os.O_RDWR); os.write(held, b"ab")
                    doomed = os.open("gone/new", os.O_CREAT | os.O_RDWR); os.write(doomed, b"doomed")
                    os.symlink("d/new", "link"); assert read("link") == b"ab"
                    assert sorted(os.listdir("d")) == ["new", "stored"] and os.stat("d/new").st_size == 2
                    os.ftruncate(held, 1); fails(errno.EINVAL, os.truncate, "d/new", -1); os.truncate("d/new", 3)
                    os.rename("d", "e"); fails(errno.ENOENT, read, "link"); os.rename("e/new", "e/newer")
                    os.pwrite(held, b"z", 5); os.close(held); assert read("e/newer") == b"a\\0\\0\\0\\0z"
                    fails(errno.ENOTEMPTY, os.rmdir, "gone"); shutil.rmtree("gone")
                    os.write(doomed, b"!"); os.fsync(doomed); assert os.pread(doomed, 9, 0) == b"doomed!"; os.close(doomed)
                    """)
                #expect(try await mount.bucket.keys().filter { !$0.hasSuffix("/") } == ["e/newer", "e/stored", "link"])
            }
        }

        @Test(
            "What others wrote beside the bytes of an object stays when it is changed, appended to, renamed and touched"
        )
        func foreignMetadata() async throws {
            try await MountFixture.use(.moto) { mount in
                let server = try #require(mount.bucket.server)
                let place = "/\(mount.bucket.name)/"
                let headers = ["Cache-Control: max-age=7", "Content-Encoding: gzip", "x-amz-meta-theirs: kept"]
                try await server.put("note.txt", in: mount.bucket.name, "theirs", headers: headers)
                func check(_ name: String, _ bytes: String) async throws {
                    let answer = try await server.request("HEAD", place + name).body.lowercased()
                    for header in headers + ["content-type: application/octet-stream"] {
                        #expect(answer.contains(header.lowercased()), "\(name) lost \(header): \(answer)")
                    }
                    #expect(try await server.request("GET", place + name).body == bytes)
                }
                // The bytes are those that are stored, whatever encoding they are said to have.
                try await mount.python(
                    """
                    assert os.stat("note.txt").st_size == 6 and read("note.txt") == b"theirs"; write("note.txt", b"+", "ab")
                    """)
                try await check("note.txt", "theirs+")
                try await mount.python("write('note.txt', b'anew')")
                try await check("note.txt", "anew")
                try await mount.python(
                    """
                    os.chmod("note.txt", 0o600); os.utime("note.txt", (1, 1)); os.rename("note.txt", "moved.md")
                    write("moved.md", b"N", "r+b")
                    """)
                try await check("moved.md", "Nnew")
                try await mount.remount()
                try await mount.python("assert os.stat('moved.md').st_mode == 0o100600 and read('moved.md') == b'Nnew'")
            }
        }

        @Test(
            "One folder under lookups, listings, creations, renames and removals at once",
            arguments: [Store.folder, .moto])
        func crowd(store: Store) async throws {
            try await MountFixture.use(store) { mount in
                try await mount.python(
                    """
                    os.mkdir("d"); end = time.monotonic() + 4; errors = []; made = [0] * 4
                    def each(work):
                        def run():
                            try:
                                while time.monotonic() < end and not errors: work()
                            except BaseException as error: errors.append(repr(error))
                        return threading.Thread(target=run)
                    def make(k):
                        name = f"d/{k}-{made[k]}"; made[k] += 1
                        write(name, name.encode()); os.rename(name, name + "r"); assert read(name + "r") == name.encode()
                        fails(errno.ENOENT, os.stat, name)
                        if made[k] % 2: os.unlink(name + "r"); fails(errno.ENOENT, os.stat, name + "r")
                        else: os.mkdir(name); os.rmdir(name)
                    def look():
                        try: os.stat(f"d/{random.randrange(4)}-{random.randrange(1 + max(made))}r")
                        except FileNotFoundError: pass
                    def list():
                        names = os.listdir("d"); assert len(set(names)) == len(names), names
                    threads = [each(lambda k=k: make(k)) for k in range(4)] + [each(look), each(list), each(list)]
                    [thread.start() for thread in threads]; [thread.join() for thread in threads]
                    assert not errors, errors
                    left = {f"{k}-{n}r" for k in range(4) for n in range(made[k]) if n % 2}
                    assert set(os.listdir("d")) == left, set(os.listdir("d")) ^ left
                    """)
            }
        }

        @Test("A store that keeps no folders serves as well as it can (rclone serve s3)")
        func withoutFolders() async throws {
            let owner = try TemporaryFolder("mount")
            let server = try await RcloneServe.shared()
            let bucket = Bucket(name: try await server.makeBucket("mount"), server: server, endpoint: server.endpoint)
            try await MountFixture.use([(MountOptions(), bucket)], in: owner) { mount in
                try await mount.python(
                    """
                    import shutil
                    os.makedirs("a/b/c"); write("a/b/c/f", b"1" * 100_000); os.mkdir("empty"); os.chmod("empty", 0o700)
                    fails(errno.EEXIST, os.mkdir, "a"); fails(errno.ENOTEMPTY, os.rmdir, "a/b")
                    os.rename("a/b", "moved"); assert os.listdir("a") == [] and read("moved/c/f") == b"1" * 100_000
                    with open("moved/c/f", "r+b") as file: file.seek(50_000); file.write(b"2")
                    write("a/x", b"x"); os.unlink("a/x"); assert os.listdir("a") == []
                    assert stat.S_IMODE(os.stat("empty").st_mode) == 0o700; os.rmdir("empty"); os.rmdir("a")
                    shutil.copytree("moved", "copy"); shutil.rmtree("moved"); assert os.listdir(".") == ["copy"]
                    """)
                try await mount.remount()
                try await mount.python("assert read('copy/c/f') == b'1' * 50_000 + b'2' + b'1' * 49_999")
                #expect(try await bucket.keys() == ["copy/c/f"])
            }
        }

        @Test("With a log in JSON every line is JSON, also what the configuration is warned of")
        func jsonLog() async throws {
            let owner = try TemporaryFolder("log")
            let file = "\(owner.path)/mounts.yaml"
            try writeFile(
                file,
                """
                version: 1
                control: { socket: \(owner.path)/control.sock }
                cache: { directory: \(owner.path)/cache }
                credentials: { k: { provider: s3, access_key_id: A, secret_access_key: not-for-all } }
                mounts:
                  - { name: m, path: \(owner.path)/m, provider: s3, bucket: b, endpoint: "http://127.0.0.1:1", credentials: k }
                """, mode: 0o644)
            let daemon = try ChildProcess(
                [MountFixture.binary, "mount", "--log-format", "json", "-f", file], environment: ["HOME": owner.path],
                directory: "/")
            while !daemon.transcript.contains("mount 'm' failed") {
                if let exit = daemon.poll() { throw TestSupportError("the daemon ended at once: \(exit)") }
                try await Task.sleep(for: .milliseconds(20))
            }
            daemon.signal(SIGTERM)
            #expect(await daemon.wait(seconds: 30) == .code(0))
            #expect(daemon.transcript.contains("everyone can read this file"))
            #expect(!daemon.transcript.contains("not-for-all"))
            for line in daemon.transcript.split(separator: "\n") {
                _ = try JSONSerialization.jsonObject(with: Data(line.utf8))
            }
        }
    }
}

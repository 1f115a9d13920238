import Foundation
import TestServers
import Testing

extension MountTests {
    /// What others change while the mount is in use.
    @Suite("Polling")
    struct Polling {
        @Test(
            "A tail, a lister and who looks at a name see within the poll what others did, though names are believed for an hour",
            arguments: Store.everyday)
        func seen(store: Store) async throws {
            try await MountFixture.use(store, "cache: { metadata_ttl: 1h, negative_ttl: 1h, poll: 2s }") { mount in
                for (key, text) in [("log", "one\n"), ("d/old", "o"), ("d/gone", "g")] {
                    try await mount.bucket.put(key, text)
                }
                async let session = mount.python(
                    """
                    import subprocess
                    assert read("log") == b"one\\n" and sorted(os.listdir("d")) == ["gone", "old"] and not os.path.exists("d/new")
                    assert os.stat("d/old").st_size == 1
                    seen = open(W + "/tail", "wb")
                    tail = subprocess.Popen(["tail", "-F", "-s", "0.2", "log"], stdout=seen, stderr=subprocess.DEVNULL)
                    try:
                        write(W + "/ready", b"")
                        while not os.path.exists(W + "/changed"): time.sleep(0.02)
                        begun = time.time()
                        def waits(what, holds):
                            while not holds():
                                assert time.time() < begun + 60, what
                                time.sleep(0.1)
                        waits("tail", lambda: b"two" in read(W + "/tail"))
                        waits("new", lambda: os.path.exists("d/new"))
                        waits("list", lambda: sorted(os.listdir("d")) == ["new", "old"])
                        waits("stat", lambda: os.stat("d/old").st_size == 7 and read("d/old") == b"changed")
                    finally: tail.kill(); tail.wait()
                    write(W + "/seconds", str(time.time() - begun).encode())
                    """)
                for _ in 0..<3000 where !FileManager.default.fileExists(atPath: mount.folder + "/ready") {
                    try await Task.sleep(for: .milliseconds(20))
                }
                try await mount.bucket.put("log", "one\ntwo\n")
                try await mount.bucket.put("d/new", "n")
                try await mount.bucket.put("d/old", "changed")
                try await mount.bucket.delete("d/gone")
                try writeFile(mount.folder + "/changed", "")
                _ = try await session
                #expect(try await mount.status("mounts.0.poll.requests_per_minute") == "60")
                #expect(try await mount.status("mounts.0.poll.changes") != "0")
                let table = try await mount.command("status")
                #expect(table.output.contains("folders are polled"), "\(table)")
                print("seen after \(try String(contentsOfFile: mount.folder + "/seconds", encoding: .utf8)) s")
            }
        }
    }
}

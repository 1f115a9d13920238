import Glibc
import TestServers
import Testing

/// A server that has lost its mind, in one verb at a time: calls end in errors, nothing that was acknowledged is lost, and all is
/// well again when the server is.
extension MountTests {
    @Suite("Hostile servers")
    struct HostileServers {
        /// What is said in answer to a verb.
        private static let answers: [(name: String, fault: FaultProxy.Fault)] = [
            ("no HTTP", .raw("what do you want of me?\r\n\r\n")),
            ("no answer at all", .raw("")),
            ("the page of a portal", page("<html><head><title>Sign in</title></head><body>Welcome</body></html>")),
            ("an endless body", .raw(head("Content-Type: application/xml"), rest: filler)),
            ("endless headers", .raw("HTTP/1.1 200 OK\r\n", rest: "X-A: " + filler + "\r\n")),
            ("endless interim answers", .raw("", rest: "HTTP/1.1 100 Continue\r\n\r\n")),
            ("a negative length", .raw(head("Content-Length: -1") + "x")),
            ("the largest length", .raw(head("Content-Length: 9223372036854775807", tag) + "x")),
            ("a length beyond 64 bits", .raw(head("Content-Length: 99999999999999999999", tag) + "x")),
            ("two lengths", .raw(head("Content-Length: 1", "Content-Length: 3", tag) + "xyz")),
            ("a wild range", .raw(partial("bytes 9223372036854775806-9223372036854775807/1"))),
            ("a range that goes backwards", .raw(partial("bytes 5-1/0"))),
            ("no content", .raw("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")),
            ("not modified", .raw("HTTP/1.1 304 Not Modified\r\n\(tag)\r\nConnection: close\r\n\r\n")),
            ("a status that there is not", .raw("HTTP/1.1 999 Why\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
            ("entities that grow", page(bomb)),
            ("elements without end", page(String(repeating: "<a>", count: 100_000))),
            ("arrays without end", page(String(repeating: "[", count: 500_000))),
            ("wild numbers", page(wildList)),
            ("wild numbers as JSON", page(wildFiles)),
            ("a JSON of the wrong kinds", page(#"{"files":7,"fileName":[],"fileId":{},"contentLength":"x"}"#)),
        ]

        private static let filler = String(repeating: "a", count: 60_000)
        private static let tag = #"ETag: "0123456789abcdef0123456789abcdef""#
        private static let bomb =
            #"<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">"#
            + (0..<9).map {
                "<!ENTITY \("bcdefghijk".dropFirst($0 + 1).prefix(1)) \""
                    + String(
                        repeating: "&\("bcdefghijk".dropFirst($0).prefix(1));", count: 10) + "\">"
            }.joined()
            + "]><a>&k;</a>"
        private static let wildList = """
            <?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated><MaxKeys>-1</MaxKeys><KeyCount>99999999999999999999</KeyCount>
            <NextContinuationToken></NextContinuationToken><Contents><Key>s/f</Key><Size>9223372036854775808</Size>
            <LastModified>300000-13-41T77:00:00Z</LastModified><ETag></ETag></Contents></ListBucketResult>
            """
        private static let wildFiles = """
            {"files":[{"fileName":"s/f","fileId":"4_z","action":"upload","contentLength":9223372036854775807,"uploadTimestamp":-9e99,
            "contentSha1":null,"fileInfo":{"src_last_modified_millis":"9223372036854775807"}}],"nextFileName":"s/f"}
            """

        private static func head(_ lines: String...) -> String {
            "HTTP/1.1 200 OK\r\n" + lines.map { $0 + "\r\n" }.joined() + "Connection: close\r\n\r\n"
        }

        private static func partial(_ range: String) -> String {
            "HTTP/1.1 206 Partial Content\r\nContent-Range: \(range)\r\nContent-Length: 2\r\n\(tag)\r\nConnection: close\r\n\r\nxy"
        }

        private static func page(_ text: String) -> FaultProxy.Fault {
            .raw(head("Content-Type: text/html", "Content-Length: \(text.utf8.count)") + text)
        }

        /// What a request asks for, by the words of its protocol.
        private static func verb(_ request: FaultProxy.Request) -> String {
            if let call = request.path.split(separator: "/").last, call.hasPrefix("b2_") { return String(call) }
            func has(_ word: String) -> Bool { request.target.contains(word) }
            switch request.method {
            case "GET": return has("list-type=") ? "list" : "get"
            case "PUT":
                if request.headers.contains(where: { $0.lowercased().hasPrefix("x-amz-copy-source:") }) {
                    return "copy"
                }
                return has("uploadId=") ? "part" : "put"
            case "POST": return has("?uploads") ? "begin" : has("uploadId=") ? "complete" : "delete"
            default: return request.method.lowercased()
            }
        }

        private static let s3Verbs = ["list", "head", "get", "put", "copy", "delete", "begin", "part", "complete"]
        private static let b2Calls = [
            "b2_list_file_names", "b2_get_file_info", "get", "head", "b2_get_upload_url", "b2_upload_file",
            "b2_copy_file",
            "b2_hide_file", "b2_delete_file_version", "b2_start_large_file", "b2_get_upload_part_url", "b2_upload_part",
            "b2_finish_large_file", "b2_list_file_versions",
        ]

        @Test("Each verb of S3 is answered by nonsense", arguments: s3Verbs)
        func s3(verb: String) async throws { try await meet(.moto, verb) }

        @Test("Each call of B2 is answered by nonsense", arguments: b2Calls)
        func b2(verb: String) async throws { try await meet(.b2, verb) }

        /// All with HOSTILE=1 (`make hostile`), else a third, for each verb another one.
        private func chosen(_ verb: String) -> [(name: String, fault: FaultProxy.Fault)] {
            if inheritedEnvironment()["HOSTILE"] != nil { return Self.answers }
            let start = ((Self.s3Verbs + Self.b2Calls).firstIndex(of: verb) ?? 0) % 3
            return stride(from: start, to: Self.answers.count, by: 3).map { Self.answers[$0] }
        }

        /// A mount of one daemon for each answer.
        private func meet(_ store: Store, _ verb: String) async throws {
            let owner = try TemporaryFolder("mount")
            let answers = chosen(verb)
            var mounts: [(options: MountOptions, bucket: Bucket)] = []
            var proxies: [FaultProxy] = []
            defer { for proxy in proxies { proxy.stop() } }
            for index in answers.indices {
                var bucket = try await Bucket.make(in: store, below: owner.path)
                guard let server: any TestServer = bucket.server ?? bucket.b2 else {
                    throw TestSupportError("no server")
                }
                let proxy = try FaultProxy(before: server)
                proxies.append(proxy)
                bucket.endpoint = proxy.endpoint
                let settings = "cache: { deadline: 1s, metadata_ttl: 0s, negative_ttl: 0s }"
                mounts.append((MountOptions(name: "m\(index)", settings: settings), bucket))
            }
            let before = proxies
            try await MountFixture.use(mounts, in: owner) { (mount) async throws in
                await withTaskGroup(of: Void.self) { group in
                    for (index, answer) in answers.enumerated() {
                        let proxy = before[index]
                        group.addTask {
                            let came = "CAME = W + '/came\(index)'; LIES = \(verb == "head" ? "True" : "False")\n"
                            func run(_ script: String) async throws {
                                try await mount.python(came + script, on: "m\(index)", seconds: 300)
                            }
                            do {
                                try await run(Self.prepared)
                                try proxy.set(answer.fault) { Self.verb($0) == verb }
                                defer { try? proxy.set(.pass) }
                                try await run(Self.met)
                                try proxy.set(.pass)
                                try await run(Self.healed)
                            } catch {
                                Issue.record("\(verb) answered by \(answer.name): \(error)")
                            }
                        }
                    }
                }
                for index in answers.indices {
                    #expect(try await mount.status("mounts.\(index).failed_commits.0.path") == "nil")
                }
            }
        }

        /// A folder for each call, so that none waits for another one's.
        /// The deadline is a second, which many mounts at once may need on a busy machine.
        private static let prepared = """
            def again(call):
                for attempt in range(20):
                    try: return call()
                    except OSError as error:
                        if error.errno != errno.EIO or attempt == 19: raise
                        time.sleep(0.5)
            for name in ("list", "stat", "read", "new", "over", "gone", "move", "tree", "empty", "mode", "link", "make", "large"):
                again(lambda: os.makedirs(name, exist_ok=True))
                if name not in ("empty", "new", "make", "link", "large"): again(lambda: write(f"{name}/f", b"old " * 1000))
            """
        /// Tries all, and writes down what came of it: 0, or an errno.
        private static let met = """
            import json
            large = b"large bytes " * (1 << 20)
            def start(path):
                fd = os.open(path, os.O_RDONLY)
                try: return os.read(fd, 100_000)
                finally: os.close(fd)
            def copy():
                with open("large/f", "wb") as file: file.write(large)
            calls = {
                "list": lambda: os.listdir("list"), "stat": lambda: os.stat("stat/f"), "read": lambda: start("read/f"),
                "new": lambda: write("new/f", b"new " * 1000), "over": lambda: write("over/f", b"new " * 1000),
                "gone": lambda: os.unlink("gone/f"), "move": lambda: os.rename("move/f", "move/g"),
                "tree": lambda: os.rename("tree", "eert"), "empty": lambda: os.rmdir("empty"),
                "mode": lambda: os.chmod("mode/f", 0o600), "link": lambda: os.symlink("f", "link/f"),
                "make": lambda: os.mkdir("make/d"), "large": copy,
            }
            came = {}
            def run(name, call):
                try:
                    value = call(); came[name] = 0
                    if name == "read": assert value == b"old " * 1000, "other bytes were read"
                    if name == "list": assert value == ["f"], f"{value} was listed"
                except OSError as error: came[name] = error.errno
                except AssertionError as error: came[name] = str(error)
            threads = [threading.Thread(target=run, args=pair) for pair in calls.items()]
            [thread.start() for thread in threads]; [thread.join(120) for thread in threads]
            assert len(came) == len(calls), f"no end of {set(calls) - set(came)}"
            with open(CAME, "w") as file: json.dump(came, file)
            # Of a name that is there by a lie, a call may say so.
            fair = [0, errno.EIO, errno.EBUSY, errno.EAGAIN, errno.ESTALE]
            if LIES: fair += [errno.EEXIST, errno.ENOTDIR, errno.EFBIG]
            odd = {name: errno.errorcode.get(code, code) for name, code in came.items() if code not in fair}
            assert not odd, odd
            """
        /// The store is well again: what was acknowledged is so, what was not is as before or done, and nothing is stuck.
        private static let healed = """
            import json
            with open(CAME) as file: came = json.load(file)
            def again(call, *arguments):
                end = time.time() + 60
                while True:
                    try: return call(*arguments)
                    except OSError as error:
                        if error.errno not in (errno.EIO, errno.ESTALE, errno.EBUSY) or time.time() > end: raise
                        time.sleep(0.1)
            def content(path):
                if not again(there, path): return None
                return again(read, path)
            def there(path):
                try: os.lstat(path)
                except FileNotFoundError: return False
                return True
            def store(path):
                fd = os.open(path, os.O_RDWR)
                try: os.fsync(fd)
                finally: os.close(fd)
            old, new, large = b"old " * 1000, b"new " * 1000, b"large bytes " * (1 << 20)
            def holds(name, found, done, undone):
                if came[name] == 0: assert found == done, f"{name} was acknowledged: {found!r:.60}"
                else: assert found in (done, undone), f"{name} failed: {found!r:.60}"
            for name in ("new", "over", "large"):
                if again(there, f"{name}/f"): again(store, f"{name}/f")
            assert content("read/f") == old and content("stat/f") == old and again(os.listdir, "list") == ["f"]
            # What an error at close left is stored by a sync, or was never begun.
            assert content("new/f") in ((new,) if came["new"] == 0 else (new, b"", None)), content("new/f")
            assert content("large/f") in ((large,) if came["large"] == 0 else (large, b"", None))
            holds("over", content("over/f"), new, old)
            holds("gone", content("gone/f"), None, old)
            before, after = content("move/f"), content("move/g")
            if came["move"] == 0: assert (before, after) == (None, old), "move was acknowledged"
            else: assert old in (before, after), "a moved file is gone"
            before, after = content("tree/f"), content("eert/f")
            if came["tree"] == 0: assert (before, after) == (None, old), "tree was acknowledged"
            else: assert old in (before, after), "a moved tree is gone"
            holds("empty", again(there, "empty"), False, True)
            holds("make", again(there, "make/d"), True, False)
            holds("link", again(there, "link/f"), True, False)
            holds("mode", stat.S_IMODE(again(os.stat, "mode/f").st_mode), 0o600, 0o644)
            assert content("mode/f") == old
            write("after", b"after"); assert read("after") == b"after"
            """
    }
}

import TestServers
import Testing

/// What is written through a mount is read by other programs of the store, and the other way round.
extension MountTests {
    @Suite("Other clients")
    struct OtherClients {
        /// Scripts for the scratch folder, with the store's remote as `t:` and the programs of `make setup` in PATH.
        private func run(
            _ script: String, in mount: MountFixture, _ more: [String: String] = [:]
        ) async throws {
            let path = inheritedEnvironment()["PATH"] ?? "/usr/bin:/bin"
            let environment = [
                "W": mount.folder, "M": mount.path, "B": mount.bucket.name, "LC_ALL": "C.UTF-8", "HOME": mount.folder,
                "PATH": "\(Tools.packageRoot)/.build/venv/bin:\(path)", "PYTHONDONTWRITEBYTECODE": "1",
            ]
            .merging(mount.bucket.remote ?? [:]) { $1 }.merging(more) { $1 }
            try await ChildProcess.output(
                of: ["bash", "-c", "set -euo pipefail; cd $W\n" + script], environment: environment, seconds: 300)
        }

        /// Makes `$W/tree`, with names that clients encode in many ways, and `$W/same ROOT ROOT WHAT...`, which compares
        /// two trees: names and bytes, and of each file `seconds`, `millis`, `nanos`, `mode`, `owner`.
        private func makeTree(in mount: MountFixture, names: String = "") async throws {
            try writeFile(
                "\(mount.folder)/same",
                """
                #!/usr/bin/env python3
                import hashlib, os, sys
                WHAT = {
                    "seconds": lambda seen: seen.st_mtime_ns // 10**9, "millis": lambda seen: seen.st_mtime_ns // 10**6,
                    "nanos": lambda seen: seen.st_mtime_ns, "mode": lambda seen: oct(seen.st_mode),
                    "owner": lambda seen: (seen.st_uid, seen.st_gid)}
                def seen(root):
                    found = {}
                    for folder, _, files in os.walk(root):
                        # .bzEmpty keeps what a folder of B2 has of its own.
                        for name in set(files) - {".bzEmpty"}:
                            path = os.path.join(folder, name)
                            entry = {what: WHAT[what](os.lstat(path)) for what in sys.argv[3:]}
                            if os.path.islink(path): entry["link"] = os.readlink(path)
                            else:
                                with open(path, "rb") as file: entry["bytes"] = hashlib.sha1(file.read()).hexdigest()
                            found[os.path.relpath(path, root)] = entry
                    return found
                one, two = seen(sys.argv[1]), seen(sys.argv[2])
                if one != two or not one:
                    for name in sorted(one.keys() | two.keys()):
                        if one.get(name) != two.get(name): print(f"{name!r}: {one.get(name)} / {two.get(name)}")
                    sys.exit("the trees differ")
                """, mode: 0o755)
            try await run(
                """
                python3 - <<'EOF'
                import os, random
                names = ["plain.txt", "with space", "+%41&?#=;@!$", "it's \\"quoted\\"", "ümläut/日本語/深い.txt", "😀",
                    "a:b*c|d<e>", "~tilde", "dots.../..hidden", " leading", "(brackets) [x] {y}", "comma,semi;"]
                names += [name.replace(":", "/") for name in '''\(names)'''.split("/") if name]
                for number, name in enumerate(names):
                    path = "tree/" + name
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "wb") as file: file.write(f"content of {number}".encode() * number)
                for name, size in [("large", 20_000_000), ("middle", 7_000_000), ("empty", 0)]:
                    with open("tree/" + name, "wb") as file: file.write(random.randbytes(size))
                for number, (folder, _, files) in enumerate(os.walk("tree")):
                    for file in files:
                        path, stamp = os.path.join(folder, file), 1_400_000_000_123_456_789 + hash(file) % 10**17
                        os.chmod(path, 0o640 if number % 2 else 0o755)
                        os.utime(path, ns=(stamp, stamp))
                EOF
                """, in: mount)
        }

        @Test("rclone and the b2 command read what a B2 mount wrote, and it reads what they wrote")
        func nativeB2() async throws {
            try await MountFixture.use(.b2) { mount in
                try await makeTree(in: mount, names: "back\\\\slash:file/trailing /two  spaces")
                guard let server = mount.bucket.b2 else { throw TestSupportError("not B2") }
                let account = server.b2Environment(accountFile: mount.folder + "/account")
                try await run(
                    """
                    cp -a tree/. $M/ && ./same tree $M nanos mode owner
                    b2 sync --no-progress b2://$B by-b2 >/dev/null && ./same tree by-b2 millis
                    # rclone passes over names with a backslash, and so does b2 when it sends them.
                    rm -r tree/back*
                    rclone copy t:$B by-rclone && ./same tree by-rclone millis
                    """, in: mount, account)
                try await run(
                    """
                    rm -r $M/*
                    rclone copy tree t:$B/rclone --b2-upload-cutoff 6M --b2-chunk-size 5M
                    b2 sync --no-progress tree b2://$B/b2 >/dev/null
                    """, in: mount, account)
                try await mount.remount()
                try await run("./same tree $M/rclone millis && ./same tree $M/b2 millis", in: mount)
                // Changed here, it is still theirs.
                try await run(
                    """
                    for root in tree $M/rclone $M/b2; do
                        printf more >> $root/middle; mv $root/plain.txt $root/moved.txt; touch -d @1234567890.5 $root/middle
                    done
                    rclone copy t:$B/rclone again && ./same tree again millis
                    b2 sync --no-progress b2://$B/b2 again2 >/dev/null && ./same tree again2 millis
                    """, in: mount, account)
            }
        }

        @Test("rclone and s3fs read what an S3 mount wrote, and it reads what they wrote: bytes, times, names, modes")
        func s3() async throws {
            try await MountFixture.use(.seaweedFS) { mount in
                try await makeTree(in: mount)
                try await run(
                    """
                    ln -s plain.txt tree/link
                    cp -a tree/. $M/ && ./same tree $M nanos mode owner
                    rm tree/link; rclone copy t:$B by-rclone --exclude link; ./same tree by-rclone nanos
                    ln -s plain.txt tree/link; touch -h -d @1300000000 tree/link $M/link
                    """, in: mount)
                try await withS3fs(mount) { other in
                    try await run("./same tree \(other) seconds mode owner", in: mount)
                    // Folders lose what s3fs notes of them, on SeaweedFS.
                    try await run(
                        """
                        cd tree; find . -type d -exec mkdir -p \(other)/s3fs/{} \\;
                        find . ! -type d -exec cp -a {} \(other)/s3fs/{} \\;
                        """, in: mount)
                }
                try await run(
                    "rclone copy tree t:$B/rclone --exclude link --s3-upload-cutoff 6M --s3-chunk-size 5M", in: mount)
                try await mount.remount()
                try await run(
                    """
                    ./same tree $M/s3fs seconds mode owner
                    rm tree/link; ./same tree $M/rclone nanos
                    """, in: mount)
            }
        }

        /// Mounts the bucket with s3fs, and unmounts it whatever happens.
        private func withS3fs(_ mount: MountFixture, _ body: (String) async throws -> Void) async throws {
            guard let server = mount.bucket.server else { throw TestSupportError("not S3") }
            let place = mount.folder + "/s3fs"
            try await ChildProcess.output(of: ["mkdir", place])
            try writeFile(mount.folder + "/s3fs.passwd", "\(server.accessKey):\(server.secretKey)\n")
            let duty = Reaper.atEnd("umount -l \(place.shellQuoted)")
            let s3fs = try ChildProcess([
                try Tools.path("s3fs"), mount.bucket.name, place, "-f", "-o",
                "url=\(server.endpoint),use_path_request_style,passwd_file=\(mount.folder)/s3fs.passwd,"
                    + "use_cache=,endpoint=\(server.region)",
            ])
            func mounted() -> Bool { readFile("/proc/self/mountinfo").contains(" \(place) ") }
            let deadline = ContinuousClock.now + .seconds(60)
            while !mounted() {
                if let exit = s3fs.poll() { throw TestSupportError("s3fs ended with \(exit): \(s3fs.transcript)") }
                guard ContinuousClock.now < deadline else { throw TestSupportError("s3fs is not mounted") }
                try await Task.sleep(for: .milliseconds(20))
            }
            do {
                try await body(place)
            } catch {
                _ = try? await ChildProcess.run(["umount", "-l", place])
                Reaper.withdraw(duty)
                throw TestSupportError("\(error)\n--- s3fs ---\n\(s3fs.transcript.suffix(2_000))")
            }
            try await ChildProcess.output(of: ["umount", place])
            _ = await s3fs.wait(seconds: 20)
            Reaper.withdraw(duty)
        }
    }
}

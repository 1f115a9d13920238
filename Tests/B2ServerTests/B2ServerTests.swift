import TestServers
import Testing

/// The B2 server is trusted because clients that are not ours get along with it, and because it says what Backblaze's own
/// model of the service says.
@Suite("The B2 server, by clients that are not ours", .serialized)
struct B2ServerTests {
    @Test("Random calls get from it what the bare simulator says", arguments: [1, 2])
    func model(round: Int) async throws {
        let server = try await B2Server.start(minimumPart: 200)
        try await server.control(#"{"copy_limit": 200}"#)
        let seed = UInt32.random(in: 0...UInt32.max)
        print("seed \(seed)")
        try await check("check_model.py", server, ["\(seed)", "400"])
    }

    @Test("It has what only HTTP has: encodings, ranges, tokens, restrictions, limits, pages, faults")
    func wire() async throws {
        let server = try await B2Server.start()
        try await check("check_wire.py", server, ["\(server.process.pid)"])
    }

    private func check(_ script: String, _ server: B2Server, _ arguments: [String]) async throws {
        try await ChildProcess.output(
            of: [
                try Tools.path("python"), "\(Tools.packageRoot)/Tests/Servers/\(script)", "\(server.port)",
                server.masterKey.keyID, server.masterKey.applicationKey,
            ] + arguments, environment: ["PYTHONDONTWRITEBYTECODE": "1"], seconds: 300)
    }

    @Test("The b2 command uploads, lists, hides, copies, downloads and deletes")
    func command() async throws {
        let server = try await B2Server.start(recommendedPart: 5_000_000)
        let folder = try TemporaryFolder("b2-command")
        let script = """
            set -euo pipefail
            cd "$1"
            head -c 11000000 /dev/urandom > big; head -c 70000 /dev/urandom > small; : > empty
            b2 bucket create first-bucket allPrivate >&2; b2 bucket create second-bucket allPrivate >&2
            b2 file upload --no-progress first-bucket small 'dir/ü +%.bin' >&2
            b2 file upload --no-progress first-bucket empty dir/empty >&2
            b2 file upload --no-progress --min-part-size 5000000 --threads 3 first-bucket big dir/big >&2
            b2 file upload --no-progress first-bucket empty dir/big >&2
            b2 ls --versions --recursive b2://first-bucket
            b2 file hide b2://first-bucket/dir/big >&2
            echo hidden; b2 ls --recursive b2://first-bucket
            b2 file unhide b2://first-bucket/dir/big >&2
            echo shown; b2 ls b2://first-bucket
            b2 file server-side-copy 'b2://first-bucket/dir/ü +%.bin' b2://second-bucket/copy >&2
            b2 file download --no-progress b2://second-bucket/copy copied >&2; cmp small copied
            version=$(b2 ls --versions --recursive --json b2://first-bucket |
                python3 -c 'import json, sys; print(next(f["fileId"] for f in json.load(sys.stdin) if f["size"] > 10**7))')
            b2 file download --no-progress --threads 3 b2id://$version back >&2; cmp big back
            b2 rm --no-progress --versions --recursive b2://first-bucket >&2
            echo left; b2 ls --versions --recursive b2://first-bucket
            """
        let environment = server.b2Environment(accountFile: folder.path + "/account").merging(path()) { $1 }
        let output = try await ChildProcess.output(
            of: ["/bin/bash", "-c", script, "-", folder.path], environment: environment, seconds: 300)
        let names = ["dir/big", "dir/empty", "dir/ü +%.bin"]
        let expected: [String] =
            ["dir/big"] + names + ["hidden", "dir/empty", "dir/ü +%.bin"] + ["shown", "dir/", "left"]
        #expect(output.split(separator: "\n").map(String.init) == expected)
        let statistics = try await server.statistics()
        #expect(statistics.count("b2_upload_part") >= 2)
        #expect(statistics.count("b2_finish_large_file") == 1)
        #expect(statistics.count("b2_copy_file") == 1)
        #expect(statistics.statuses["500"] == nil)
    }

    @Test("rclone's b2 backend copies, checks, moves, reads ranges, keeps versions and purges")
    func rclone() async throws {
        let server = try await B2Server.start()
        let folder = try TemporaryFolder("b2-rclone")
        let script = """
            set -euo pipefail
            cd "$1"
            mkdir -p tree/sub; head -c 16000000 /dev/urandom > tree/big; : > tree/empty
            echo one > 'tree/sub/ü +%&?#.txt'; echo two > "tree/sub/it's"; touch -d '2001-02-03 04:05:06.789' tree/sub/*
            rclone mkdir s:bucket
            rclone copy tree s:bucket/tree --b2-upload-cutoff 6M --b2-chunk-size 5M --transfers 4
            rclone check --download tree s:bucket/tree 2>/dev/null
            rclone lsf -R --format pst --time-format '2006-01-02 15:04:05.000' s:bucket/tree/sub
            rclone cat --offset 9999990 --count 20 s:bucket/tree/big | cmp - <(tail -c +9999991 tree/big | head -c 20)
            rclone copyto s:bucket/tree/big s:bucket/second --b2-copy-cutoff 6M --b2-chunk-size 5M
            rclone cat s:bucket/second | cmp - tree/big
            rclone moveto s:bucket/tree/empty s:bucket/tree/moved
            echo three > changed; rclone copyto changed "s:bucket/tree/sub/it's"
            echo versions; rclone lsf -R --b2-versions s:bucket/tree/sub | wc -l
            rclone deletefile "s:bucket/tree/sub/it's"
            echo after; rclone lsf -R --files-only s:bucket/tree
            rclone cleanup s:bucket
            echo cleaned; rclone lsf -R --files-only --b2-versions s:bucket/tree
            rclone purge s:bucket; echo buckets; rclone lsd s:
            """
        let environment = server.rcloneRemote(named: "s").merging(path()) { $1 }
            .merging(["TZ": "UTC"]) { $1 }
        let output = try await ChildProcess.output(
            of: ["/bin/bash", "-c", script, "-", folder.path], environment: environment, seconds: 300)
        let after = ["big", "moved", "sub/ü +%&?#.txt"]
        let expected: [String] =
            ["it's;4;2001-02-03 04:05:06.789", "ü +%&?#.txt;4;2001-02-03 04:05:06.789", "versions", "3", "after"]
            + after + ["cleaned"] + after + ["buckets"]
        #expect(output.split(separator: "\n").map(String.init) == expected)
        let statistics = try await server.statistics()
        #expect(statistics.count("b2_upload_part") >= 3)
        #expect(statistics.count("b2_copy_part") >= 3)
        #expect(statistics.count("b2_hide_file") >= 1)
        #expect(statistics.statuses["500"] == nil)
    }

    /// The programs of `make setup` first.
    private func path() -> [String: String] {
        ["PATH": "\(Tools.packageRoot)/.build/venv/bin:" + (inheritedEnvironment()["PATH"] ?? "/usr/bin:/bin")]
    }
}

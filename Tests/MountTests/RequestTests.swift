import Foundation
import TestServers
import Testing

extension MountTests {
    /// What common work costs in requests, counted before the server; `docs/requests.md` has the most of each.
    @Suite("Requests of common work")
    struct RequestCounts {
        /// In parts, so that no daemon has more mounts to prepare than it can within half a minute on a busy machine.
        private static let parts = 5

        /// `CLOUDMOUNT_REQUESTS=FILE` writes the rows, instead of comparing them, to FILE.0 and so on.
        @Test("No work sends a request more than docs/requests.md says", arguments: 0..<parts)
        func table(part: Int) async throws {
            let works = Work.all.enumerated().filter { $0.offset % Self.parts == part }.map(\.element)
            let server = try await SeaweedFS.shared()
            let proxy = try FaultProxy(before: server)
            defer { proxy.stop() }
            let owner = try TemporaryFolder("mount")
            var mounts: [(options: MountOptions, bucket: Bucket)] = []
            for (index, work) in works.enumerated() {
                for mode in work.modes {
                    var bucket = try await Bucket.make(in: .seaweedFS, below: owner.path)
                    bucket.endpoint = proxy.endpoint
                    let options = MountOptions(name: "m\(index)-\(mode.rawValue)", settings: "cache: \(mode.policy)")
                    mounts.append((options, bucket))
                }
            }
            var found: [String: [Mode: Requests]] = [:]
            try await MountFixture.use(mounts, in: owner) { mount in
                try await mount.shell(Work.sources)
                try await Self.each(works, mounts) { work, name in
                    if !work.before.isEmpty { try await mount.shell(work.before, on: name) }
                }
                // From here on nothing is in any cache.
                try await mount.stop()
                try await ChildProcess.output(of: ["rm", "-rf", "\(mount.folder)/cache"])
                try await mount.start()
                proxy.resetCounts()
                try await Self.each(works, mounts) { work, name in
                    let sync = "\(MountFixture.binary) sync -f \(mount.configuration) ."
                    try await mount.shell("stored() { \(sync); }; \(work.script)", on: name)
                }
                // What is stored later counts too.
                try await mount.stop()
                var rest = mounts.map(\.bucket.name)[...]
                for work in works {
                    for mode in work.modes {
                        guard let bucket = rest.popFirst() else { continue }
                        found[work.name, default: [:]][mode] = Requests(proxy.requests, of: bucket)
                    }
                }
            }
            if let place = inheritedEnvironment()["CLOUDMOUNT_REQUESTS"] {
                let lines = works.flatMap { Self.lines($0, found[$0.name] ?? [:]) }
                return try writeFile("\(place).\(part)", lines.joined(separator: "\n") + "\n", mode: 0o644)
            }
            try Self.compare(works, found)
        }

        private static func each(
            _ works: [Work], _ mounts: [(options: MountOptions, bucket: Bucket)],
            _ body: (Work, String) async throws -> Void
        ) async throws {
            var rest = mounts.map(\.options.name)[...]
            for work in works {
                for _ in work.modes { if let name = rest.popFirst() { try await body(work, name) } }
            }
        }

        /// The document's rows say the most, in the order of `Work.modes`, and there is a row for each work.
        private static func compare(_ works: [Work], _ found: [String: [Mode: Requests]]) throws {
            let document = readFile("\(Tools.packageRoot)/docs/requests.md")
            var told: [String: [String]] = [:]
            for line in document.split(separator: "\n") where line.hasPrefix("| `") {
                let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
                told[cells[0], default: []] += cells.dropFirst()
            }
            #expect(Set(told.keys) == Set(Work.all.map { "`\($0.name)`" }), "rows of docs/requests.md")
            for work in works {
                let cells = told["`\(work.name)`"] ?? []
                #expect(cells.count == work.modes.count, "docs/requests.md has \(cells) for `\(work.name)`")
                for (mode, cell) in zip(work.modes, cells) {
                    let requests = found[work.name]?[mode] ?? Requests()
                    let most = try Requests(cell)
                    #expect(
                        requests.isWithin(most), "`\(work.name)`, \(mode.rawValue): \(requests); at most \(most)")
                }
            }
        }

        /// Its rows: of `data: memory`, and of `data: disk`.
        private static func lines(_ work: Work, _ found: [Mode: Requests]) -> [String] {
            [[Mode.through, .back], work.onDisk ? [.throughDisk, .backDisk] : []].filter { !$0.isEmpty }.map { modes in
                "| `\(work.name)` | \(modes.map { "\(found[$0] ?? Requests())" }.joined(separator: " | ")) |"
            }
        }
    }
}

private enum Mode: String, Sendable {
    case through, back
    case throughDisk = "through-disk"
    case backDisk = "back-disk"

    var policy: String {
        switch self {
        case .through: "{ write: through }"
        case .back: "{ write: back }"
        case .throughDisk: "{ write: through, data: disk }"
        case .backDisk: "{ write: back, data: disk }"
        }
    }
}

/// How often each verb was asked for.
private struct Requests: CustomStringConvertible {
    private static let verbs = [
        "HEAD", "LIST", "GET", "PUT", "COPY", "DELETE", "DELETES", "BEGIN", "PART", "PARTCOPY", "COMPLETE", "OTHER",
    ]
    private var counts: [String: Int] = [:]

    init() {}

    init(_ requests: [FaultProxy.Request], of bucket: String) {
        for request in requests where request.path.split(separator: "/").first.map(String.init) == bucket {
            counts[Self.verb(of: request), default: 0] += 1
        }
    }

    /// - Throws: for what is no list of verbs with their numbers.
    init(_ text: String) throws {
        if text == "none" { return }
        for part in text.split(separator: ",") {
            let words = part.split(separator: " ").map(String.init)
            guard words.count == 2, Self.verbs.contains(words[1]), let count = Int(words[0]) else {
                throw TestSupportError("docs/requests.md: '\(part)' is no number of a verb")
            }
            counts[words[1]] = count
        }
    }

    private static func verb(of request: FaultProxy.Request) -> String {
        let query = request.target.split(separator: "?", maxSplits: 1).dropFirst().first ?? ""
        let copies = request.headers.contains { $0.lowercased().hasPrefix("x-amz-copy-source:") }
        let isPart = query.contains("partNumber=")
        switch request.method {
        case "GET" where query.contains("list-type="): return "LIST"
        case "PUT" where copies: return isPart ? "PARTCOPY" : "COPY"
        case "PUT" where isPart: return "PART"
        case "POST" where query.contains("uploadId="): return "COMPLETE"
        case "POST" where query.hasPrefix("uploads"): return "BEGIN"
        case "POST" where query.hasPrefix("delete"): return "DELETES"
        case "HEAD", "GET", "PUT", "DELETE": return request.method
        default: return "OTHER"
        }
    }

    func isWithin(_ most: Requests) -> Bool { counts.allSatisfy { $0.value <= most.counts[$0.key] ?? 0 } }

    var description: String {
        let told = Self.verbs.compactMap { verb in counts[verb].map { "\($0) \(verb)" } }
        return told.isEmpty ? "none" : told.joined(separator: ", ")
    }
}

/// What somebody does in a mount whose caches are empty.
private struct Work: Sendable {
    let name: String
    /// What is there already.
    let before: String
    let script: String
    /// Whether what `data: disk` keeps makes a difference.
    let onDisk: Bool
    var modes: [Mode] { onDisk ? [.through, .back, .throughDisk, .backDisk] : [.through, .back] }

    private init(_ name: String, before: String = "", onDisk: Bool = false, _ script: String) {
        (self.name, self.before, self.script, self.onDisk) = (name, before, script, onDisk)
    }

    /// Ten files of 4,000 bytes, a repository of them and an archive; larger ones whose last page is no whole one.
    static let sources = """
        cd $W; mkdir -p src/d
        for i in 1 2 3 4 5 6 7 8 9 10; do head -c 4000 /dev/urandom > src/d/f$i; done
        chmod 600 src/d/f3; touch -d 2020-01-01 src/d/*; head -c 1000000 /dev/urandom > src/large
        head -c 9000000 /dev/urandom > src/huge; tar cf src/d.tar -C src d; cp -r src/d repository
        cd repository; git init -q; git add .; git commit -qm x; git gc -q
        """

    private static let folder = "cp -r $W/src/d d"
    private static let file = "mkdir d; cp $W/src/d/f1 d/t"
    private static let large = "mkdir d; cp $W/src/large d/t"

    static let all: [Work] = [
        Work("cp -a", "cp -a $W/src/d d"),
        Work("rsync -a", "rsync -a $W/src/d/ d/"),
        Work("rsync -a, nothing new", before: "rsync -a $W/src/d/ d/", "rsync -a $W/src/d/ d/"),
        Work("tar x", "tar xf $W/src/d.tar"),
        Work("git clone", "git clone -q --no-hardlinks --template= $W/repository clone"),
        Work("vim, a save", before: file, vim),
        Work("sed -i", before: file, "sed -i s/^/x/ d/t"),
        Work("echo > new", before: "mkdir d", "echo hello > d/t"),
        Work("echo > old", before: file, "echo hello > d/t"),
        Work("echo >>", before: file, onDisk: true, "echo hello >> d/t"),
        // Not in the same moment: what was read is kept when the store's answer has ended, just after the reader has his bytes.
        Work("cat; echo >>", before: file, onDisk: true, "cat d/t > $W/null; sleep 0.5; echo hello >> d/t"),
        Work("cp; echo >>", before: "mkdir d", onDisk: true, "cp $W/src/d/f1 d/t; stored; echo hello >> d/t"),
        Work("cp 1 MB; echo >>", before: "mkdir d", onDisk: true, "cp $W/src/large d/t; stored; echo hello >> d/t"),
        Work("cp 9 MB; echo >>", before: "mkdir d", onDisk: true, "cp $W/src/huge d/t; stored; echo hello >> d/t"),
        Work("touch new", before: "mkdir d", "touch d/t"),
        Work("touch old", before: file, "touch d/t"),
        Work("chmod", before: file, "chmod 600 d/t"),
        Work("cp; touch -d", before: "mkdir d", "cp $W/src/d/f1 d/t; touch -d 2020-01-01 d/t"),
        Work("cp; chmod", before: "mkdir d", "cp $W/src/d/f1 d/t; chmod 600 d/t"),
        Work("rm", before: file, "rm d/t"),
        Work("rm -r", before: folder, "rm -r d"),
        Work("mv of a file", before: file, "mv d/t d/u"),
        Work("cp; mv of the file", before: "mkdir d", "cp $W/src/d/f1 d/t; mv d/t d/u"),
        Work("mv of a folder", before: folder, "mv d e"),
        Work("cat", before: file, onDisk: true, "cat d/t > $W/null"),
        Work("cp; cat", before: "mkdir d", onDisk: true, "cp $W/src/d/f1 d/t; stored; cmp $W/src/d/f1 d/t"),
        Work("cp 1 MB; cat", before: "mkdir d", onDisk: true, "cp $W/src/large d/t; stored; cmp $W/src/large d/t"),
        Work("cp 9 MB; cat", before: "mkdir d", onDisk: true, "cp $W/src/huge d/t; stored; cmp $W/src/huge d/t"),
        Work(
            "dd bs=1000 of 1 MB; cat", before: "mkdir d", onDisk: true,
            "dd if=$W/src/large of=d/t bs=1000 status=none; stored; cmp $W/src/large d/t"),
    ]

    /// The calls of vim 9 that opens a file, changes it and writes it, with `swapfile` and `writebackup`, as strace shows them.
    private static let vim = #"""
        cat > $W/vim.py <<'END'
        import os
        def new(name, mode=0o600): return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        os.chdir("d")
        os.stat("t"); os.access("t", os.W_OK)
        swap, other = new(".t.swp"), new(".t.swx")
        os.close(other); os.unlink(".t.swx"); os.close(swap); os.unlink(".t.swp")
        swap = new(".t.swp"); os.write(swap, bytes(4096)); os.chmod(".t.swp", 0o644)
        with open("t", "rb") as file: text = file.read()
        os.pwrite(swap, bytes(12288), 0); os.fsync(swap)
        os.stat("t"); os.access("t", os.W_OK)
        test = new("4913"); os.fchown(test, os.getuid(), os.getgid()); os.close(test); os.unlink("4913")
        os.rename("t", "t~")
        file = os.open("t", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(file, b"hello" + text); os.fsync(file); os.fchmod(file, 0o644); os.close(file)
        os.stat("t"); os.unlink("t~"); os.close(swap); os.unlink(".t.swp")
        END
        python3 $W/vim.py
        """#
}

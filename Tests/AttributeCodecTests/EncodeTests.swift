import CloudMountCommit
import CloudMountVFS
import TestSeeds
import Testing

@Suite("Attributes as they are written")
struct EncodeTests {
    private let time = Timestamp(seconds: 1_600_000_000, nanoseconds: 5)

    private func encode(_ change: (inout StoredAttributes) -> Void) throws -> ObjectMetadata {
        var stored = StoredAttributes()
        change(&stored)
        return try AttributeCodec.encode(stored, limit: 2048)
    }

    @Test("Nothing known, nothing written")
    func nothing() throws { #expect(try encode { _ in } == ObjectMetadata()) }

    @Test("A file's metadata, letter by letter")
    func file() throws {
        let metadata = try encode {
            $0.kind = .regular
            $0.permissions = 0o644
            $0.uid = 1000
            $0.gid = 0
            $0.modified = time
            $0.accessed = Timestamp(seconds: 1_600_000_100, nanoseconds: 60)
            $0.changed = Timestamp(seconds: 1_600_000_200)
            $0.born = Timestamp(seconds: 1_500_000_000, nanoseconds: 120_000_000)
            $0.xattrs = ["user.b": [1], "user.a": []]
            $0.contentType = "text/plain"
            $0.foreign = ["color": "red", "mtime": "rubbish"]
        }
        #expect(metadata.modified == time)
        #expect(metadata.contentType == "text/plain")
        #expect(
            metadata.user == [
                "mode": "0100644", "uid": "1000", "gid": "0", "atime": "1600000100.000000060", "ctime": "1600000200",
                "btime": "2017-07-14T02:40:00.120000000Z", "color": "red",
                "xattr": "%7B%22user.a%22%3A%22%22%2C%22user.b%22%3A%22AQ%3D%3D%22%7D",
            ])
    }

    @Test("The furthest times are written and come back")
    func furthestTimes() throws {
        let furthest = Timestamp(seconds: .max, nanoseconds: 999_999_999)
        let metadata = try encode {
            $0.modified = furthest
            $0.accessed = furthest
            $0.changed = Timestamp(seconds: .min)
        }
        #expect(AttributeCodec.decode(metadata, key: "k").modified == furthest)
    }

    @Test("Names of extended attributes beyond ASCII stay within it, and come back")
    func xattrNames() throws {
        let metadata = try encode { $0.xattrs = ["user.ü😀\"\\\n": [1]] }
        let text = "%7B%22user.%5Cu00fc%5Cud83d%5Cude00%5C%22%5C%5C%5Cu000a%22%3A%22AQ%3D%3D%22%7D"
        #expect(metadata.user == ["xattr": text])
        #expect(AttributeCodec.decode(metadata, key: "k").xattrs == ["user.ü😀\"\\\n": [1]])
    }

    @Test("Times less than a second from the modification's are not worth their bytes")
    func closeTimes() throws {
        let metadata = try encode {
            $0.modified = time
            $0.accessed = Timestamp(seconds: time.seconds, nanoseconds: 999_999_999)
            $0.changed = Timestamp(seconds: time.seconds + 1, nanoseconds: 4)
            $0.born = Timestamp(seconds: time.seconds - 1, nanoseconds: 6)
        }
        #expect(metadata.user.isEmpty)
        let far = try encode {
            $0.modified = time
            $0.changed = Timestamp(seconds: time.seconds + 1, nanoseconds: 5)
        }
        #expect(far.user == ["ctime": "1600000001.000000005"])
    }

    @Test("Directories carry the type by which other tools know them")
    func directory() throws {
        let metadata = try encode {
            $0.kind = .directory
            $0.permissions = 0o1777
        }
        #expect(metadata.contentType == "application/x-directory")
        #expect(metadata.user == ["mode": "041777"])
    }

    @Test("Kinds that only a mode can tell have one")
    func kinds() throws {
        #expect(try encode { $0.kind = .symbolicLink }.user == ["mode": "0120777"])
        #expect(try encode { $0.kind = .fifo }.user == ["mode": "010644"])
        #expect(try encode { $0.kind = .socket }.user == ["mode": "0140644"])
        let device = try encode {
            $0.kind = .blockDevice
            $0.permissions = 0o660
            $0.device = 0x801
        }
        #expect(device.user == ["mode": "060660", "rdev": "0x801"])
    }

    @Test("A link whose target geesefs keeps in the metadata stays one")
    func geesefsLink() throws {
        let old = ObjectMetadata(user: ["--symlink-target": "a%25b%20c"])
        let new = try AttributeCodec.encode(AttributeCodec.decode(old, key: "l"), limit: 2048)
        #expect(new.user == ["--symlink-target": "a%25b%20c", "mode": "0120777"])
    }

    @Test("More than the store keeps is refused")
    func limit() throws {
        var stored = StoredAttributes()
        stored.xattrs = ["user.a": [UInt8](repeating: 1, count: 2000)]
        let error = #expect(throws: VFSError.self) { try AttributeCodec.encode(stored, limit: 2048) }
        #expect(error?.code == .noSpace)
        stored.xattrs = [:]
        stored.modified = time
        #expect(throws: Never.self) { try AttributeCodec.encode(stored, limit: 25) }
        #expect(throws: VFSError.self) { try AttributeCodec.encode(stored, limit: 24) }
    }

    @Test("Checksums of the old content do not outlive it")
    func checksums() {
        let user = ["md5chksum": "x", "large_file_sha1": "y", "s3cmd-attrs": "z", "color": "red"]
        var stored = AttributeCodec.decode(ObjectMetadata(user: user), key: "k")
        stored.contentWillChange()
        #expect(stored.foreign == ["color": "red"])
    }

    @Test("What is written reads the same", arguments: 0..<300)
    func roundTrip(index: Int) throws {
        var generator = SeededGenerator(seed: UInt64(index))
        func pick<Value>(_ values: [Value]) -> Value { values[Int.random(in: 0..<values.count, using: &generator)] }
        func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
        func anyTime() -> Timestamp {
            Timestamp(seconds: number(-9_000_000_000...9_000_000_000), nanoseconds: pick([0, number(0...999_999_999)]))
        }
        var stored = StoredAttributes()
        stored.kind = pick([.regular, .symbolicLink, .fifo, .socket, .characterDevice, .blockDevice])
        stored.permissions = UInt32(number(0...0o7777))
        stored.uid = pick([nil, 0, .max - 1])
        stored.gid = pick([nil, 0, 65534])
        if stored.kind == .characterDevice || stored.kind == .blockDevice {
            stored.device = UInt32(number(0...0xFFFFFFFF))
        }
        stored.symlinkTargetInBody = stored.kind == .symbolicLink
        let modified = anyTime()
        stored.modified = modified
        stored.accessed = pick([nil, Timestamp(seconds: modified.seconds + 2, nanoseconds: number(0...999_999_999))])
        stored.changed = pick([nil, Timestamp(seconds: modified.seconds - 2, nanoseconds: number(0...999_999_999))])
        stored.born = pick([nil, Timestamp(seconds: modified.seconds - 9000, nanoseconds: number(0...999_999_999))])
        for _ in 0..<number(0...4) {
            let name = "user." + String((0..<number(1...8)).map { _ in pick(Array("ab,:\"\\{}%é \n😀\u{1}")) })
            stored.xattrs[name] = (0..<number(0...30)).map { _ in UInt8(number(0...255)) }
        }
        stored.contentType = pick([nil, "text/plain"])
        stored.foreign = pick([[:], ["color": "red, green"]])
        let metadata = try AttributeCodec.encode(stored, limit: 1 << 20)
        #expect(AttributeCodec.decode(metadata, key: "file") == stored, "seed \(index)")
        // Through a provider that knows no `modified` and keeps it as text, as s3fs and rclone see it.
        #expect(metadata.user.values.allSatisfy { $0.utf8.allSatisfy { (0x20...0x7E).contains($0) } })
    }

    @Test(
        "Content types follow the suffix",
        arguments: [
            ("index.html", "text/html"), ("A.JSON", "application/json"), ("a.b.PNG", "image/png"), ("x.unknown", nil),
            ("png", nil), (".png", nil), ("", nil), ("a.", nil), ("ü.txt", "text/plain"),
            ("d.png/e", nil), ("d/.png", nil), ("d.x/e.css", "text/css"),
        ] as [(String, String?)])
    func contentTypes(name: String, type: String?) {
        #expect(AttributeCodec.contentType(forName: name) == type)
    }

    @Test("What others keep with a file leaves out what is ours, the least first, and is never left out itself")
    func whatFits() throws {
        let times = ["btime", "ctime", "atime"]
        // The first that leaves room ends it. Bytes of names and values: 100 here are theirs.
        for (limit, left) in [
            (400, []), (200, ["btime"]), (170, ["btime", "ctime"]), (155, times), (145, times + ["gid"]),
            (140, times + ["gid", "uid"]), (130, times + ["gid", "uid", "mode"]),
            (120, times + ["gid", "uid", "mode", "mtime"]), (100, times + ["gid", "uid", "mode", "mtime"]),
        ] {
            let (metadata, leftOut) = try fit(limit: limit)
            #expect(leftOut == left, "\(limit)")
            #expect(metadata.user["k"] == String(repeating: "v", count: 99))
            #expect((metadata.modified == nil) == left.contains("mtime"))
        }
        let full = try fit(limit: 60, reserve: 40)
        #expect(full.left == times + ["gid", "uid", "mode", "mtime", "nonce"])
        #expect(full.metadata.user.keys.sorted() == ["k"])
        #expect(throws: VFSError.self) { try fit(limit: 60, reserve: 39) }
        #expect(throws: VFSError.self) { try fit(limit: 99) }
    }

    private func fit(limit: Int, reserve: Int = 0) throws(VFSError) -> (metadata: ObjectMetadata, left: [String]) {
        var stored = StoredAttributes()
        stored.permissions = 0o644
        (stored.uid, stored.gid) = (1000, 1000)
        stored.modified = time
        stored.accessed = Timestamp(seconds: 1_600_000_100)
        stored.changed = Timestamp(seconds: 1_600_000_200)
        stored.born = Timestamp(seconds: 1_500_000_000)
        stored.foreign = ["k": String(repeating: "v", count: 99)]
        return try AttributeCodec.encodeWhatFits(stored, limit: limit, reserve: reserve)
    }
}

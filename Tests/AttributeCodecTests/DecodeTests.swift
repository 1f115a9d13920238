import CloudMountCommit
import CloudMountVFS
import Testing

/// One object as a tool wrote it, and what it says.
struct Sample: Sendable, CustomTestStringConvertible {
    var writer: String
    var key: ObjectKey
    var contentType: String?
    var modified: Timestamp?
    var user: [String: String]
    var says: @Sendable (inout StoredAttributes) -> Void

    var testDescription: String { writer }

    init(
        _ writer: String, key: ObjectKey = "file", contentType: String? = nil, modified: Timestamp? = nil,
        _ user: [String: String], says: @escaping @Sendable (inout StoredAttributes) -> Void
    ) {
        self.writer = writer
        self.key = key
        self.contentType = contentType
        self.modified = modified
        self.user = user
        self.says = says
    }

    static let all: [Sample] = [
        Sample("nobody", [:]) { _ in },
        Sample("a writer of things that mean nothing to us", ["color": "red", "owner": "alice", "mode": "fast"]) {
            $0.foreign = ["color": "red", "owner": "alice", "mode": "fast"]
        },
        Sample(
            "s3fs 1.90, a file", contentType: "application/octet-stream",
            [
                "atime": "1577934245.060708000", "ctime": "1795425664", "gid": "34", "mode": "33257",
                "mtime": "1577934245.060708000", "uid": "12",
                "xattr": "%7B%22user.a%22%3A%22AAFoaQ%3D%3D%22%2C%22user.%C3%BC%20b%22%3A%22dg%3D%3D%22%7D",
            ]
        ) {
            $0.kind = .regular
            $0.permissions = 0o751
            $0.uid = 12
            $0.gid = 34
            $0.modified = Timestamp(seconds: 1_577_934_245, nanoseconds: 60_708_000)
            $0.accessed = $0.modified
            $0.changed = Timestamp(seconds: 1_795_425_664)
            $0.xattrs = ["user.a": [0, 1, 0x68, 0x69], "user.ü b": [0x76]]
        },
        Sample(
            "s3fs 1.90, a directory", key: "newdir/", contentType: "application/x-directory",
            ["atime": "1795425664", "gid": "0", "mode": "493", "uid": "0"]
        ) {
            $0.kind = .directory
            $0.permissions = 0o755
            $0.uid = 0
            $0.gid = 0
            $0.accessed = Timestamp(seconds: 1_795_425_664)
        },
        Sample("s3fs 1.90, a symbolic link", ["mode": "41471", "mtime": "1795425664"]) {
            $0.kind = .symbolicLink
            $0.permissions = 0o777
            $0.modified = Timestamp(seconds: 1_795_425_664)
            $0.symlinkTargetInBody = true
        },
        Sample("s3fs 1.90, a fifo", ["mode": "4516"]) {
            $0.kind = .fifo
            $0.permissions = 0o644
        },
        Sample("rclone 1.75, times only", modified: Timestamp(seconds: 1_795_425_664, nanoseconds: 5), [:]) {
            $0.modified = Timestamp(seconds: 1_795_425_664, nanoseconds: 5)
        },
        Sample(
            "rclone 1.75 with --metadata",
            [
                "atime": "2020-01-02T03:04:05.060708Z", "btime": "2026-11-23T09:21:04.120409403Z", "gid": "6",
                "mode": "100640", "mtime": "1577934245.060708", "uid": "5", "md5chksum": "1B2M2Y8AsgTpgAmY7PhCfg==",
            ]
        ) {
            $0.kind = .regular
            $0.permissions = 0o640
            $0.uid = 5
            $0.gid = 6
            $0.modified = Timestamp(seconds: 1_577_934_245, nanoseconds: 60_708_000)
            $0.accessed = $0.modified
            $0.born = Timestamp(seconds: 1_795_425_664, nanoseconds: 120_409_403)
            $0.foreign = ["md5chksum": "1B2M2Y8AsgTpgAmY7PhCfg=="]
        },
        Sample("rclone, a directory with --metadata", key: "d/", ["mode": "40755"]) {
            $0.kind = .directory
            $0.permissions = 0o755
        },
        Sample("rclone with --links", key: "l.rclonelink", ["mode": "120777"]) {
            $0.kind = .symbolicLink
            $0.permissions = 0o777
            $0.symlinkTargetInBody = true
        },
        Sample("rclone with --links, times only", key: "l.rclonelink", [:]) {
            $0.kind = .symbolicLink
            $0.symlinkTargetInBody = true
        },
        Sample("geesefs", ["mode": "33188", "uid": "1000", "gid": "1000", "mtime": "1595002920"]) {
            $0.kind = .regular
            $0.permissions = 0o644
            $0.uid = 1000
            $0.gid = 1000
            $0.modified = Timestamp(seconds: 1_595_002_920)
        },
        Sample("geesefs, a symbolic link", ["--symlink-target": "../a%25b%0Ac"]) {
            $0.kind = .symbolicLink
            $0.symlinkTarget = "../a%b\nc"
        },
        Sample("geesefs, a device", ["mode": "8630", "rdev": "259"]) {
            $0.kind = .characterDevice
            $0.permissions = 0o666
            $0.device = 0x103
        },
        Sample("gcsfuse", ["gcsfuse_mtime": "2020-07-17T16:22:00.5+02:00"]) {
            $0.modified = Timestamp(seconds: 1_594_995_720, nanoseconds: 500_000_000)
        },
        Sample("gcsfuse, a symbolic link", ["goog-reserved-file-is-symlink": "true"]) {
            $0.kind = .symbolicLink
            $0.symlinkTargetInBody = true
            $0.foreign = ["goog-reserved-file-is-symlink": "true"]
        },
        Sample("gcsfuse of old, a symbolic link", ["gcsfuse_symlink_target": "a/b"]) {
            $0.kind = .symbolicLink
            $0.symlinkTarget = "a/b"
            $0.foreign = ["gcsfuse_symlink_target": "a/b"]
        },
        Sample(
            "gsutil",
            [
                "goog-reserved-file-mtime": "1595002920", "goog-reserved-file-atime": "1595002921",
                "goog-reserved-posix-mode": "644", "goog-reserved-posix-uid": "7", "goog-reserved-posix-gid": "8",
            ]
        ) {
            $0.permissions = 0o644
            $0.uid = 7
            $0.gid = 8
            $0.modified = Timestamp(seconds: 1_595_002_920)
            $0.accessed = Timestamp(seconds: 1_595_002_921)
        },
        Sample(
            "AWS DataSync",
            [
                "file-mtime": "1595002920000000007ns", "file-atime": "1595002921000000000ns",
                "file-permissions": "0100664", "file-owner": "500", "file-group": "501", "user-agent": "aws-datasync",
            ]
        ) {
            $0.kind = .regular
            $0.permissions = 0o664
            $0.uid = 500
            $0.gid = 501
            $0.modified = Timestamp(seconds: 1_595_002_920, nanoseconds: 7)
            $0.accessed = Timestamp(seconds: 1_595_002_921)
            $0.foreign = ["user-agent": "aws-datasync"]
        },
        Sample("blobfuse, a directory", ["hdi_isfolder": "true"]) {
            $0.kind = .directory
            $0.foreign = ["hdi_isfolder": "true"]
        },
        Sample("blobfuse, a symbolic link", ["is_symlink": "True"]) {
            $0.kind = .symbolicLink
            $0.symlinkTargetInBody = true
            $0.foreign = ["is_symlink": "True"]
        },
        Sample("s3sync", ["permissions": "33188", "owner": "3", "group": "4"]) {
            $0.kind = .regular
            $0.permissions = 0o644
            $0.uid = 3
            $0.gid = 4
        },
        Sample("Nextcloud, a directory", key: "d", contentType: "httpd/unix-directory; charset=x", [:]) {
            $0.kind = .directory
        },
    ]
}

@Suite("Attributes that other tools wrote")
struct DecodeTests {
    @Test("Each tool's metadata means what the tool meant", arguments: Sample.all)
    func dialects(sample: Sample) {
        let metadata = ObjectMetadata(
            contentType: sample.contentType, modified: sample.modified, user: sample.user,
            headers: ["cache-control": "no-cache"])
        var expected = StoredAttributes()
        sample.says(&expected)
        expected.contentType = sample.contentType
        expected.headers = ["cache-control": "no-cache"]
        #expect(AttributeCodec.decode(metadata, key: sample.key) == expected)
    }

    @Test(
        "A mode that makes no sense is no mode",
        arguments: [
            "", "-1", "0", "abc", "0o644", "99999999999", "0900", "4294967296", "65539", "0xFFFF", "0200000", "٣",
        ])
    func senselessModes(text: String) {
        let stored = AttributeCodec.decode(ObjectMetadata(user: ["mode": text]), key: "file")
        // "0" is a mode, and says nothing but that no one may do anything.
        #expect(stored.permissions == (text == "0" ? 0 : nil))
        #expect(stored.kind == nil)
    }

    @Test(
        "Times in every notation",
        arguments: [
            ("0", 0, 0), ("1595002920", 1_595_002_920, 0), ("1595002920.5", 1_595_002_920, 500_000_000),
            ("1595002920.", 1_595_002_920, 0), ("1595002920.1234567899", 1_595_002_920, 123_456_789),
            ("-1", -1, 0), ("-1.25", -2, 750_000_000), ("-0.25", -1, 750_000_000),
            ("1969-12-31T23:59:59Z", -1, 0), ("2000-02-29T12:00:00.000000001Z", 951_825_600, 1),
            ("2024-03-01T00:00:00-01:30", 1_709_256_600, 0), ("-5ns", -1, 999_999_995),
        ])
    func times(text: String, seconds: Int, nanoseconds: Int) {
        let stored = AttributeCodec.decode(ObjectMetadata(user: ["mtime": text]), key: "file")
        #expect(stored.modified == Timestamp(seconds: seconds, nanoseconds: nanoseconds))
    }

    @Test(
        "What is no time is none",
        arguments: [
            "", " ", "x", "1.2.3", "+5", "1e9", "--1", "0x5", "999999999999999999999", "9999999999999999", "ns", "1.x",
            "2020-13-01T00:00:00Z", "2020-01-01T00:00:00", "2020-01-01T", "T", "2020x01-01T00:00:00Z",
            "2020-01-01T00-00:00Z", "2020-01-01T00:00:00+1", "٣",
            "1.123456789x",
        ])
    func noTimes(text: String) {
        let stored = AttributeCodec.decode(ObjectMetadata(user: ["mtime": text]), key: "file")
        #expect(stored.modified == nil)
        #expect(stored.foreign == ["mtime": text])
    }

    @Test(
        "Extended attributes that cannot be read are kept as they are",
        arguments: [
            "", "{", "%7B%22a%22%7D", "%zz", "%7B%7Dx", "%7B%22a%22%3A%22%21%22%7D", "%7B%22%5Cu00", "%FF",
            "{\"\\ud83d\":\"\"}", "{\"\\ud83d\\u0041\":\"\"}",
        ])
    func brokenXattrs(text: String) throws {
        let stored = AttributeCodec.decode(ObjectMetadata(user: ["xattr": text]), key: "file")
        #expect(stored.xattrs.isEmpty)
        #expect(stored.foreign == ["xattr": text])
        #expect(try AttributeCodec.encode(stored, limit: 2048).user == ["xattr": text])
    }

    @Test("A key that ends in a slash is a directory whatever its mode says")
    func slash() {
        #expect(AttributeCodec.decode(ObjectMetadata(user: ["mode": "33188"]), key: "d/").kind == .directory)
    }
}

import CloudMountFilesystem
import CloudMountVFS
import Testing

@testable import CloudMountFUSE

@Suite("Attributes through a mount")
struct AttributeTests {
    @Test("stat tells what the file system said, with the time of birth")
    func status() async throws {
        let files = FakeFileSystem()
        let inode = try files.make("file", permissions: 0o640, bytes: [UInt8](repeating: 7, count: 1025))
        files.change(inode) { node in
            node.attributes.uid = 12
            node.attributes.gid = 34
            node.attributes.linkCount = 1
            node.attributes.modified = Timestamp(seconds: 1_234_567_890, nanoseconds: 123_456_789)
            node.attributes.accessed = Timestamp(seconds: -5, nanoseconds: 250_000_000)
            node.attributes.changed = Timestamp(seconds: 4_294_967_296 + 7, nanoseconds: 1)
        }
        try await TestMount.use(files) { mount in
            let text = try await output(of: "TZ=UTC stat -c '%A %u %g %h %s %b %i %.9X %.9Y %.9Z %.9W' file", in: mount)
            let birth = "1000000000.123456789"
            #expect(
                text
                    == "-rw-r----- 12 34 1 1025 3 \(inode) -4.750000000 1234567890.123456789 4294967303.000000001 \(birth)"
            )
        }
    }
}

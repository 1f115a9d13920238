import CloudMountVFS
import TestSeeds
import Testing

@testable import CloudMountFilesystem

@Suite("Access control lists")
struct PosixACLTests {
    /// Tag, permissions and id of each entry.
    private func bytes(_ entries: [(UInt8, UInt8, UInt32)]) -> [UInt8] {
        [2, 0, 0, 0]
            + entries.flatMap { entry in
                [entry.0, 0, entry.1, 0] + (0..<4).map { UInt8(truncatingIfNeeded: entry.2 >> (8 * $0)) }
            }
    }
    private let none: UInt32 = 0xFFFF_FFFF

    /// u::rw- u:1000:rwx g::r-x m::rwx o::r--
    private var named: [UInt8] { bytes([(1, 6, none), (2, 7, 1000), (4, 5, none), (16, 7, none), (32, 4, none)]) }

    @Test("bytes are read and written as they were, and the mask stands for the group in the mode")
    func roundTrip() throws {
        let list = try PosixACL(attribute: named)
        #expect(list.attribute == named)
        #expect(!list.isMinimal)
        #expect(list.permissions == 0o674)
        let minimal = try PosixACL(attribute: bytes([(1, 6, none), (4, 4, none), (32, 0, none)]))
        #expect(minimal.isMinimal && minimal.permissions == 0o640)
    }

    @Test("chmod changes owner, mask and other, and the group where there is no mask")
    func chmod() throws {
        var list = try PosixACL(attribute: named)
        list.setPermissions(0o4600)
        #expect(list.attribute == bytes([(1, 6, none), (2, 7, 1000), (4, 5, none), (16, 0, none), (32, 0, none)]))
        #expect(list.permissions == 0o600)
        var minimal = try PosixACL(attribute: bytes([(1, 6, none), (4, 4, none), (32, 0, none)]))
        minimal.setPermissions(0o751)
        #expect(minimal.attribute == bytes([(1, 7, none), (4, 5, none), (32, 1, none)]))
    }

    @Test("what is made in a folder has no more than its mode asks for")
    func inherited() throws {
        let file = try PosixACL(attribute: named).inherited(mode: 0o666)
        #expect(file.attribute == bytes([(1, 6, none), (2, 7, 1000), (4, 5, none), (16, 6, none), (32, 4, none)]))
        #expect(file.permissions == 0o664)
        #expect(try PosixACL(attribute: named).inherited(mode: 0o777).attribute == named)
    }

    @Test("whatever somebody else has stored as a list is one or is refused")
    func damage() {
        for bytes in Damage(bytes: [named, bytes([(1, 6, none), (4, 4, none), (32, 0, none)])], count: 4000) {
            guard var list = try? PosixACL(attribute: bytes) else { continue }
            list.setPermissions(0o4751)
            #expect((try? PosixACL(attribute: list.inherited(mode: 0o600).attribute)) != nil)
        }
    }

    @Test("what is no list is refused")
    func malformed() throws {
        let wrong: [[UInt8]] = [
            [], [2, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0], named.dropLast(), [1] + named.dropFirst(),
            bytes([(1, 6, none), (4, 4, none)]),
            bytes([(1, 6, none), (1, 6, none), (4, 4, none), (32, 0, none)]),
            bytes([(1, 6, none), (2, 7, 5), (4, 4, none), (32, 0, none)]),
            bytes([(1, 8, none), (4, 4, none), (32, 0, none)]),
            bytes([(1, 6, none), (3, 4, none), (32, 0, none)]),
            bytes([(4, 6, none), (1, 4, none), (32, 0, none)]),
        ]
        for bytes in wrong {
            #expect(throws: VFSError(.invalidArgument, "not an access control list")) {
                _ = try PosixACL(attribute: bytes)
            }
        }
    }
}

import CloudMountVFS
import Glibc
import Synchronization
import Testing

@testable import CloudMountFUSE

@Suite("Tables of the FUSE module")
struct TableTests {
    @Test("fusermount3 is waited for within a limit, also when it says no more, and what it says is told")
    func fusermount() throws {
        let said = try Fusermount.run(["-c", "echo one; echo two >&2; exit 3"], socket: nil, program: "/bin/sh")
        #expect(said.said == "one\ntwo" && said.status >> 8 == 3)
        for script in ["exec sleep 600", "exec > /dev/null 2>&1; exec sleep 600", "echo x; exec sleep 600"] {
            #expect(throws: VFSError(.timedOut, "/bin/sh does not end")) {
                try Fusermount.run(["-c", script], socket: nil, program: "/bin/sh", limit: 100_000_000)
            }
        }
    }

    @Test("Every error has an errno; none is ENOSYS, and only a confirmed absence is ENOENT")
    func errnos() {
        for code in VFSError.Code.allCases {
            #expect((1..<512).contains(code.errno))
            #expect(code.errno != ENOSYS)
            #expect((code.errno == ENOENT) == (code == .notFound))
        }
        #expect(VFSError.Code.credentialsExpired.errno == EIO)
        #expect(VFSError.Code.unavailable.errno == EIO)
        #expect(VFSError.Code.quotaExceeded.errno == EDQUOT)
        // What the caller did wrong; what the store says of a request that CloudMount made.
        #expect(VFSError(.invalidArgument, "").errno == EINVAL)
        #expect(VFSError(.invalidArgument, "", wire: VFSError.Wire(operation: "PutObject", endpoint: "e")).errno == EIO)
    }

    @Test("The mount table's escapes are undone")
    func escapes() {
        func unescape(_ text: String) -> String {
            String(decoding: MountTable.unescape(Array(text.utf8)[...]), as: UTF8.self)
        }
        #expect(unescape("/a\\040b\\134c\\011d") == "/a b\\c\td")
        #expect(unescape("/plain") == "/plain")
        #expect(unescape("/end\\04") == "/end\\04")
        #expect(unescape("/\\999") == "/\\999")
    }

    @Test("Paths are made absolute without following the last component, unless it is a link")
    func paths() throws {
        #expect(try MountTable.resolve("/proc/self/") != "/proc/self")
        #expect(try MountTable.resolve("/tmp/../tmp//x-absent/") == "/tmp/x-absent")
        #expect(try MountTable.resolve("/") == "/")
        #expect(throws: VFSError.self) { try MountTable.resolve("/absent-directory/x") }
    }

    @Test("An interrupt finds who watches, before or after it came, once")
    func interrupts() {
        let interrupts = Interrupts(pending: { _ in nil })
        let heard = Mutex<[UInt64]>([])
        interrupts.interrupt(1)
        interrupts.watch(1, thread: 1) { heard.withLock { $0.append(1) } }
        interrupts.watch(2, thread: 1) { heard.withLock { $0.append(2) } }
        interrupts.interrupt(2)
        interrupts.interrupt(2)
        interrupts.watch(3, thread: 1) { heard.withLock { $0.append(3) } }
        interrupts.unwatch(3)
        interrupts.interrupt(3)
        #expect(heard.withLock { $0 } == [1, 2])
        for unique in 10..<2000 as Range<UInt64> { interrupts.interrupt(unique) }
        interrupts.watch(1999, thread: 1) { heard.withLock { $0.append(1999) } }
        #expect(heard.withLock { $0 } == [1, 2, 1999])
    }
}

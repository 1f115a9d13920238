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
        #expect(try Array(MountTable.resolve("/tmp/\u{301}x").utf8) == Array("/tmp/\u{301}x".utf8))
        #expect(throws: VFSError.self) { try MountTable.resolve("/absent-directory/x") }
    }

    @Test("Root follows another user's link only to what is that user's; its own and root's lead anywhere")
    func foreignLinks() throws {
        try requireRoot()
        let folder = try TestMount.directory()
        defer { for name in ["anna", "bert", "roots"] { empty("\(folder)/\(name)") } }
        func make(_ name: String, owner: uid_t) {
            #expect(mkdir("\(folder)/\(name)", 0o755) == 0 && chown("\(folder)/\(name)", owner, owner) == 0)
        }
        func link(_ name: String, to target: String, owner: uid_t) {
            #expect(symlink(target, "\(folder)/\(name)") == 0 && lchown("\(folder)/\(name)", owner, owner) == 0)
        }
        func found(_ name: String) throws(VFSError) -> String? { try MountPoint.find("\(folder)/\(name)")?.path }
        make("roots", owner: 0)
        make("anna", owner: 1234)
        make("anna/photos", owner: 1234)
        make("bert", owner: 1235)
        #expect(try found("anna//photos/") == "\(folder)/anna/photos")
        #expect(try found("anna/absent/deeper") == nil)
        link("anna/own", to: "photos", owner: 1234)
        #expect(try found("anna/own") == "\(folder)/anna/photos")
        link("anna/around", to: "\(folder)/roots/../anna", owner: 1234)
        #expect(try found("anna/around/photos") == "\(folder)/anna/photos")
        #expect(try found("anna/around/absent") == nil)
        link("anna/by-root", to: "\(folder)/roots", owner: 0)
        #expect(try found("anna/by-root") == "\(folder)/roots")
        for (name, target) in [("etc", "/etc"), ("up", "../roots"), ("other", "../bert"), ("chain", "by-root")] {
            link("anna/\(name)", to: target, owner: 1234)
            for path in ["anna/\(name)", "anna/\(name)/below"] {
                let error = #expect(throws: VFSError.self) { _ = try found(path) }
                #expect(error?.code == .permissionDenied, "\(path)")
                #expect(throws: VFSError.self) { try FUSEMount.makeFolders("\(folder)/\(path)/new") { _ in } }
            }
        }
        // What begins with a combining character is a name of its own all the same.
        make("anna/\u{301}x", owner: 1234)
        link("anna/\u{301}out", to: "\(folder)/bert", owner: 1234)
        #expect(try found("anna/\u{301}x") == "\(folder)/anna/\u{301}x")
        for (name, target) in [("by", "\u{301}out/."), ("by-more", "./\u{301}out")] {
            link("anna/\(name)", to: target, owner: 1234)
            #expect(throws: VFSError.self) { _ = try found("anna/\(name)") }
        }
        make("bert/\u{301}in", owner: 1234)
        link("anna/far", to: "\u{301}out/\u{301}in", owner: 1234)
        #expect(throws: VFSError.self) { _ = try found("anna/far") }
        link("anna/loop", to: "loop", owner: 1234)
        #expect(throws: VFSError.self) { _ = try found("anna/loop") }
    }

    /// Removes the folder and what is in it, links not followed.
    private func empty(_ path: String) {
        if let stream = opendir(path) {
            while let entry = readdir(stream) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name == "." || name == ".." { continue }
                if unlink("\(path)/\(name)") != 0 { empty("\(path)/\(name)") }
            }
            closedir(stream)
        }
        rmdir(path)
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

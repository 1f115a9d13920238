import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import Testing

/// Mounts of buckets that others write.
@Suite("What others have stored")
struct ForeignBucketTests {
    private static let link = ObjectMetadata(user: ["mode": "0120777"])

    @Test("Forced owners and modes are shown, of old and new alike, and what is stored stays as it is")
    func forced() async throws {
        let mount = try TestMount {
            $0.forced.uid = 7
            $0.forced.gid = 8
            $0.forced.filePermissions = 0o640
            $0.forced.directoryPermissions = 0o750
        }
        let stored = ObjectMetadata(user: ["mode": "0104777", "uid": "0", "gid": "0"])
        try await mount.put("d/f", [1], stored)
        try await mount.put("d/l", Array("f".utf8), Self.link)
        func expectForced(_ path: String, _ permissions: UInt32) async throws {
            let shown = try #require(try await mount.attributes(path))
            #expect((shown.uid, shown.gid, shown.permissions) == (7, 8, permissions), "\(path)")
        }
        try await expectForced("d/f", 0o640)
        try await expectForced("d", 0o750)
        try await expectForced("", 0o750)
        try await expectForced("d/l", 0o777)
        let d = try await mount.inode("d")
        for entry in try await mount.fs.list(d) where entry.name == "f" {
            #expect(entry.attributes?.permissions == 0o640)
        }
        let f = try await mount.inode("d/f")
        // What is shown already needs no change, and another is refused: nobody is told that it was done.
        mount.traffic.reset()
        try await mount.fs.setattr(f) { ($0.permissions, $0.uid, $0.gid) = (0o640, 7, 8) }
        #expect(mount.traffic.total == 0)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.setattr(f) { $0.permissions = 0o644 } }
                == .notPermitted)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.setattr(f) { $0.uid = 9 } } == .notPermitted
        )
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.setattr(f) { $0.gid = 9 } } == .notPermitted
        )
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.setattr(d) { $0.permissions = 0o700 } }
                == .notPermitted)
        try await mount.fs.setattr(f) { $0.modified = .at(Timestamp(seconds: 5)) }
        let handle = try await mount.fs.open(f, flags: 1)
        try await mount.fs.write(f, handle, 0, [2])
        try await mount.fs.close(f, handle)
        let user = try await mount.store.head(ObjectKey("d/f")).metadata?.user
        #expect(user?["mode"] == "0104777" && user?["uid"] == "0", "\(user ?? [:])")
        // What is made here is stored as its maker says.
        let (made, open) = try await mount.fs.create(d, "new", mode: 0o600, flags: 1)
        try await mount.fs.close(made, open)
        try await expectForced("d/new", 0o640)
        #expect(try await mount.store.head(ObjectKey("d/new")).metadata?.user["mode"] == "0100600")
        _ = try await mount.fs.mkdir(d, "e", mode: 0o700)
        try await expectForced("d/e", 0o750)
    }

    @Test("A mount that forces one thing leaves the others, and other settings hold at once")
    func partly() async throws {
        let mount = try TestMount { $0.forced.uid = 7 }
        try await mount.put("f", [1], ObjectMetadata(user: ["mode": "0100600", "uid": "3", "gid": "4"]))
        let inode = try await mount.inode("f")
        try await mount.fs.setattr(inode) { ($0.permissions, $0.gid) = (0o644, 5) }
        var shown = try await mount.fs.getattr(inode)
        #expect((shown.uid, shown.gid, shown.permissions) == (7, 5, 0o644))
        let user = try await mount.store.head(ObjectKey("f")).metadata?.user
        #expect(user?["uid"] == "3" && user?["gid"] == "5", "\(user ?? [:])")
        let told = Told()
        mount.fs.attach(told)
        var settings = mount.fs.settings()
        settings.forced = ForcedAttributes()
        settings.forced.filePermissions = 0o400
        mount.fs.update(settings)
        #expect(told.inodes.contains(inode) && told.inodes.contains(TestMount.root))
        shown = try await mount.fs.getattr(inode)
        #expect((shown.uid, shown.permissions) == (3, 0o400))
    }

    @Test("Where the mount says owner or mode, others give nobody privileges by attributes either")
    func privileges() async throws {
        let text = #"{"security.capability":"AQ==","trusted.x":"AQ==","user.x":"AQ=="}"#
        let forcings: [(inout ForcedAttributes) -> Void] = [
            { _ in }, { $0.uid = 7 }, { $0.gid = 7 }, { $0.filePermissions = 0o640 },
            { $0.directoryPermissions = 0o750 },
        ]
        for (number, force) in forcings.enumerated() {
            for isListed in [true, false] {
                let mount = try TestMount { force(&$0.forced) }
                try await mount.put("f", [1], ObjectMetadata(user: ["xattr": text, "mode": "0100644"]))
                let inode = try await mount.inode("f")
                if isListed { _ = try await mount.fs.list(TestMount.root) }
                let names = ["security.capability", "trusted.x", "user.x"]
                #expect(try await mount.fs.listxattr(inode) == (number == 0 ? names : ["user.x"]))
                for name in names {
                    let isHidden = number > 0 && name != "user.x"
                    let refused: VFSError.Code? = isHidden ? .notSupported : nil
                    #expect(
                        await failure { () async throws(VFSError) in _ = try await mount.fs.getxattr(inode, name) }
                            == refused)
                    #expect(
                        await failure { () async throws(VFSError) in try await mount.fs.setxattr(inode, name, [1]) }
                            == refused)
                }
                // What is stored stays.
                try await mount.fs.setattr(inode) { $0.modified = .at(Timestamp(seconds: 5)) }
                let stored = try await mount.store.head(ObjectKey("f")).metadata?.user["xattr"]
                #expect(names.allSatisfy { stored?.contains($0) == true }, "\(stored ?? "")")
            }
        }
    }

    @Test(
        "Hidden links are not there, and nothing takes their names or their bytes from them", arguments: [true, false])
    func hidden(isListed: Bool) async throws {
        let mount = try TestMount { $0.symlinks = .hide }
        try await mount.put("d/link", Array("/etc/passwd".utf8), Self.link)
        try await mount.put("d/f", [1], ObjectMetadata(user: ["mode": "0100644"]))
        let d = try await mount.inode("d")
        if isListed { #expect(try await mount.fs.list(d).map(\.name) == ["f"]) }
        #expect(try await mount.fs.lookup(d, "link") == nil)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.create(d, "link", flags: 0o1001) }
                == .alreadyExists)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.create(d, "link", flags: 0o201) }
                == .alreadyExists)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.mkdir(d, "link") } == .alreadyExists)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.mknod(d, "link", mode: 0o100644) }
                == .alreadyExists)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.symlink("x", d, "other") } == .notPermitted)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.rename(d, "f", d, "link") }
                == .alreadyExists)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.rename(d, "link", d, "mine") } == .notFound)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.unlink(d, "link") } == .notFound)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.rmdir(d, "link") } == .notFound)
        try await mount.fs.unlink(d, "f")
        #expect(try await mount.fs.list(d).map(\.name) == [])
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.rmdir(TestMount.root, "d") } == .notEmpty)
        try await mount.fs.rename(TestMount.root, "d", TestMount.root, "e")
        #expect(try await mount.object("e/link") == Array("/etc/passwd".utf8))
        // A folder cannot be put in the place of one that only looks empty.
        _ = try await mount.fs.mkdir(TestMount.root, "n")
        #expect(
            await failure { () async throws(VFSError) in
                try await mount.fs.rename(TestMount.root, "n", TestMount.root, "e")
            } == .notEmpty)
        #expect(try await mount.object("e/link") == Array("/etc/passwd".utf8))
    }

    @Test("Refused links are seen, lead nowhere, and can be removed and renamed; none is made")
    func refused() async throws {
        let mount = try TestMount { $0.symlinks = .refuse }
        try await mount.put("link", Array("/etc/passwd".utf8), Self.link)
        try await mount.put("other", [], ObjectMetadata(user: ["gcsfuse_symlink_target": "x"]))
        let root = TestMount.root
        let inode = try await mount.inode("link")
        #expect(try await mount.attributes("link")?.kind == .symbolicLink)
        #expect(await failure { () async throws(VFSError) in try await mount.fs.readlink(inode) } == .symbolicLink)
        let other = try await mount.inode("other")
        #expect(await failure { () async throws(VFSError) in try await mount.fs.readlink(other) } == .symbolicLink)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.symlink("x", root, "new") } == .notPermitted
        )
        try await mount.fs.rename(root, "link", root, "moved")
        #expect(try await mount.object("moved") == Array("/etc/passwd".utf8))
        try await mount.fs.unlink(root, "moved")
        #expect(try await mount.object("moved") == nil)
        // A reload cannot change it while the kernel remembers links.
        var settings = mount.fs.settings()
        settings.symlinks = .follow
        mount.fs.update(settings)
        #expect(mount.fs.settings().symlinks == .refuse)
    }

    @Test("A marker that could not be looked at is not written over when names in its directory change")
    func unseenMarker() async throws {
        let mount = try TestMount()
        let marker = ObjectMetadata(user: ["mode": "040700"])
        for name in ["seen", "unseen"] {
            try await mount.put("\(name)/", [], marker)
            try await mount.put("\(name)/f", [1])
        }
        for name in ["a", "z"] { try await mount.put(name, [1]) }
        mount.faults.add(.head, calls: 1...Int.max, key: ObjectKey("unseen/"), .fail(VFSError(.unavailable, "out")))
        var inodes: [String: InodeID] = [:]
        for entry in try await mount.fs.list(TestMount.root) { inodes[entry.name] = entry.inode }
        for name in ["unseen", "seen"] {
            let inode = try #require(inodes[name])
            _ = try? await mount.fs.list(inode)
            try await mount.write("new", [2], in: inode)
        }
        let before = try await mount.store.head(ObjectKey("seen/")).etag
        mount.time.advance(.seconds(6))
        for _ in 0..<2000 where try await mount.store.head(ObjectKey("seen/")).etag == before {
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(try await mount.store.head(ObjectKey("seen/")).etag != before)
        try await Task.sleep(for: .milliseconds(50))
        #expect(try await mount.store.head(ObjectKey("unseen/")).metadata?.user["mode"] == "040700")
    }
}

/// The inodes that the kernel was told to ask for again.
private final class Told: KernelNotifier {
    private let told = Mutex<[InodeID]>([])
    var inodes: [InodeID] { told.withLock { $0 } }

    func invalidateEntry(parent: InodeID, name: FileName) {}
    func invalidateInode(_ inode: InodeID, extent: Extent?) { told.withLock { $0.append(inode) } }
    func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {}
    func expireAttributes(_ inode: InodeID) {}
}

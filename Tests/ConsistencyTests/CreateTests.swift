import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Synchronization
import Testing

@Suite("Making and removing names that others use too")
struct CreateTests {
    private let theirs = pattern(700, seed: 2)

    @Test("O_EXCL is refused when another machine has made the name since the lookup", arguments: StoreKind.all)
    func exclusive(_ kind: StoreKind) async throws {
        for listed in [true, false] {
            let mount = try Mount(kind.capabilities)
            if listed { try await mount.listTop() } else { _ = try await mount.fs.lookup(Mount.root, "f") }
            try await mount.put("f", theirs)
            let code = await failure { () async throws(VFSError) in
                try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite | Flags.exclusive)
            }
            #expect(code == .alreadyExists)
            #expect(try await mount.object("f") == theirs)
        }
    }

    @Test("Of two machines that create with O_EXCL at the same moment, one is refused, where the store can compare")
    func exclusiveRace() async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.listTop()
        mount.hooks.at(.before, .put, "f") { _ = try? await mount.put("f", theirs) }
        let code = await failure { () async throws(VFSError) in
            try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite | Flags.exclusive)
        }
        #expect(code == .alreadyExists)
    }

    @Test("A link or a node is not made over an object of others", arguments: StoreKind.all)
    func linksAndNodes(_ kind: StoreKind) async throws {
        for isLink in [true, false] {
            let mount = try Mount(kind.capabilities)
            try await mount.listTop()
            try await mount.put("f", theirs)
            let code = await failure { () async throws(VFSError) in
                if isLink {
                    try await mount.fs.symlink("there", Mount.root, "f")
                } else {
                    try await mount.fs.mknod(Mount.root, "f", mode: 0o010644)
                }
            }
            #expect(code == .alreadyExists)
            #expect(try await mount.object("f") == theirs)
        }
    }

    @Test("A name that a whole listing lacked is asked for again after negative_ttl")
    func absenceEnds() async throws {
        let mount = try Mount { $0.policy.negativeTTL = .zero }
        try await mount.listTop()
        try await mount.put("new", theirs)
        #expect(try await mount.fs.lookup(Mount.root, "new") != nil)
    }

    @Test("A directory that is an object without a slash is removed by rmdir", arguments: ["old", "p/old"])
    func slashless(key: String) async throws {
        let mount = try Mount()
        try await mount.put(key, [], ObjectMetadata(contentType: "application/x-directory"))
        let path = key.split(separator: "/").map(String.init)
        var parent = Mount.root
        if path.count == 2 { parent = try await mount.inode("p") }
        #expect(try await mount.attributes(key)?.kind == .directory)
        try await mount.fs.rmdir(parent, "old")
        #expect(try await mount.keys().contains(key) == false)
        #expect(try await mount.fs.lookup(parent, "old") == nil)
        if path.count == 2 {
            try await mount.fs.rmdir(Mount.root, "p")
            #expect(try await mount.keys() == [])
        }
    }

    @Test("So it is when a listing has shown it beside what is in it")
    func slashlessListed() async throws {
        let mount = try Mount()
        var metadata = ObjectMetadata()
        metadata.contentType = "application/x-directory"
        try await mount.put("top/d", [], metadata)
        try await mount.put("top/d/f", [1])
        let top = try await mount.inode("top")
        #expect(try await mount.fs.list(top).map(\.name) == ["d"])
        let folder = try await mount.inode("top/d")
        _ = try await mount.fs.list(folder)
        try await mount.fs.unlink(folder, "f")
        try await mount.fs.rmdir(top, "d")
        #expect(try await mount.contents()["top/d"] == nil)
        #expect(try await mount.fs.list(top).isEmpty)
    }

    @Test("rmdir succeeds when only the marker of the folder above could not be stored")
    func rmdirMarker() async throws {
        let mount = try Mount()
        try await mount.put("d/e/", [], ObjectMetadata(contentType: "application/x-directory"))
        mount.faults.add(.put, calls: 1...9, key: "d/", .fail(.forbidden))
        try await mount.fs.rmdir(try await mount.inode("d"), "e")
        #expect(try await mount.keys() == [])
    }

    @Test("unlink succeeds when only the folder's marker could not be stored")
    func unlinkMarker() async throws {
        let mount = try Mount()
        try await mount.put("d/x", theirs)
        mount.faults.add(.put, calls: 1...9, key: "d/", .fail(.forbidden))
        try await mount.fs.unlink(try await mount.inode("d"), "x")
        #expect(try await mount.keys() == [])
    }

    @Test("unlink removes no version that was not seen", arguments: StoreKind.all)
    func unlinkUnseen(_ kind: StoreKind) async throws {
        let mount = try Mount(kind.capabilities)
        try await mount.put("f", pattern(10))
        try await mount.listTop()
        try await mount.put("f", theirs)
        _ = await failure { () async throws(VFSError) in try await mount.fs.unlink(Mount.root, "f") }
        #expect(mount.ledger.unseen.isEmpty)
    }

    @Test("A version that comes at the very moment of unlink stays, where the store can compare")
    func unlinkRace() async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.put("f", pattern(10))
        try await mount.listTop()
        mount.hooks.at(.before, .delete, "f") { _ = try? await mount.put("f", theirs) }
        _ = await failure { () async throws(VFSError) in try await mount.fs.unlink(Mount.root, "f") }
        #expect(try await mount.object("f") == theirs)
    }

    @Test("rmdir deletes no marker that another machine has replaced by an object with bytes")
    func rmdirRace() async throws {
        let mount = try Mount()
        let theirs = theirs
        try await mount.fs.mkdir(Mount.root, "d")
        mount.hooks.at(.before, .delete, "d/") { _ = try? await mount.put("d/", theirs) }
        _ = await failure { () async throws(VFSError) in try await mount.fs.rmdir(Mount.root, "d") }
        #expect(try await mount.object("d/") == theirs)
    }

    @Test("A name that is removed and made again while it is being made is not taken away when that is refused")
    func madeAgainWhileBeingMade() async throws {
        let mount = try Mount { $0.policy.exclusiveCreate = .store }
        let (ours, theirs) = (pattern(800, seed: 5), theirs)
        try await mount.listTop()
        let again = Once()
        mount.hooks.at(.before, .put, "b") {
            again.start {
                await failure { () async throws(VFSError) in
                    try await mount.fs.unlink(Mount.root, "b")
                    try await mount.write("b", ours)
                }
            }
            await pause(.milliseconds(100))
            _ = try? await mount.put("b", theirs)
        }
        let code = await failure { () async throws(VFSError) in
            _ = try await mount.fs.create(Mount.root, "b", flags: Flags.exclusive | Flags.write)
        }
        #expect(code == .alreadyExists)
        #expect(await again.result() == nil)
        await mount.fs.drain()
        #expect(try await mount.object("b") == ours)
    }

    @Test("What is written below a directory while rmdir takes it away is refused or kept")
    func writeBelowRmdir() async throws {
        let mount = try Mount()
        let ours = pattern(800, seed: 4)
        try await mount.put("d/", [])
        try await mount.put("d/f", theirs)
        let inode = try await mount.inode("d/f")
        try await mount.delete("d/f")
        let writing = Once()
        mount.hooks.at(.before, .delete, "d/") {
            writing.start {
                await failure { () async throws(VFSError) in
                    let handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
                    try await mount.fs.write(inode, handle, 0, ours)
                    try await mount.fs.close(inode, handle)
                }
            }
            await pause(.milliseconds(200))
        }
        let removed = await failure { () async throws(VFSError) in try await mount.fs.rmdir(Mount.root, "d") }
        let code = await writing.result()
        #expect(removed == nil || code == nil)
        if code == nil { #expect(try await mount.keeps(ours)) }
    }
}

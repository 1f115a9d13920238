import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Testing

@Suite("What the store moves is lost on no way")
struct MoveTests {
    private let ours = pattern(1000, seed: 1)
    private let theirs = pattern(700, seed: 2)

    private func moving() throws -> Mount { try Mount(StoreKind.moving.capabilities) }

    @Test("A file and a folder of any size cost one call each, and nothing is copied or deleted")
    func oneCall() async throws {
        let mount = try moving()
        try await mount.put("a", ours)
        for index in 1...1000 { try await mount.put("d/e/\(index)", [UInt8(index % 251)]) }
        try await mount.listTop()
        let folder = try await mount.inode("d/e")
        _ = try await mount.fs.list(folder)
        mount.traffic.reset()
        #expect(await rename(mount, "a", "b") == nil)
        #expect(await rename(mount, "d", "f") == nil)
        #expect(mount.traffic[.move] == 2 && mount.traffic[.copy] + mount.traffic[.delete] + mount.traffic[.put] == 0)
        #expect(mount.traffic.total <= 4)
        #expect(mount.ledger.destroyedByMount.isEmpty)
        #expect(try await mount.object("b") == ours)
        #expect(try await mount.keys("f/").count == 1000)
        #expect(try await mount.keys("d/").isEmpty)
        #expect(try await mount.read("f/e/7") == [7])
        #expect(try await mount.inode("f/e") == folder)
    }

    @Test("What was stored without an answer goes along with its folder, and the file goes on from there")
    func movedAfterLostAnswer() async throws {
        let mount = try moving()
        var wanted = pattern(20_000, seed: 3)
        try await mount.put("d/f", wanted)
        try await mount.listTop()
        let inode = try await mount.inode("d/f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 10_000, ours)
        mount.faults.add(.put, calls: 1...1, .dropReply(.gone))
        mount.faults.add(.head, calls: 1...1, .fail(.gone))
        let lost = await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) }
        #expect(lost == .connectionFailed)
        #expect(await rename(mount, "d", "e") == nil)
        try await mount.fs.write(inode, handle, 15_000, theirs)
        try await mount.fs.fsync(inode, handle)
        try await mount.fs.close(inode, handle)
        wanted.replaceSubrange(10_000..<10_000 + ours.count, with: ours)
        wanted.replaceSubrange(15_000..<15_000 + theirs.count, with: theirs)
        #expect(try await mount.contents() == ["e/f": wanted])
        #expect(mount.fs.statistics().failedCommits.isEmpty)
    }

    @Test("What nobody here has seen goes along with its folder, also what has come since the listing")
    func unseen() async throws {
        let mount = try moving()
        try await mount.put("d/x", ours)
        try await mount.listTop()
        let theirs = theirs
        mount.hooks.at(.before, .move, "e/") { _ = try? await mount.put("d/new", theirs) }
        #expect(await rename(mount, "d", "e") == nil)
        #expect(try await mount.contents() == ["e/x": ours, "e/new": theirs])
        #expect(mount.ledger.destroyedByMount.isEmpty)
    }

    @Test("A name that another machine takes at the last moment is not moved onto", arguments: ["e", "e/x"])
    func taken(key: String) async throws {
        for (flags, expected) in [
            (RenameFlags.noReplace, [VFSError.Code.alreadyExists]), ([], [.notEmpty, .notDirectory]),
        ] {
            let mount = try moving()
            let theirs = theirs
            try await mount.put("d/x", ours)
            try await mount.listTop()
            mount.hooks.at(.before, .move, "e/") { _ = try? await mount.put(key, theirs) }
            let code = try #require(await rename(mount, "d", "e", flags: flags))
            #expect(expected.contains(code))
            #expect(try await mount.contents() == ["d/x": ours, key: theirs])
        }
    }

    @Test("A version that comes at the last moment is moved neither away nor over")
    func changed() async throws {
        for key in ["a", "b"] {
            let mount = try moving()
            let theirs = theirs
            try await mount.put("a", ours)
            if key == "b" { try await mount.put("b", pattern(50, seed: 9)) }
            try await mount.listTop()
            mount.hooks.at(.before, .move, "b") { _ = try? await mount.put(key, theirs) }
            _ = await rename(mount, "a", "b")
            #expect(mount.ledger.unseen.isEmpty)
            #expect(try await mount.holders(theirs).count == 1)
            if key == "b" { #expect(try await mount.holders(ours).count == 1) }
        }
    }

    @Test(
        "A move whose answer was lost is known by what is where, and neither repeated nor undone",
        arguments: ["a", "d"])
    func lostAnswer(name: String) async throws {
        let mount = try moving()
        try await mount.put("a", ours)
        try await mount.put("d/x", ours)
        try await mount.listTop()
        let key = name == "a" ? "a" : "d/x"
        let inode = try await mount.inode(key)
        mount.faults.add(.move, calls: 1...1, .dropReply(.gone))
        mount.traffic.reset()
        #expect(await rename(mount, name, "new") == nil)
        #expect(mount.traffic[.move] == 1 && mount.traffic[.copy] + mount.traffic[.delete] == 0)
        let new = name == "a" ? "new" : "new/x"
        #expect(try await mount.object(new) == ours)
        #expect(try await mount.object(key) == nil)
        #expect(try await mount.inode(new) == inode)
        #expect(try await mount.read(new) == ours)
    }

    @Test(
        "One that takes place after its caller has been refused leaves all bytes in the store", arguments: ["a", "d"])
    func late(name: String) async throws {
        let mount = try moving()
        let (goOn, theirs) = (Gate(), theirs)
        try await mount.put("a", ours)
        try await mount.put("d/x", ours)
        try await mount.listTop()
        mount.faults.add(.move, calls: 1...1, .fail(.gone))
        #expect(await rename(mount, name, "new") == .connectionFailed)
        // What the store does late, of which nobody hears.
        let source = try await mount.head(name == "a" ? "a" : "d/x")
        let folder = ObjectInfo(key: "d/", size: 0, etag: ETag(""), stored: Timestamp(seconds: 0))
        let late = Task {
            await goOn.wait()
            _ = try? await mount.foreign.move(
                MoveRequest(source: name == "a" ? source : folder, destination: name == "a" ? "new" : "new/"))
        }
        // Both names are asked for again, and what is written to the old one now is not moved along unseen.
        goOn.open()
        await late.value
        #expect(try await mount.attributes(name) == nil)
        try await mount.write(name == "a" ? "a" : "d", theirs)
        await mount.fs.drain()
        #expect(try await mount.holders(ours) == (name == "a" ? ["d/x", "new"] : ["a", "new/x"]))
        #expect(try await mount.holders(theirs).count == 1)
    }

    @Test("What is open and what is dirty in a folder goes on under its new name")
    func openInside() async throws {
        let mount = try moving()
        let patch = [UInt8](repeating: 0xAB, count: 16)
        try await mount.put("d/e/read", ours)
        try await mount.put("d/e/write", theirs)
        try await mount.listTop()
        let (reading, reader) = try await mount.open("d/e/read")
        let inode = try await mount.inode("d/e/write")
        let writer = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, writer, 32, patch)
        // Read in the very moment in which the object has gone and nobody knows where to.
        let moment = Once()
        mount.hooks.at(.after, .move, "f/") {
            moment.start {
                await failure { () async throws(VFSError) in
                    let bytes = try await mount.fs.read(reading, reader, 0, 128 << 10)
                    if bytes != self.ours { throw VFSError(.corrupted, "other bytes") }
                }
            }
            await pause(.milliseconds(100))
        }
        #expect(await rename(mount, "d", "f") == nil)
        #expect(await moment.result() == nil)
        try await mount.fs.close(reading, reader)
        try await mount.fs.close(inode, writer)
        await mount.fs.drain()
        #expect(try await mount.contents() == ["f/e/read": ours, "f/e/write": theirs.patched(patch, at: 32)])
        #expect(try await mount.inode("f/e/write") == inode)
    }

    @Test("A folder that the store does not have, or cannot move, is moved all the same")
    func fallsBack() async throws {
        for error in [VFSError(.notSupported, "not this one"), VFSError(.notFound, "only here")] {
            let mount = try moving()
            try await mount.put("d/x", ours)
            try await mount.put("a", theirs)
            try await mount.listTop()
            mount.faults.add(.move, calls: 1...9, .fail(error))
            #expect(await rename(mount, "d", "e") == nil)
            if error.code == .notSupported { #expect(await rename(mount, "a", "b") == nil) }
            let files = try await mount.contents().filter { !$0.key.hasSuffix("/") }
            #expect(files == ["e/x": ours, error.code == .notSupported ? "b" : "a": theirs])
        }
    }

    @Test("A folder does not move where something known in it would have too long a key")
    func tooLong() async throws {
        let mount = try moving()
        let name = String(repeating: "x", count: 200)
        let long = (0..<4).map { _ in name }.joined(separator: "/")
        try await mount.put("d/\(long)", ours)
        try await mount.listTop()
        _ = try await mount.inode("d/\(long)")
        #expect(await rename(mount, "d", String(repeating: "y", count: 240)) == .nameTooLong)
        #expect(try await mount.contents() == ["d/\(long)": ours])
        #expect(await rename(mount, "d", "e") == nil)
    }

    @Test("A file that is new here and in no store yet moves with its folder")
    func unstored() async throws {
        let mount = try moving()
        try await mount.put("d/x", ours)
        try await mount.listTop()
        let folder = try await mount.inode("d")
        let (inode, handle) = try await mount.fs.create(folder, "new", flags: Flags.write)
        try await mount.fs.write(inode, handle, 0, theirs)
        #expect(await rename(mount, "d", "e") == nil)
        try await mount.fs.close(inode, handle)
        await mount.fs.drain()
        #expect(try await mount.contents() == ["e/x": ours, "e/new": theirs])
    }
}

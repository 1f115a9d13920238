import CloudMountLayers
import CloudMountStaging
import CloudMountVFS
import Glibc
import MemoryProvider
import MountHarness
import Synchronization
import Testing

@testable import CloudMountFilesystem

/// Close and fsync return when local disk has the bytes and a record of them.
@Suite("Write-back")
struct WriteBackTests {
    private let ours = pattern(3000, seed: 1)
    private let down = VFSError(.connectionFailed, "nobody listens")

    private func make(
        delay: Duration = .zero, _ adjust: (inout MountSettings) -> Void = { _ in }
    ) throws -> Mount {
        try Mount(journals: true) { settings in
            settings.policy.write = .back
            settings.policy.writeDelay = delay
            adjust(&settings)
        }
    }

    private func write(_ mount: Mount, _ name: String, _ bytes: [UInt8], in parent: InodeID = Mount.root) async throws {
        if let found = try await mount.fs.lookup(parent, name) {
            let handle = try await mount.fs.open(found.inode, flags: Flags.write)
            try await mount.fs.setattr(found.inode) { $0.size = 0 }
            try await mount.fill(found.inode, handle, bytes)
            return try await mount.fs.close(found.inode, handle)
        }
        let (inode, handle) = try await mount.fs.create(parent, name, flags: Flags.write)
        try await mount.fill(inode, handle, bytes)
        try await mount.fs.close(inode, handle)
    }

    private func stored(_ mount: Mount, _ path: String, _ bytes: [UInt8]) async throws {
        await settled { mount.fs.statistics().dirtyFiles == 0 }
        #expect(try await mount.object(path) == bytes)
        #expect(mount.fs.statistics().failedCommits.isEmpty)
    }

    @Test(
        "Close returns while the store is away, and the bytes get there, also by the next process",
        arguments: [true, false])
    func close(crashes: Bool) async throws {
        let mount = try make { $0.policy.offline = .serve }
        mount.faults.add(.put, calls: 1...9999, .fail(down))
        for number in 0..<20 { try await write(mount, "f\(number)", ours + [UInt8(number)]) }
        #expect(try await mount.keys().isEmpty)
        if crashes { try mount.remount(crash: true) }
        for number in 0..<20 { #expect(try await mount.read("f\(number)") == ours + [UInt8(number)]) }
        mount.faults.clear()
        if !crashes { await mount.fs.drain() }
        for number in 0..<20 { try await stored(mount, "f\(number)", ours + [UInt8(number)]) }
        await settled { mount.stagingUsed == 0 }
        try mount.remount(crash: true)
        #expect(mount.fs.statistics().dirtyFiles == 0 && mount.staging.leftovers.isEmpty)
    }

    @Test(
        "What is written after a close is not in what the next process finds, and what was closed is whole",
        arguments: ["over", "cut", "empty", "zeros"])
    func afterClose(how: String) async throws {
        let mount = try make(delay: .seconds(3600))
        try await write(mount, "f", ours)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        switch how {
        case "over": try await mount.fs.write(inode, handle, 100, [UInt8](repeating: 9, count: 5000))
        case "cut": try await mount.fs.setattr(inode) { $0.size = 100 }
        case "zeros": try await mount.fs.fallocate(inode, handle, mode: 3, 10, 100)
        default: _ = try await mount.fs.open(inode, flags: Flags.readWrite | 0o1000)
        }
        try mount.remount(crash: true)
        #expect(try await mount.read("f") == ours)
        await mount.fs.drain()
        try await stored(mount, "f", ours)
    }

    @Test("What changes before it goes up goes up once, under its last name; what is removed never does")
    func once() async throws {
        let mount = try make(delay: .seconds(3600))
        for turn in 1...5 { try await write(mount, "temporary", ours + [UInt8(turn)]) }
        try await mount.put("final", [1, 2, 3])
        try await mount.fs.rename(Mount.root, "temporary", Mount.root, "final")
        try await write(mount, "removed", ours)
        try await mount.fs.unlink(Mount.root, "removed")
        #expect(mount.traffic.keys(.put).isEmpty && mount.traffic.keys(.copy).isEmpty)
        await mount.fs.drain()
        #expect(mount.traffic.keys(.put) == ["final"])
        #expect(try await mount.keys() == ["final"])
        try await stored(mount, "final", ours + [5])
    }

    @Test("What the next process finds has the names and attributes of the last call", arguments: [true, false])
    func names(isStored: Bool) async throws {
        let mount = try make(delay: .seconds(3600))
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        try await write(mount, "f", ours, in: folder)
        if isStored { await mount.fs.drain() }
        let inode = try await mount.inode("d/f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, [1, 1, 1])
        try await mount.fs.close(inode, handle)
        try await mount.fs.setattr(inode) { $0.permissions = 0o604 }
        try await mount.fs.rename(folder, "f", folder, "g")
        try await mount.fs.rename(Mount.root, "d", Mount.root, "e")
        try mount.remount(crash: true)
        #expect(try await mount.read("e/g") == ours.patched([1, 1, 1], at: 0))
        await mount.fs.drain()
        try await stored(mount, "e/g", ours.patched([1, 1, 1], at: 0))
        #expect(try await mount.fs.getattr(mount.inode("e/g")).permissions == 0o604)
        #expect(try await mount.keys().filter { !$0.hasSuffix("/") } == ["e/g"])
        #expect(mount.fs.statistics().failedCommits.isEmpty && mount.namedFiles.isEmpty)
    }

    @Test(
        "A write that reached the store before the process died is known again, also one of an earlier state",
        arguments: [true, false])
    func known(changes: Bool) async throws {
        let mount = try make { $0.policy.offline = .serve }
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        mount.faults.add(.put, calls: 1...9999, .dropReply(down))
        mount.faults.add(.head, calls: 1...9999, .fail(down))
        try await mount.fs.flush(inode, handle)
        while try await mount.store.headIfThere("f") == nil { await pause(.milliseconds(5)) }
        var last = ours
        if changes {
            mount.faults.clear()
            mount.faults.add(.put, calls: 1...9999, .fail(down))
            mount.faults.add(.head, calls: 1...9999, .fail(down))
            last = ours + ours
            try await mount.fs.write(inode, handle, 3000, ours)
            try await mount.fs.flush(inode, handle)
        }
        try mount.remount(crash: true)
        mount.faults.clear()
        #expect(try await mount.read("f") == last)
        await mount.fs.drain()
        try await stored(mount, "f", last)
        #expect(try await mount.keys() == ["f"])
    }

    @Test("What the store refuses is told at the next write, fsync and close, until it has succeeded")
    func refused() async throws {
        let mount = try make()
        let full = VFSError(.quotaExceeded, "no more")
        mount.faults.add(.put, calls: 1...9999, .fail(full))
        try await write(mount, "f", ours)
        await settled { !mount.fs.statistics().failedCommits.isEmpty }
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.write(inode, handle, 0, [1]) }
                == .quotaExceeded)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .quotaExceeded)
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.flush(inode, handle) } == .quotaExceeded)
        mount.faults.clear()
        await mount.fs.drain()
        try await mount.fs.write(inode, handle, 0, [1])
        try await mount.fs.close(inode, handle)
        await mount.fs.drain()
        try await stored(mount, "f", ours.patched([1], at: 0))
    }

    @Test("Bytes that the process before wrote and nobody has acknowledged are no part of what the next one stores")
    func excess() async throws {
        let mount = try make(delay: .seconds(3600))
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        let first = pattern(300 << 10, seed: 5)
        try await mount.fill(inode, handle, first)
        try await mount.fs.fsync(inode, handle)
        try await mount.fs.write(inode, handle, first.count, pattern(300 << 10, seed: 6))
        try mount.remount(crash: true)
        #expect(mount.stagingUsed <= first.count)
        let again = try await mount.inode("f")
        let writer = try await mount.fs.open(again, flags: Flags.readWrite)
        try await mount.fs.write(again, writer, 500 << 10, [1])
        try await mount.fs.close(again, writer)
        await mount.fs.drain()
        try await stored(mount, "f", first + [UInt8](repeating: 0, count: 200 << 10) + [1])
    }

    @Test("A store that forbids it for a while costs nothing that was acknowledged")
    func forbidden() async throws {
        let mount = try make()
        mount.faults.add(.put, calls: 1...9999, .fail(VFSError(.permissionDenied, "no")))
        try await write(mount, "f", ours)
        await settled { !mount.fs.statistics().failedCommits.isEmpty }
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode)
        try await mount.fs.release(inode, handle)
        #expect(try await mount.read("f") == ours)
        try mount.remount(crash: true)
        mount.faults.clear()
        #expect(try await mount.read("f") == ours)
        await mount.fs.drain()
        try await stored(mount, "f", ours)
    }

    @Test(
        "A rename over a file that has not gone up leaves one of the two, whatever happens", arguments: [true, false])
    func renameOver(isStored: Bool) async throws {
        let mount = try make(delay: .seconds(3600))
        try await write(mount, "new", ours + ours)
        if isStored { await mount.fs.drain() }
        try await write(mount, "f", ours)
        try await mount.fs.rename(Mount.root, "new", Mount.root, "f")
        try mount.remount(crash: true)
        #expect(try await mount.read("f") == ours + ours)
        await mount.fs.drain()
        try await stored(mount, "f", ours + ours)
        #expect(try await mount.keys() == ["f"])
        #expect(mount.fs.statistics().failedCommits.isEmpty && mount.namedFiles.isEmpty)
    }

    @Test("What is closed while it goes up is on record until it is stored")
    func meanwhile() async throws {
        let mount = try make()
        mount.faults.add(.put, calls: 1...1, .delay(.milliseconds(300)))
        mount.faults.add(.put, calls: 2...9999, .fail(down))
        try await write(mount, "f", ours)
        await pause(.milliseconds(100))
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 3000, ours)
        try await mount.fs.close(inode, handle)
        while try await mount.store.headIfThere("f") == nil { await pause(.milliseconds(5)) }
        await pause(.milliseconds(100))
        try mount.remount(crash: true)
        #expect(try await mount.read("f") == ours + ours)
        mount.faults.clear()
        await mount.fs.drain()
        try await stored(mount, "f", ours + ours)
        #expect(try await mount.keys() == ["f"])
    }

    @Test("With sync: store an fsync waits for the store, and a crowded disk for what was written before")
    func store() async throws {
        let mount = try make(delay: .seconds(3600)) { $0.policy.sync = .store }
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, ours)
        try await mount.fs.fsync(inode, handle)
        #expect(try await mount.object("f") == ours)
        try await mount.fs.close(inode, handle)
        mount.staging.limit(to: 1 << 20, keepFree: 0)
        let large = pattern(600_000, seed: 4)
        try await write(mount, "g", large)
        #expect(try await mount.object("g") == large)
    }

    @Test("A save by rename goes over an earlier one whose answer was lost", arguments: [true, false])
    func savedByRename(crashes: Bool) async throws {
        let mount = try make(delay: .seconds(3600)) { $0.policy.sync = .store }
        try await mount.put("f", [1])
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, ours)
        mount.faults.add(.put, calls: 1...999, .dropReply(down))
        mount.faults.add(.head, calls: 1...999, .fail(down))
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(inode, handle) } == .connectionFailed)
        try? await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == ours)
        if crashes {
            let before = mount.traffic[.put]
            try mount.remount(crash: true)
            await settled { mount.traffic[.put] > before }
            await pause(.milliseconds(200))
        }
        mount.faults.clear()
        let next = pattern(500, seed: 9)
        try await write(mount, "new", next)
        try await mount.fs.rename(Mount.root, "new", Mount.root, "f")
        await mount.fs.drain()
        try await stored(mount, "f", next)
        #expect(try await mount.keys() == ["f"])
    }

    @Test(
        "What others keep with an object is there after a crash before anybody had looked at it",
        arguments: [true, false])
    func unseen(isStoredBefore: Bool) async throws {
        let mount = try make(delay: .seconds(3600))
        let theirs = ObjectMetadata(
            contentType: "text/x-own", user: ["mode": "0100600", "owner": "web"], headers: ["cache-control": "no-store"]
        )
        for name in ["b", "a", "c", "d", "e", "f", "g"] {
            try await mount.put(name, [1, 2, 3], name == "b" ? theirs : ObjectMetadata())
        }
        try await mount.listTop()
        await settled { mount.traffic[.head] >= 3 }
        await pause(.milliseconds(100))
        let inode = try await mount.inode("b")
        let handle = try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
        try await mount.fill(inode, handle, ours)
        try await mount.fs.close(inode, handle)
        #expect(!mount.traffic.keys(.head).contains("b"))
        let goOn = Gate()
        if isStoredBefore {
            // Killed when the store had it, and nobody here knew.
            let isThere = Gate()
            mount.hooks.at(.after, .put, "b") {
                isThere.open()
                await goOn.wait()
            }
            let old = mount.fs
            Task { await old.drain() }
            await isThere.wait()
        }
        try mount.remount(crash: true)
        #expect(try await mount.read("b") == ours)
        await mount.fs.drain()
        try await stored(mount, "b", ours)
        try await mount.fs.setattr(mount.inode("b")) { $0.modified = .at(Timestamp(seconds: 5)) }
        await mount.fs.drain()
        let metadata = try #require(try await mount.head("b").metadata)
        #expect(metadata.user["mode"] == "0100600" && metadata.user["owner"] == "web", "\(metadata.user)")
        #expect(metadata.contentType == theirs.contentType && metadata.headers == theirs.headers)
        goOn.open()
    }

    @Test("A name that changes while the first record of a file is put is on record", arguments: ["file", "folder"])
    func renamedMeanwhile(what: String) async throws {
        let mount = try make(delay: .seconds(3600))
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        try await write(mount, "f", ours, in: folder)
        await mount.fs.drain()
        let inode = try await mount.inode("d/f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 3000, ours)
        let (isSeen, goOn) = (Gate(), Gate())
        let looks = Mutex(0)
        let commits = mount.fs.upkeep.recovery.commits
        commits.records.attach { [weak commits] one in
            let told = commits?.told(one)
            // The bytes are named by then.
            if looks.withLock({
                $0 += 1; return $0
            }) == 1 {
                isSeen.open()
                while !goOn.isOpen { usleep(1000) }
            }
            return told
        }
        let closing = Task { await outcome { () async throws(VFSError) in try await mount.fs.flush(inode, handle) } }
        await isSeen.wait()
        let isOver = Gate()
        let renaming = Task {
            defer { isOver.open() }
            return await outcome { () async throws(VFSError) in
                if what == "file" {
                    try await mount.fs.rename(folder, "f", folder, "g")
                } else {
                    try await mount.fs.rename(Mount.root, "d", Mount.root, "e")
                }
            }
        }
        // It waits for the record; should it not, this waits for its end.
        for _ in 0..<300 where !isOver.isOpen { await pause(.milliseconds(5)) }
        goOn.open()
        #expect(await closing.value.isSuccess)
        #expect(await renaming.value.isSuccess)
        try mount.remount(crash: true)
        let path = what == "file" ? "d/g" : "e/f"
        #expect(try await mount.read(path) == ours + ours)
        await mount.fs.drain()
        try await stored(mount, path, ours + ours)
        #expect(try await mount.keys().filter { !$0.hasSuffix("/") } == [path])
    }

    @Test(
        "A file that is sent while it is written is known again, whenever it was synced",
        arguments: ["before", "meanwhile"])
    func streamed(when: String) async throws {
        let mount = try make(delay: .seconds(3600))
        let (first, more) = (pattern(20 << 20, seed: 3), pattern(1 << 20, seed: 4))
        let (isHeld, goOn, isThere, end) = (Gate(), Gate(), Gate(), Gate())
        if when == "meanwhile" {
            mount.hooks.at(.before, .uploadPart) {
                isHeld.open()
                await goOn.wait()
            }
        }
        mount.hooks.at(.after, .completeUpload) {
            isThere.open()
            await end.wait()
        }
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.write)
        try await mount.fill(inode, handle, first)
        let old = mount.fs
        if when == "before" {
            try await mount.fs.fsync(inode, handle)
            try await mount.fill(inode, handle, more, at: first.count)
            Task { await old.drain() }
        } else {
            await isHeld.wait()
            Task { await old.drain() }
            await settled { old.upkeep.recovery.commits.entries.isUnderWay(inode) }
            await pause(.milliseconds(200))
            try await mount.fill(inode, handle, more, at: first.count)
            try await mount.fs.fsync(inode, handle)
            goOn.open()
        }
        await isThere.wait()
        try mount.remount(crash: true)
        await mount.fs.drain()
        end.open()
        #expect(try await mount.keys() == ["f"])
        try await stored(mount, "f", first + more)
    }

    @Test("A rename goes on from what the process before has stored, with what was written after that")
    func renamedAfterCrash() async throws {
        let mount = try make()
        let old = pattern(200_000, seed: 5)
        try await mount.put("f", old)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 50, [1, 1, 1])
        let (isThere, goOn) = (Gate(), Gate())
        mount.hooks.at(.after, .put, "f") {
            isThere.open()
            await goOn.wait()
        }
        try await mount.fs.fsync(inode, handle)
        await isThere.wait()
        try await mount.fs.write(inode, handle, 1000, [2, 2, 2])
        try await mount.fs.fsync(inode, handle)
        // Its first try fails, so that the rename comes first.
        mount.faults.add(.put, calls: 1...999, .fail(down))
        for verb in [Verb.head, .read] { mount.faults.add(verb, calls: 1...999, .fail(down)) }
        try mount.remount(crash: true)
        await pause(.milliseconds(300))
        mount.faults.clear()
        try await mount.fs.rename(Mount.root, "f", Mount.root, "g")
        await mount.fs.drain()
        try await stored(mount, "g", old.patched([1, 1, 1], at: 50).patched([2, 2, 2], at: 1000))
        #expect(try await mount.keys() == ["g"])
        goOn.open()
    }

    @Test(
        "A file that is not stored keeps its old name when it cannot be put on record under the new one",
        arguments: [false, true])
    func fileWithoutRecord(replaces: Bool) async throws {
        let mount = try make(delay: .seconds(3600))
        if replaces {
            try await write(mount, "f", [1])
            await mount.fs.drain()
        }
        try await write(mount, "tmp", ours)
        mount.breakJournal()
        #expect(await rename(mount, "tmp", "f") == .noSpace)
        #expect(try await mount.read("tmp") == ours)
        try mount.remount(crash: true)
        #expect(try await mount.read("tmp") == ours)
        #expect((try? await mount.read("f")) == (replaces ? [1] : nil))
    }

    @Test("A folder keeps its old name when what is in it cannot be put on record under the new one")
    func folderWithoutRecord() async throws {
        let mount = try make(delay: .seconds(3600))
        let folder = try await mount.fs.mkdir(Mount.root, "d")
        try await write(mount, "f", ours, in: folder)
        await mount.fs.drain()
        let inode = try await mount.inode("d/f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.fs.write(inode, handle, 0, [9])
        try await mount.fs.close(inode, handle)
        mount.breakJournal()
        #expect(await rename(mount, "d", "e") == .noSpace)
        #expect(try await mount.read("d/f") == ours.patched([9], at: 0))
        try mount.remount(crash: true)
        #expect(try await mount.read("d/f") == ours.patched([9], at: 0))
        await mount.fs.drain()
        try await stored(mount, "d/f", ours.patched([9], at: 0))
    }

    @Test("What was promised is kept when write-back is over and the store forbids it")
    func promised() async throws {
        let mount = try make()
        mount.faults.add(.put, calls: 1...9999, .fail(.forbidden))
        try await write(mount, "f", ours)
        await settled { !mount.fs.statistics().failedCommits.isEmpty }
        var settings = mount.fs.settings()
        settings.policy.write = .through
        mount.fs.update(settings)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode)
        try await mount.fs.release(inode, handle)
        #expect(try await mount.read("f") == ours)
        mount.faults.clear()
        await mount.fs.drain()
        try await stored(mount, "f", ours)
    }

    @Test("A mount that is read-only by now names what it holds, and the next one that is not stores it")
    func readOnly() async throws {
        let mount = try make(delay: .seconds(3600))
        try await write(mount, "f", ours)
        try mount.remount(crash: true, isReadOnly: true)
        let kept = try #require(mount.fs.statistics().failedCommits.first)
        #expect(kept.path == "f" && kept.bytes > 0 && kept.error.contains("read-only"))
        #expect(try await mount.fs.lookup(Mount.root, "f") == nil)
        try mount.remount(crash: true)
        await mount.fs.drain()
        try await stored(mount, "f", ours)
    }

    @Test("A copy that is made once more has nothing of what was written into the first, and sent")
    func copiedAgain() async throws {
        let mount = try make(delay: .seconds(3600)) { $0.policy.sync = .store }
        let bytes = pattern(3 << 19, seed: 7)
        try await mount.put("x", bytes)
        let (source, target) = (try await mount.open("x"), try await mount.fs.create(Mount.root, "f"))
        func copy() async throws {
            let copied = try? await mount.fs.copyFileRange(source, 0, target, 0, bytes.count)
            // As the kernel does it where the store does not.
            if copied == nil { try await mount.fill(target.inode, target.handle, bytes) }
        }
        try await copy()
        #expect(try await mount.object("f") == bytes)
        try await mount.fs.write(target.inode, target.handle, 100, [1, 2, 3])
        mount.faults.add(.put, calls: 1...999, .dropReply(down))
        mount.faults.add(.head, calls: 1...999, .fail(down))
        #expect(
            await failure { () async throws(VFSError) in try await mount.fs.fsync(target.inode, target.handle) } != nil)
        #expect(try await mount.object("f") == bytes.patched([1, 2, 3], at: 100))
        mount.faults.clear()
        try await mount.fs.setattr(target.inode) { $0.size = 0 }
        try await copy()
        #expect(try await mount.readAll(target.inode, target.handle) == bytes)
        await mount.fs.drain()
        try await stored(mount, "f", bytes)
    }
}

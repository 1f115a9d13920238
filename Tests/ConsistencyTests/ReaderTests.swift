import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Synchronization
import Testing

@Suite("Readers see one version, and see it to its end")
struct ReaderTests {
    private let old = pattern(300_000, seed: 1)
    private let new = pattern(300_000, seed: 2)

    /// Opens and reads `path` whole, on a task of its own.
    private func reader(_ mount: Mount, _ path: String) -> Task<Result<[UInt8], VFSError>, Never> {
        Task { await outcome { () async throws(VFSError) in try await mount.read(path) } }
    }

    private func isOneOf(_ result: Result<[UInt8], VFSError>, _ versions: [[UInt8]]) -> Bool {
        if case .success(let bytes) = result { versions.contains(bytes) } else { false }
    }

    @Test(
        "An open within metadata_ttl of a file that others have overwritten reads the new version",
        arguments: StoreKind.all)
    func openAfterOverwrite(_ kind: StoreKind) async throws {
        let mount = try Mount(kind.capabilities)
        try await mount.put("f", old)
        // Seen, and no byte read, of which the kernel could have pages.
        _ = try await mount.inode("f")
        try await mount.put("f", new)
        if kind.capabilities.readsOldVersions {
            // The version that is known can still be had, and may be read to the end of its time.
            #expect(isOneOf(await reader(mount, "f").value, [old, new]))
        } else {
            #expect(await outcome { () async throws(VFSError) in try await mount.read("f") } == .success(new))
        }
    }

    @Test("The first sign of a change is enough: the next open reads the new version, longer or shorter")
    func firstSign() async throws {
        for count in [1000, 500_000] {
            let mount = try Mount()
            try await mount.put("f", old)
            _ = try await mount.read("f")
            let other = pattern(count, seed: 4)
            try await mount.put("f", other)
            // The kernel has pages of the version before: whoever meets the change is refused, and has told the mount.
            if case .success(let bytes) = await reader(mount, "f").value { #expect(bytes == other) }
            #expect(await outcome { () async throws(VFSError) in try await mount.read("f") } == .success(other))
        }
    }

    @Test(
        "The kernel hears of another length, and can ask for it, before it gets a byte; a shorter file's end is told to who asks afterwards"
    )
    func anotherLength() async throws {
        for count in [1000, 200_000, 500_000] {
            let mount = try Mount { $0.policy.data = .off }
            try await mount.put("f", old)
            let inode = try await mount.inode("f")
            let handle = try await mount.fs.open(inode)
            let kernel = Kernel(mount.fs)
            mount.fs.attach(kernel)
            let other = pattern(count, seed: 4)
            try await mount.put("f", other)
            /// Nil: refused as stale.
            func read(_ extent: Extent) async throws(VFSError) -> [UInt8]? {
                do throws(VFSError) {
                    return try await mount.fs.read(inode, handle, extent.lowerBound, extent.count)
                } catch {
                    if error.code == .stale { return nil }
                    throw error
                }
            }
            let isShorter = count < old.count
            // As the kernel reads ahead up to the end that it knows: the last first.
            let ahead = [Extent(262_144, 303_104), Extent(131_072, 262_144), Extent(0, 131_072)]
            for extent in ahead {
                let isWhole = extent.upperBound <= count
                let bytes = isWhole ? Array(other[extent.lowerBound..<extent.upperBound]) : nil
                #expect(try await read(extent) == bytes)
            }
            #expect(kernel.told == [count])
            if isShorter {
                // What was refused it asks for again, page by page.
                let last = count / 4096 * 4096
                #expect(try await read(Extent(last, last + 4096)) == Array(other[last...]))
                #expect(try await read(Extent(count, count + 4096)) == [])
                // There is no end of the file to be taken for.
                #expect(try await read(Extent(last + 8192, last + 12_288)) == nil)
            }
            try await mount.fs.close(inode, handle)
        }
    }

    @Test("A file that somebody may write to the end of never becomes one of another length while it is open")
    func anotherLengthOfAWriter() async throws {
        let mount = try Mount()
        try await mount.put("f", old)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode, flags: Flags.readWrite)
        try await mount.put("f", pattern(500_000, seed: 4))
        let bytes = await failure { () async throws(VFSError) in try await mount.fs.read(inode, handle, 0, 4096) }
        #expect(bytes == .stale)
        try await mount.fs.close(inode, handle)
    }

    @Test("A handle that has read some never reads of another version", arguments: StoreKind.all)
    func oneVersion(_ kind: StoreKind) async throws {
        let mount = try Mount(kind.capabilities) { $0.policy.data = .off }
        let old = pattern(3 << 20, seed: 1)
        let new = pattern(3 << 20, seed: 2)
        try await mount.put("f", old)
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode)
        var bytes = try await mount.fs.read(inode, handle, 0, 4096)
        try await mount.put("f", new)
        while bytes.count < old.count {
            let rest = await outcome { () async throws(VFSError) in
                try await mount.fs.read(inode, handle, bytes.count, 128 << 10)
            }
            guard case .success(let some) = rest, !some.isEmpty else { break }
            bytes += some
        }
        #expect(bytes == Array(old[0..<bytes.count]))
        try await mount.fs.close(inode, handle)
    }

    @Test("A handle whose first bytes are of the version that replaced the one it was opened on stays with that")
    func oneVersionAfterASwitch() async throws {
        let mount = try Mount { $0.policy.data = .off }
        let versions = (1...3).map { pattern(3 << 20, seed: UInt64($0)) }
        try await mount.put("f", versions[0])
        let inode = try await mount.inode("f")
        let handle = try await mount.fs.open(inode)
        try await mount.put("f", versions[1])
        let first = try await mount.fs.read(inode, handle, 0, 4096)
        #expect(versions[1][0..<4096].elementsEqual(first))
        try await mount.put("f", versions[2])
        let second = await outcome { () async throws(VFSError) in
            try await mount.fs.read(inode, handle, 1 << 20, 4096)
        }
        if case .success(let bytes) = second {
            #expect(versions[1][1 << 20..<(1 << 20) + 4096].elementsEqual(bytes))
        }
        try await mount.fs.close(inode, handle)
    }

    @Test("Who opens a file at the moment at which a rename replaces it reads the old or the new one")
    func openWhileReplaced() async throws {
        let mount = try Mount(clock: HeldClock().clock)
        try await mount.put("f", old)
        try await mount.put("g", new)
        try await mount.listTop()
        let (started, first) = (Gate(), Gate())
        let reading = Task { () -> Result<[UInt8], VFSError> in
            await started.wait()
            return await outcome { () async throws(VFSError) in
                let (inode, handle) = try await mount.open("f")
                first.open()
                await pause(.milliseconds(100))
                let bytes = await outcome { () async throws(VFSError) in try await mount.readAll(inode, handle) }
                try await mount.fs.close(inode, handle)
                return try bytes.get()
            }
        }
        mount.hooks.at(.before, .copy, "f") {
            started.open()
            // As long as the open does not wait for the rename.
            for _ in 0..<400 where !first.isOpen { await pause(.milliseconds(5)) }
        }
        try await mount.fs.rename(Mount.root, "g", Mount.root, "f")
        #expect(isOneOf(await reading.value, [old, new]))
    }

    @Test("Who was refused because the file was replaced under him is not refused again when he comes back")
    func replacedTwice() async throws {
        // However slow the machine is, he comes back in time.
        var clock = HeldClock().clock
        clock.sleep = { _ in try? await Task.sleep(for: .seconds(600)) }
        let mount = try Mount(clock: clock)
        for (name, bytes) in [("f", old), ("g", new), ("h", old)] { try await mount.put(name, bytes) }
        try await mount.listTop()
        let first = try await mount.inode("f")
        try await mount.fs.rename(Mount.root, "g", Mount.root, "f")
        #expect(await failure { () async throws(VFSError) in try await mount.fs.open(first) } == .stale)
        // As the kernel does then.
        let second = try await mount.inode("f")
        try await mount.fs.rename(Mount.root, "h", Mount.root, "f")
        let handle = try await mount.fs.open(second)
        #expect(try await mount.fs.read(second, handle, 0, 4096) == Array(new.prefix(4096)))
        try await mount.fs.close(second, handle)
        #expect(try await mount.read("f") == old)
    }

    @Test("Who reads a file while it gets another name reads on", arguments: ["file", "folder"])
    func readWhileRenamed(what: String) async throws {
        let mount = try Mount { $0.policy.data = .off }
        let key = what == "file" ? "f" : "d/f"
        try await mount.put(key, old)
        try await mount.listTop()
        let inode = try await mount.inode(key)
        let handle = try await mount.fs.open(inode)
        let reading = Gate()
        let read = Task { () -> Result<[UInt8], VFSError> in
            await reading.wait()
            return await outcome { () async throws(VFSError) in try await mount.readAll(inode, handle) }
        }
        mount.hooks.at(.after, .delete, ObjectKey(key)) {
            reading.open()
            await pause(.milliseconds(200))
        }
        try await mount.fs.rename(Mount.root, what == "file" ? "f" : "d", Mount.root, "new")
        #expect(isOneOf(await read.value, [old]))
        try await mount.fs.close(inode, handle)
    }

    @Test("A read that meets a commit of its own mount waits for it and goes on")
    func readWhileCommitted() async throws {
        for kind in StoreKind.all {
            let mount = try Mount(kind.capabilities) { $0.policy.data = .off }
            try await mount.put("f", old)
            let inode = try await mount.inode("f")
            let writer = try await mount.fs.open(inode, flags: Flags.readWrite)
            let handle = try await mount.fs.open(inode)
            let patch = [UInt8](repeating: 7, count: 100)
            try await mount.fs.write(inode, writer, 50, patch)
            let reading = Gate()
            let read = Task { () -> Result<[UInt8], VFSError> in
                await reading.wait()
                return await outcome { () async throws(VFSError) in
                    try await mount.fs.read(inode, handle, 200_000, 4096)
                }
            }
            mount.hooks.at(.after, .put, "f") {
                reading.open()
                await pause(.milliseconds(200))
            }
            try await mount.fs.flush(inode, writer)
            #expect(isOneOf(await read.value, [Array(old[200_000..<204_096])]), "\(kind.testDescription)")
            try await mount.fs.close(inode, handle)
            try await mount.fs.close(inode, writer)
        }
    }

    @Test("Three hundred files that were read once and stay open leave room for the next reader")
    func idleReaders() async throws {
        let mount = try Mount(memory: 32 << 20)
        let bytes = pattern(256 << 10)
        for index in 0..<300 { try await mount.put("f\(index)", bytes) }
        try await mount.listTop()
        var open: [(InodeID, HandleID)] = []
        for index in 0..<300 {
            let inode = try await mount.inode("f\(index)")
            let handle = try await mount.fs.open(inode)
            open.append((inode, handle))
            let read = Task {
                await outcome { () async throws(VFSError) in try await mount.fs.read(inode, handle, 0, 4096) }
            }
            guard let result = await soon(read) else {
                Issue.record("the reader of file \(index) has no answer")
                break
            }
            #expect(isOneOf(result, [Array(bytes[0..<4096])]))
        }
        for (inode, handle) in open { try await mount.fs.close(inode, handle) }
        await settled { mount.memoryUsed == 0 }
        #expect(mount.memoryUsed == 0)
    }

    @Test("Readers that are at work do not take from each other what they have read ahead")
    func busyReaders() async throws {
        let mount = try Mount(memory: 16 << 20)
        let bytes = pattern(16 << 20)
        let names = ["a", "b", "c", "d"]
        var open: [(InodeID, HandleID)] = []
        for name in names {
            try await mount.put(name, bytes)
            let inode = try await mount.inode(name)
            open.append((inode, try await mount.fs.open(inode)))
        }
        mount.traffic.reset()
        for offset in stride(from: 0, to: bytes.count, by: 128 << 10) {
            for (inode, handle) in open {
                let some = try await mount.fs.read(inode, handle, offset, 128 << 10)
                #expect(some == Array(bytes[offset..<offset + (128 << 10)]))
            }
        }
        // When they take from each other it is 1.8 times; on a busy machine up to 1.7 without that.
        #expect(mount.traffic.bytesWanted <= names.count * bytes.count * 175 / 100)
        for (inode, handle) in open { try await mount.fs.close(inode, handle) }
    }

    @Test("A file that was unlinked while it was being opened reads as it was, or is not there")
    func openWhileUnlinked() async throws {
        let mount = try Mount()
        try await mount.put("f", old)
        try await mount.listTop()
        let inode = try await mount.inode("f")
        let (started, first) = (Gate(), Gate())
        let reading = Task { () -> Result<[UInt8], VFSError> in
            await started.wait()
            let opened = await outcome { () async throws(VFSError) in try await mount.fs.open(inode) }
            first.open()
            guard case .success(let handle) = opened else { return .success([]) }
            await pause(.milliseconds(100))
            let bytes = await outcome { () async throws(VFSError) in try await mount.readAll(inode, handle) }
            _ = await outcome { () async throws(VFSError) in try await mount.fs.close(inode, handle) }
            return bytes
        }
        mount.hooks.at(.before, .delete, "f") {
            started.open()
            for _ in 0..<40 where !first.isOpen { await pause(.milliseconds(5)) }
        }
        try await mount.fs.unlink(Mount.root, "f")
        #expect(isOneOf(await reading.value, [old, []]))
    }
}

/// What a file's size is whenever the kernel is told to ask for it.
private final class Kernel: KernelNotifier {
    private let fs: MountedBucket
    private let sizes = Mutex<[Int]>([])

    init(_ fs: MountedBucket) { self.fs = fs }

    var told: [Int] { sizes.withLock { $0 } }

    func invalidateEntry(parent: InodeID, name: FileName) {}
    func invalidateInode(_ inode: InodeID, extent: Extent?) {}
    func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {}
    func expireAttributes(_ inode: InodeID) {
        fs.getattr(
            inode, handle: nil,
            reply: Reply { result in
                if case .success(let reply) = result { self.sizes.withLock { $0.append(reply.attributes.size) } }
            })
    }
}

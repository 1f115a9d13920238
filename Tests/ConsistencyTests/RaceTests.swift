import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Synchronization
import Testing

/// Faults that only the scheduling shows: each is tried often.
@Suite("Two at once on one file")
struct RaceTests {
    @Test("A write beside an O_TRUNC is all there or all gone, never zeros")
    func truncateAndWrite() async throws {
        let mount = try Mount()
        let bytes = [UInt8](repeating: 0xAA, count: 8192)
        let (inode, writer) = try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite)
        try await mount.fs.write(inode, writer, 0, bytes)
        for round in 0..<4000 {
            async let written = outcome { () async throws(VFSError) in
                try await mount.fs.write(inode, writer, 0, bytes)
            }
            async let opened = outcome { () async throws(VFSError) in
                try await mount.fs.open(inode, flags: Flags.write | Flags.truncate)
            }
            let (write, open) = await (written, opened)
            _ = try write.get()
            let handle = try open.get()
            let seen = await outcome { () async throws(VFSError) in try await mount.fs.read(inode, writer, 0, 8192) }
            guard case .success(let some) = seen, some.isEmpty || some == bytes else {
                Issue.record("round \(round): \(seen)")
                break
            }
            // What stat(2) says is what there is to read, whoever was told of it last.
            let size = try await mount.fs.getattr(inode).size
            guard size == some.count else {
                Issue.record("round \(round): \(some.count) bytes, and stat says \(size)")
                break
            }
            try await mount.fs.release(inode, handle)
        }
        try await mount.fs.close(inode, writer)
    }

    @Test("A chmod beside an open is stored")
    func chmodAndOpen() async throws {
        let mount = try Mount()
        try await mount.put("f", pattern(100))
        let inode = try await mount.inode("f")
        var lost = 0
        for round in 0..<600 {
            let mode = UInt32(0o600 + round % 64)
            async let changed = outcome { () async throws(VFSError) in
                try await mount.fs.setattr(inode) { $0.permissions = mode }
            }
            async let opened = outcome { () async throws(VFSError) -> HandleID in
                for _ in 0..<round % 5 { await Task.yield() }
                return try await mount.fs.open(inode)
            }
            let (change, open) = await (changed, opened)
            _ = try change.get()
            try await mount.fs.close(inode, try open.get())
            let stored = try await mount.head("f").metadata?.user["mode"]
            if stored != "0100" + String(mode, radix: 8) { lost += 1 }
        }
        #expect(lost == 0, "\(lost) of 600 are not in the store")
    }

    @Test("Bytes written again while the file is being streamed are those that are stored")
    func rewrittenStream() async throws {
        let mount = try Mount()
        var bytes = pattern(17 << 20)
        let (inode, handle) = try await mount.fs.create(Mount.root, "f", flags: Flags.readWrite)
        try await mount.fill(inode, handle, bytes)
        for round in 0..<300 {
            let offset = (round * 40_961) % (15 << 20)
            let patch = [UInt8](repeating: UInt8(round % 255), count: 64)
            async let written = outcome { () async throws(VFSError) in
                try await mount.fs.write(inode, handle, offset, patch)
            }
            async let flushed =
                round % 10 == 0
                ? outcome { () async throws(VFSError) in
                    try await mount.fs.flush(inode, handle)
                } : .success(())
            let (write, flush) = await (written, flushed)
            _ = try write.get()
            try flush.get()
            bytes.replaceSubrange(offset..<offset + 64, with: patch)
        }
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("f") == bytes)
    }

    @Test("Readers of a file that is replaced again and again by renames never fail")
    func replacedAgainAndAgain() async throws {
        let mount = try Mount()
        let versions = (0..<2).map { pattern(20_000, seed: UInt64($0)) }
        try await mount.write("f", versions[0])
        for verb in [Verb.put, .copy, .delete] {
            mount.hooks.at(.before, verb, always: true) { await pause(.milliseconds(2)) }
        }
        let reads = Atomic(0)
        let reading = Task { () -> [String] in
            var wrong: [String] = []
            while !Task.isCancelled {
                let read = await outcome { () async throws(VFSError) in try await mount.read("f") }
                switch read {
                case .success(let bytes): if !versions.contains(bytes) { wrong.append("a mix") }
                case .failure(let error): wrong.append("\(error)")
                }
                reads.add(1, ordering: .sequentiallyConsistent)
                if wrong.count > 5 { break }
            }
            reads.store(.max / 2, ordering: .sequentiallyConsistent)
            return wrong
        }
        for round in 0..<200 {
            try await mount.write("tmp", versions[round % 2])
            try await mount.fs.rename(Mount.root, "tmp", Mount.root, "f")
            // The kernel looks a stale name up once more, and not twice: one open meets one replacement at most.
            let before = reads.load(ordering: .sequentiallyConsistent)
            while reads.load(ordering: .sequentiallyConsistent) == before { await pause(.microseconds(200)) }
        }
        reading.cancel()
        let wrong = await reading.value
        #expect(wrong == [])
    }
}

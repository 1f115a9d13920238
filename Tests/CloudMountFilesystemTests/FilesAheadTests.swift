import CloudMountLayers
import CloudMountPlatform
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import Testing

@testable import CloudMountFilesystem

/// Small files that are fetched before they are opened.
@Suite("Small files in order")
struct FilesAheadTests {
    private static let size = 4096

    /// Waits at the reads of one object until it is opened.
    private final class Gate: Sendable {
        private let state = Mutex((isOpen: false, error: VFSError?.none, waits: 0))
        var waits: Int { state.withLock { $0.waits } }
        func open(_ error: VFSError? = nil) { state.withLock { ($0.isOpen, $0.error) = (true, error) } }

        func pass() async throws(VFSError) {
            state.withLock { $0.waits += 1 }
            while !state.withLock({ $0.isOpen }) {
                if Task.isCancelled { throw .cancelled }
                try? await Task.sleep(for: .milliseconds(1))
            }
            // Of those that waited, one.
            if let error = state.withLock({ $0.error.take() }) { throw error }
        }
    }

    /// Numbers in order.
    private final class Next: Sendable {
        private let state = Mutex(0)
        func take() -> Int {
            state.withLock { next in
                defer { next += 1 }
                return next
            }
        }
    }

    private struct GateLayer: ProviderLayer {
        let inner: any ObjectProvider
        let key: ObjectKey
        let gate: Gate

        func perform<Value: Sendable>(
            _ call: ProviderCall, _ body: @escaping CallBody<Value>
        ) async throws(VFSError) -> Value {
            if call.verb == .read, call.key == key { try await gate.pass() }
            return try await body(inner)
        }
    }

    private func bytes(_ index: Int) -> [UInt8] { pattern(Self.size, seed: UInt64(index)) }

    private func name(_ index: Int) -> String { "f" + String(1000 + index) }

    /// A directory of so many files that is known whole.
    private func fill(_ mount: TestMount, _ count: Int, _ directory: String = "d") async throws {
        for index in 0..<count { try await mount.put("\(directory)/\(name(index))", bytes(index)) }
        let inode = try await mount.inode(directory)
        #expect(try await mount.fs.list(inode).count == count)
        mount.traffic.reset()
    }

    private func read(_ mount: TestMount, _ index: Int, _ directory: String = "d") async throws {
        #expect(try await mount.read("\(directory)/\(name(index))") == bytes(index), "\(name(index))")
    }

    /// Reads the first files, until those that follow are fetched ahead.
    private func begin(_ mount: TestMount) async throws {
        for index in 0..<3 { try await read(mount, index) }
        await settled { mount.fs.filesAhead.used == 2 * Self.size }
        #expect(mount.fs.filesAhead.used == 2 * Self.size)
    }

    @Test("Who reads file after file waits for the first three; each is fetched once")
    func inOrder() async throws {
        let mount = try TestMount()
        let count = 300
        try await fill(mount, count)
        try await begin(mount)
        for index in 3..<count { try await read(mount, index) }
        #expect(mount.traffic[.read] == count)
        #expect(mount.traffic.ahead == count - 3)
        #expect(mount.traffic.total == count)
        #expect(mount.traffic.bytesWanted == count * Self.size)
        #expect(mount.fs.filesAhead.used == 0)
        #expect(mount.memoryOfReads == 0)
    }

    @Test("Eight threads in order: each file is fetched once")
    func threads() async throws {
        let mount = try TestMount()
        let count = 300
        try await fill(mount, count)
        let next = Next()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    while true {
                        let index = next.take()
                        if index >= count { return }
                        try await read(mount, index)
                    }
                }
            }
            try await group.waitForAll()
        }
        // A file may be opened in the moment in which it is looked at.
        #expect(mount.traffic[.read] <= count + count / 50)
        #expect(mount.memoryOfReads <= 8 * Self.size)
    }

    @Test("Who jumps has next to nothing fetched in vain")
    func jumps() async throws {
        let mount = try TestMount()
        let count = 300
        try await fill(mount, count)
        for index in 0..<80 { try await read(mount, index * 83 % count) }
        #expect(mount.traffic.bytesWanted <= 80 * Self.size / 10 * 11)
    }

    @Test("Who comes to a file while it is fetched ahead waits for that fetch, and sends none")
    func joins() async throws {
        let gate = Gate()
        let mount = try TestMount(wrap: { GateLayer(inner: $0, key: "d/f1003", gate: gate) })
        try await fill(mount, 20)
        try await begin(mount)
        async let reading: Void = read(mount, 3)
        await settled { mount.fs.filesAhead.used == 4 * Self.size }
        gate.open()
        try await reading
        #expect(gate.waits == 1)
        #expect(mount.traffic.keys(.read).count { $0 == "d/f1003" } == 1)
    }

    @Test("A fetch ahead that fails costs no reader an error, also not who waits for it")
    func fails() async throws {
        let lost = VFSError(.connectionFailed, "the connection broke")
        let gate = Gate()
        let mount = try TestMount(wrap: { GateLayer(inner: $0, key: "d/f1003", gate: gate) })
        try await fill(mount, 30)
        try await begin(mount)
        async let reading: Void = read(mount, 3)
        await settled { mount.fs.filesAhead.used == 4 * Self.size }
        gate.open(lost)
        try await reading
        #expect(gate.waits == 2)
        // Nothing is fetched ahead for a while.
        let before = mount.traffic.ahead
        for index in 5..<10 { try await read(mount, index) }
        #expect(mount.traffic.ahead == before)
        mount.time.advance(.seconds(3))
        for index in 10..<30 { try await read(mount, index) }
        #expect(mount.traffic.ahead > before)
    }

    @Test("Who comes to a file whose fetch ahead hangs asks for himself, and is heard")
    func hangs() async throws {
        let gate = Gate()
        let mount = try TestMount(wrap: { GateLayer(inner: $0, key: "d/f1003", gate: gate) })
        try await fill(mount, 20)
        try await begin(mount)
        await settled { gate.waits == 1 }
        mount.time.advance(.seconds(3))
        async let reading: Void = read(mount, 3)
        await settled { gate.waits == 2 }
        gate.open()
        try await reading
        #expect(gate.waits == 2)
    }

    @Test("What was fetched ahead is of one version: a file that was changed here or elsewhere is read as it is")
    func changed() async throws {
        let mount = try TestMount { $0.policy.freshness = .open }
        try await fill(mount, 20)
        try await begin(mount)
        try await mount.put("d/f1003", pattern(Self.size, seed: 103))
        #expect(try await mount.read("d/f1003") == pattern(Self.size, seed: 103))
        let directory = try await mount.inode("d")
        await settled { mount.traffic.keys(.read).contains("d/f1005") }
        try await mount.write("f1005", pattern(Self.size, seed: 105), in: directory)
        #expect(try await mount.read("d/f1005") == pattern(Self.size, seed: 105))
        try await mount.fs.rename(directory, "f1007", directory, "f1006")
        #expect(try await mount.read("d/f1006") == bytes(7))
    }

    @Test("What the mount has learnt of a new version in the time for which the old one is believed, it reads")
    func relearnt() async throws {
        let mount = try TestMount()
        try await fill(mount, 20)
        try await begin(mount)
        try await mount.put("d/f1004", pattern(Self.size, seed: 104))
        mount.time.advance(.seconds(61))
        #expect(try await mount.read("d/f1004") == pattern(Self.size, seed: 104))
    }

    @Test("Memory that others want is given back, and what waits too long goes")
    func pressure() async throws {
        let mount = try TestMount(memory: 1 << 20)
        try await fill(mount, 100)
        try await begin(mount)
        for index in 3..<10 { try await read(mount, index) }
        #expect(mount.fs.filesAhead.used <= 64 << 10)
        await settled { mount.memoryOfReads == mount.fs.filesAhead.used }
        #expect(mount.memoryOfReads > 0)
        // Each of 32 is sure of 16 KiB; the mount has more.
        #expect(mount.fs.filesAhead.used > 32 << 10)
        do {
            let others = (0..<31).map { _ in mount.memory.share() }
            let taken = (0..<256).compactMap { _ in others[0].take(4096) }
            #expect(taken.count > 100)
            #expect(mount.memoryOfReads - others[0].used <= 16 << 10)
        }
        for index in 10..<20 { try await read(mount, index) }
        mount.time.advance(.seconds(21))
        _ = mount.fs.filesAhead.tidy()
        #expect(mount.fs.filesAhead.used == 0)
        await settled { mount.memoryOfReads == 0 }
        #expect(mount.memoryOfReads == 0)
    }

    @Test("Nothing is fetched ahead where nothing is kept, read ahead or believed, or where tags are not sure")
    func policies() async throws {
        var indistinct = MemoryProvider.fullCapabilities
        indistinct.distinctTags = false
        let mounts = [
            try TestMount { $0.policy.data = .off }, try TestMount { $0.policy.prefetch = 0 },
            try TestMount { $0.policy.freshness = .always }, try TestMount(capabilities: indistinct),
        ]
        for mount in mounts {
            try await fill(mount, 20)
            for index in 0..<20 { try await read(mount, index) }
            #expect(mount.traffic.ahead == 0)
            #expect(mount.traffic[.read] == 20)
        }
    }

    @Test("What the kernel may have in its pages is not fetched, until it asks for such a file again")
    func pages() async throws {
        let mount = try TestMount()
        try await fill(mount, 20)
        for index in 5..<20 { try await read(mount, index) }
        await settled { mount.memoryOfReads == 0 }
        let before = mount.traffic[.read]
        for index in 0..<5 { try await read(mount, index) }
        await settled { mount.memoryOfReads == 0 }
        #expect(mount.traffic[.read] == before + 5)
        for index in 0..<20 { try await read(mount, index) }
        #expect(mount.traffic[.read] == before + 25)
        // But for the first ones of each walk, and one or two that a reader comes to before them.
        #expect(mount.traffic.ahead >= 15 - 3 + 17 - 4)
    }

    @Test("Who goes on to the next directory is followed from its first file on")
    func directories() async throws {
        let mount = try TestMount()
        for directory in ["d", "e"] { try await fill(mount, 9, directory) }
        try await begin(mount)
        for index in 3..<9 { try await read(mount, index) }
        mount.traffic.reset()
        try await read(mount, 0, "e")
        await settled { mount.traffic.ahead == 8 }
        #expect(mount.traffic.ahead == 8)
        for index in 1..<9 { try await read(mount, index, "e") }
        #expect(mount.traffic[.read] == 9)
    }

    @Test("An answer to a fetch ahead tells the attributes too, where objects have some")
    func attributes() async throws {
        let mount = try TestMount()
        for index in 0..<30 {
            let metadata = ObjectMetadata(modified: Timestamp(seconds: 1000), user: ["mode": "0100640"])
            try await mount.put("d/\(name(index))", bytes(index), metadata)
        }
        let inode = try await mount.inode("d")
        #expect(try await mount.fs.list(inode, plus: false).count == 30)
        for index in 0..<3 { try await read(mount, index) }
        await settled { mount.traffic.ahead == 2 }
        mount.traffic.reset()
        for index in 3..<30 {
            await settled { mount.fs.filesAhead.isQuiet }
            try await read(mount, index)
            #expect(try await mount.attributes("d/\(name(index))")?.permissions == 0o640)
        }
        #expect(mount.traffic[.head] == 0)
    }
}

extension TestMount {
    /// With what is fetched before it is opened, without what is kept of what was read.
    fileprivate var memoryOfReads: Int { memoryUsed + fs.filesAhead.used }
}

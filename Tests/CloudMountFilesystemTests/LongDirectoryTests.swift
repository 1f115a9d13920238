import CloudMountLayers
import CloudMountPlatform
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import TestSeeds
import Testing

@testable import CloudMountFilesystem

/// Directories with so many names that to go through all of them is no single step.
@Suite("Long directories") struct LongDirectoryTests {
    private static let count = 9000
    /// A slice of a table of nodes, and of a list.
    private static let most = NodeTable<InodeID>.slice

    /// Runs as a provider does whose transfers share a thread.
    private struct OnSteps: ProviderLayer {
        let inner: any ObjectProvider
        let steps: StepExecutor

        var executor: (any TaskExecutor)? { steps }

        func perform<Value: Sendable>(
            _ call: ProviderCall, _ body: @escaping CallBody<Value>
        ) async throws(VFSError) -> Value { try await body(inner) }
    }

    /// Counts the names that it is told of in one step.
    private final class Kernel: KernelNotifier {
        private struct State {
            var told = 0
            var inStep: [Int: Int] = [:]
            var first: (@Sendable () -> Void)?
        }

        private let steps: StepExecutor
        private let state = Mutex(State())

        init(_ steps: StepExecutor, first: (@Sendable () -> Void)? = nil) {
            self.steps = steps
            state.withLock { $0.first = first }
        }

        var told: Int { state.withLock { $0.told } }
        var mostInStep: Int { state.withLock { $0.inStep.values.max() ?? 0 } }

        func invalidateEntry(parent: InodeID, name: FileName) {
            let step = steps.current
            let first = state.withLock { state in
                state.told += 1
                if let step { state.inStep[step, default: 0] += 1 }
                defer { state.first = nil }
                return state.first
            }
            first?()
        }

        func invalidateInode(_ inode: InodeID, extent: Extent?) {}
        func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {}
        func expireAttributes(_ inode: InodeID) {}
    }

    private let mount: TestMount
    private let steps = StepExecutor()
    private let fs: MountedBucket

    init() async throws {
        mount = try TestMount()
        fs = MountedBucket(
            settings: mount.settings, provider: OnSteps(inner: mount.store, steps: steps), staging: mount.staging,
            memory: mount.memory, clock: mount.time.clock)
        try await mount.put("d/stays", [1])
        for number in 0..<Self.count { try await mount.put("d/f\(number)", [1]) }
    }

    private func emptyAtTheStore() async throws {
        for number in 0..<Self.count { _ = try await mount.store.delete([DeleteRequest(ObjectKey("d/f\(number)"))]) }
        mount.time.advance(.seconds(3600))
    }

    private func directory() async throws -> InodeID { try #require(try await fs.lookup(TestMount.root, "d")).inode }

    @Test(
        "What has gone of a long directory goes piece by piece, and the thread of all transfers and the lock are free in between"
    )
    func gone() async throws {
        let inode = try await directory()
        #expect(
            try await fs.list(inode, plus: false, capacity: 5000).count { $0.name != "." && $0.name != ".." } == Self
                .count + 1)
        try await emptyAtTheStore()
        let left = Atomic(0)
        let fs = fs
        let kernel = Kernel(steps) { left.store(fs.statistics().inodes, ordering: .relaxed) }
        fs.attach(kernel)
        let after = try await fs.list(inode, plus: false, capacity: 5000).map(\.name).filter { $0 != "." && $0 != ".." }
        #expect(after == ["stays"])
        #expect(kernel.told == Self.count && fs.statistics().inodes == 3)
        #expect(kernel.mostInStep <= Self.most)
        // When the first of them was told of, most were there still.
        #expect(left.load(ordering: .relaxed) > Self.count - Self.most)
    }

    @Test("Names that come while the end of a listing is worked in are shown to who opens the directory after them")
    func beside() async throws {
        let inode = try await directory()
        _ = try await fs.list(inode, plus: false, capacity: 5000)
        try await emptyAtTheStore()
        let (begun, mayGoOn) = (Semaphore(), Semaphore())
        fs.attach(
            Kernel(steps) {
                begun.signal()
                mayGoOn.wait()
            })
        async let first = fs.list(inode, plus: false, capacity: 5000)
        await BlockingPool.shared.run { begun.wait() }
        var new: Set<String> = ["stays"]
        for number in 0..<60 {
            let name = "new\(number)"
            let (file, handle) = try await fs.create(inode, name)
            try await fs.close(file, handle)
            new.insert(name)
        }
        async let second = fs.list(inode, plus: false, capacity: 5000)
        let handle = try await fs.opendir(inode)
        mayGoOn.signal()
        #expect(Set(try await first.map(\.name)).isSuperset(of: ["stays"]))
        #expect(Set(try await second.map(\.name)).subtracting([".", ".."]) == new)
        let third = try await fs.readdir(inode, handle, from: 0, capacity: 5000, plus: false).map(\.name)
        #expect(Set(third).subtracting([".", ".."]) == new && Set(third).count == third.count)
        try await fs.releasedir(inode, handle)
        #expect(try await fs.lookup(inode, "f1") == nil)
        #expect(try await fs.lookup(inode, "new7") != nil)
    }
}

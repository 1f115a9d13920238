import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// What statfs(2) is told of the room in the store: asked for seldom, and waited for only by who comes before the first answer, for a second
/// at most. Where the store does not say, there is more than anybody needs.
final class Room: Sendable {
    private struct State {
        var space: StoreSpace?
        /// When it was last asked for, in monotonic nanoseconds.
        var askedAt: UInt64?
        var isAsking = false
        /// Who came before the first answer.
        var waiting: [ReplyBox<FileSystemStatistics>] = []
    }

    private static let blockSize = 4096
    private static let life = Duration.seconds(60)
    private static let patience = Duration.seconds(1)

    private let context: MountContext
    private let state = Mutex(State())

    init(context: MountContext) { self.context = context }

    func answer(_ reply: consuming Reply<FileSystemStatistics>) {
        guard context.capabilities.tellsSpace else { return reply.send(Self.statistics(nil)) }
        let box = ReplyBox(reply)
        let now = context.clock.monotonic()
        let (space, begins, waits) = state.withLock { state in
            let isDue = state.askedAt.map { now.elapsed(since: $0) >= Self.life.nanoseconds } ?? true
            let begins = isDue && !state.isAsking
            let waits = state.askedAt == nil
            if begins { state.isAsking = true }
            if waits { state.waiting.append(box) }
            return (state.space, begins, waits)
        }
        if begins { context.begin { await self.ask() } }
        if !waits { return box.send(Self.statistics(space)) }
        context.begin {
            await self.context.clock.sleep(Self.patience)
            box.send(Self.statistics(self.state.withLock { $0.space }))
        }
    }

    private func ask() async {
        let found = await attempt { () async throws(VFSError) in try await self.context.provider.space() }
        let now = context.clock.monotonic()
        let (space, waiting) = state.withLock { state in
            // A store that cannot be asked has as much room as it had.
            if case .success(let space) = found { state.space = space }
            state.askedAt = now
            state.isAsking = false
            defer { state.waiting = [] }
            return (state.space, state.waiting)
        }
        for box in waiting { box.send(Self.statistics(space)) }
    }

    private static func statistics(_ space: StoreSpace?) -> FileSystemStatistics {
        var (blocks, free): (UInt64, UInt64) = (1 << 38, 1 << 38)
        if let space {
            free = UInt64(clamping: space.available / blockSize)
            blocks = free + UInt64(clamping: space.used / blockSize)
        }
        return FileSystemStatistics(blocks: blocks, freeBlocks: free, files: 1 << 40, freeFiles: 1 << 40)
    }
}

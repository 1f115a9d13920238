import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// `poll`: lists the directories that are in use from time to time, and has what changed there elsewhere asked for anew, by the kernel too
/// (`Invalidator`). What a listing says is only held against what is believed: nothing is made or taken away here, so an answer that is
/// older than a change of this mount costs a question, and undoes nothing.
package final class Poller: Sendable {
    /// In any minute.
    static let mostRequests = 60
    private static let minute: UInt64 = 60_000_000_000
    /// Of one directory, before others have their turn.
    private static let mostPages = 10

    private struct State {
        var isRunning = false
        var isAtWork = false
        /// When directories were last looked at, or begun to be, and what of them is still to come.
        var looks: [InodeID: Look] = [:]
        /// Monotonic nanoseconds of the requests of the last minute, the oldest first.
        var requests: [UInt64] = []
        var inAll = 0
        var changes = 0
        var directories = 0
        /// How long ago the one that waits longest was looked at.
        var behind: UInt64 = 0
    }

    private let context: MountContext
    private let tree: Tree
    private let state = Mutex(State())

    init(context: MountContext, tree: Tree) { (self.context, self.tree) = (context, tree) }

    func report() -> PollReport? {
        guard context.policy().poll > .zero else { return nil }
        return state.withLock { state in
            PollReport(
                directories: state.directories, requests: state.inAll, changes: state.changes,
                behind: .nanoseconds(state.behind))
        }
    }

    // MARK: When

    /// Goes on for as long as the mount lives and its policy polls.
    func start() {
        guard context.policy().poll > .zero else { return }
        let isFirst = state.withLock { state in
            defer { state.isRunning = true }
            return !state.isRunning
        }
        guard isFirst else { return }
        let clock = context.clock
        Task(executorPreference: context.provider.executor) { [weak self] in
            while let pause = await self?.round() { await clock.sleep(pause) }
        }
    }

    /// - Returns: until the next; nil: there is to be none.
    private func round() async -> Duration? {
        await turn()
        let poll = context.policy().poll
        if poll > .zero { return poll / 5 }
        state.withLock { $0.isRunning = false }
        // One that was set meanwhile.
        start()
        return nil
    }

    /// Looks at all whose time has come, those first that were looked at longest ago, as far as requests may be made.
    package func turn() async {
        let poll = context.policy().poll.nanoseconds
        let isFree = state.withLock { state in
            defer { state.isAtWork = true }
            return !state.isAtWork
        }
        guard isFree else { return }
        defer { state.withLock { $0.isAtWork = false } }
        guard poll > 0, !context.isCutOff() else { return }
        let due = await due(poll)
        for inode in due {
            guard await look(inode) else { break }
        }
    }

    /// The directories that are in use, with when the store last told all of their names; 0: never. Piece by piece.
    private func directoriesInUse() async -> [InodeID: UInt64] {
        let (used, files) = tree.withNames { names in (names.used, names.openFiles) }
        return await LongWork.run(used.count + files.count) {
            var found: [InodeID: UInt64] = [:]
            self.inSlices(Array(used)) { names, inode in
                guard names.isStillUsed(inode, self.tree.now()) else { return }
                found[inode] = names[inode]?.directory?.completeSince
            }
            self.inSlices(Array(files)) { names, inode in
                guard let parent = names[inode].flatMap({ names[$0.parent] }), !parent.isOrphan else { return }
                found[parent.id] = parent.directory?.completeSince
            }
            return found
        }
    }

    private func inSlices(_ all: [InodeID], _ work: (inout Namespace, InodeID) -> Void) {
        for first in stride(from: 0, to: all.count, by: LongWork.slice) {
            let some = all[first..<min(first + LongWork.slice, all.count)]
            tree.withNames { names in for inode in some { work(&names, inode) } }
        }
    }

    private func key(of inode: InodeID) -> ObjectKey? {
        tree.withNames { names in names[inode].flatMap { $0.directory == nil ? nil : names.key(of: $0) } }
    }

    /// The directories to be looked at, the most urgent first.
    private func due(_ poll: UInt64) async -> [InodeID] {
        let used = await directoriesInUse()
        let now = tree.now()
        return state.withLock { state in
            state.looks = state.looks.filter { used[$0.key] != nil }
            let all = used.map { (inode: $0.key, at: max($0.value, state.looks[$0.key]?.began ?? 0)) }
            let due = all.filter { $0.at + poll / 5 * 3 <= now || state.looks[$0.inode]?.isUnderWay ?? false }.sorted {
                ($0.at, $0.inode) < ($1.at, $1.inode)
            }
            state.directories = used.count
            state.behind = due.first.map { $0.at == 0 ? 0 : now.elapsed(since: $0.at) } ?? 0
            return due.map(\.inode)
        }
    }

    /// Whether one more request may be made now; it counts then.
    private func takesRequest() -> Bool {
        if context.isCutOff() { return false }
        let now = tree.now()
        return state.withLock { state in
            let old = state.requests.prefix { $0 + Self.minute <= now }.count
            state.requests.removeFirst(old)
            guard state.requests.count < Self.mostRequests else { return false }
            state.requests.append(now)
            state.inAll += 1
            return true
        }
    }

    // MARK: One directory

    /// - Returns: false when no more can be asked now.
    private func look(_ inode: InodeID) async -> Bool {
        let kept = state.withLock { $0.looks[inode] }
        var look = kept.flatMap { $0.isUnderWay ? $0 : nil } ?? Look(inode)
        for _ in 0..<Self.mostPages {
            guard let prefix = key(of: inode), look.begins(at: prefix, tree) else {
                look.isUnderWay = false
                break
            }
            guard takesRequest() else { return note(look, goesOn: false) }
            let asked = tree.now()
            if look.began == 0 { look.began = asked }
            let request = ListRequest(
                prefix: prefix, delimited: true, continuation: look.continuation, takesUnreadable: true)
            let answer = await attempt { () async throws(VFSError) in try await context.provider.list(request) }
            switch answer {
            case .success(let page):
                let changes = await look.take(page, asked: asked, tree)
                await tell(changes)
            case .failure(let error):
                look.isUnderWay = false
                if error.code == .notFound, !prefix.isEmpty {
                    await tell([(prefix.withoutSlash, nil)])
                } else if error.code.isUnreachable {
                    return note(look, goesOn: false)
                }
            }
            if !look.isUnderWay { break }
        }
        return note(look, goesOn: true)
    }

    private func note(_ look: Look, goesOn: Bool) -> Bool {
        state.withLock { state in
            // One that has not been begun waits as long as it did.
            if look.began > 0 { state.looks[look.inode] = look }
        }
        return goesOn
    }

    private func tell(_ changes: [(key: ObjectKey, etag: ETag?)]) async {
        let invalidator = Invalidator(context: context, tree: tree)
        for change in changes { await invalidator.invalidate(change.key, etag: change.etag) }
        state.withLock { $0.changes += changes.count }
    }
}

/// What `poll` does, for `cloudmount status`.
public struct PollReport: Sendable, Equatable {
    /// In use.
    public var directories: Int
    /// Listings asked for since the mount began.
    public var requests: Int
    /// Names that came, went or changed.
    public var changes: Int
    /// How long ago the directory that waits longest was looked at.
    public var behind: Duration
    /// In any minute.
    public var mostRequests: Int { Poller.mostRequests }

    public init(directories: Int, requests: Int, changes: Int, behind: Duration) {
        (self.directories, self.requests, self.changes, self.behind) = (directories, requests, changes, behind)
    }
}

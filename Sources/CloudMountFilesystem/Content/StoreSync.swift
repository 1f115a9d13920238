import CloudMountPlatform
import CloudMountStaging
package import CloudMountVFS
import Synchronization

/// `cloudmount sync`: what files hold and the store does not have is stored now, whatever `write_delay` and the pauses after failures say.
package struct StoreSync: Sendable {
    let context: MountContext
    let tree: Tree
    let commits: Commits
    let markers: Markers

    /// Files that are stored at a time.
    private static let width = 32
    private static let (firstPause, lastPause) = (Duration.seconds(1), Duration.seconds(5))

    /// Returns when the store has all that was written at or below `paths` before the call, or nothing more is tried; `progress` says which.
    /// A cancellation ends the trying. What is under way then goes on by itself, as everything that waits does.
    /// - Parameters:
    ///   - paths: of files and directories; an empty one: all of the mount.
    ///   - retries: what fails because the store cannot be reached is tried again until the task is cancelled.
    package func run(_ paths: [ObjectKey], retries: Bool, _ progress: SyncProgress) async {
        let scope = PathScope(paths)
        let files = tree.stored.dirtyFiles().filter { !$0.isDirectory && scope.holds(ObjectKey($0.path)) }
        progress.begin(files.map { ($0.inode, told($0.inode, $0.path, "it has not been stored yet")) })
        // In rounds: what is to be tried again takes nobody's place while it waits.
        var (waiting, pause) = (files, Self.firstPause)
        while true {
            let results = await inParallelToEnd(waiting, width: Self.width) { file async throws(VFSError) in
                let mayPass = await store(file, progress)
                if Task.isCancelled { throw .cancelled }
                return mayPass
            }
            waiting = zip(waiting, results).filter { (try? $0.1?.get()) ?? false }.map(\.0)
            guard retries, !waiting.isEmpty, !Task.isCancelled else { break }
            await context.clock.sleep(pause)
            if Task.isCancelled { break }
            pause = min(pause * 2, Self.lastPause)
        }
        if !Task.isCancelled { await markers.storeTimes() }
        // Also what has become so meanwhile.
        let lost = commits.stranded.all() + (await unanswered())
        // Nobody knows where that belongs of which the name is not known.
        progress.end(lost: lost.filter { $0.path.isEmpty || scope.holds(ObjectKey($0.path)) })
    }

    /// What is on record and this mount does not store.
    private func unanswered() async -> [MountStatistics.FailedCommit] {
        let found = await BlockingPool.shared.run(context.name) { [context] in
            attemptNow { () throws(VFSError) in try context.writes.unanswered() }
        }
        let time = context.clock.now()
        switch found {
        case .success(let left):
            return left.map { left in
                var reason = context.settings().readOnly ? "the mount is read-only" : "the mount has not taken it up"
                if case .failure(let error) = left.write { reason = error.description }
                return MountStatistics.FailedCommit(
                    path: left.key.string, stagedPath: "", bytes: 0, error: "it waits on record: \(reason)", since: time
                )
            }
        case .failure(let error):
            return [
                MountStatistics.FailedCommit(
                    path: "", stagedPath: "", bytes: 0, error: "what is on record is not known: \(error)", since: time)
            ]
        }
    }

    /// - Returns: whether it may be stored another time.
    private func store(_ file: StoredNames.Dirty, _ progress: SyncProgress) async -> Bool {
        let result = await attempt { () async throws(VFSError) in try await commits.commit(file.inode) }
        tree.dropIdleContent(file.inode)
        // Removed meanwhile, or one that can never be stored, which is told as that.
        guard case .failure(let error) = result, tree.dirtyGeneration(file.inode) != nil else {
            progress.stored(file.inode)
            return false
        }
        if error.code != .cancelled { progress.note(file.inode, told(file.inode, file.path, error.description)) }
        return error.code.isUnreachable || error.code == .busy
    }

    private func told(_ inode: InodeID, _ path: String, _ reason: String) -> MountStatistics.FailedCommit {
        let content = tree.contentIfAny(inode)
        return MountStatistics.FailedCommit(
            path: path, stagedPath: content?.staged()?.place ?? "", bytes: content?.dirtyBytes() ?? 0, error: reason,
            since: context.clock.now())
    }
}

/// How far a `StoreSync` is.
package final class SyncProgress: Sendable {
    package struct Counts: Sendable, Equatable {
        package var files = 0
        package var bytes = 0
        package var storedFiles = 0
        package var storedBytes = 0

        package init() {}
    }

    private struct State {
        var counts = Counts()
        var waiting: [InodeID: MountStatistics.FailedCommit] = [:]
        var lost: [MountStatistics.FailedCommit] = []
        /// Of what waited at the start.
        var bytes: [InodeID: Int] = [:]
    }

    private let state = Mutex(State())

    package init() {}

    package var counts: Counts { state.withLock { $0.counts } }

    /// What is not stored, and why, by path.
    package var unstored: [MountStatistics.FailedCommit] {
        state.withLock { Array($0.waiting.values) + $0.lost }.sorted { ObjectKey($0.path) < ObjectKey($1.path) }
    }

    package func begin(_ files: [(inode: InodeID, told: MountStatistics.FailedCommit)]) {
        state.withLock { state in
            for file in files {
                state.waiting[file.inode] = file.told
                state.bytes[file.inode] = file.told.bytes
                state.counts.files += 1
                state.counts.bytes = state.counts.bytes.addingSaturated(file.told.bytes)
            }
        }
    }

    func note(_ inode: InodeID, _ told: MountStatistics.FailedCommit) {
        state.withLock { if $0.waiting[inode] != nil { $0.waiting[inode] = told } }
    }

    func stored(_ inode: InodeID) {
        state.withLock { state in
            guard state.waiting.removeValue(forKey: inode) != nil else { return }
            state.counts.storedFiles += 1
            state.counts.storedBytes += state.bytes[inode] ?? 0
        }
    }

    /// - Parameter lost: what will never be stored.
    package func end(lost: [MountStatistics.FailedCommit]) { state.withLock { $0.lost = lost } }
}

import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

/// Bytes that cannot become a file any more, by where they are kept.
final class StrandedBytes: Sendable {
    private static let most = 1000

    private let context: MountContext
    private let list = Mutex<[MountStatistics.FailedCommit]>([])
    /// Of what is not told of any more, for want of room.
    private let untold = Mutex<[Int64]>([])
    /// Names under which somebody else's version has come into the place of such bytes, and nobody has asked for its removal yet.
    private let replaced = Mutex<Set<Place>>([])

    init(_ context: MountContext) { self.context = context }

    deinit { context.writes.leave(Array(ids)) }

    /// Of their records.
    var ids: Set<Int64> { Set(list.withLock { $0.compactMap(\.record) } + untold.withLock { $0 }) }

    /// - Parameters:
    ///   - staged: path of the bytes.
    ///   - id: of the record that tells of them; without one nothing is noted where there are no bytes.
    func note(_ path: String, _ staged: String?, _ bytes: Int, _ error: String, since: Timestamp, record id: Int64?) {
        if id == nil, staged == nil || bytes == 0 { return }
        var told = MountStatistics.FailedCommit(
            path: path, stagedPath: staged ?? "", bytes: bytes, error: error, since: since)
        told.isFinal = true
        told.record = id
        let last = told
        let oldest: MountStatistics.FailedCommit? = list.withLock { list in
            list.append(last)
            return list.count > Self.most ? list.removeFirst() : nil
        }
        if let id = oldest?.record { untold.withLock { $0.append(id) } }
    }

    func wasReplaced(_ place: Place) {
        replaced.withLock { places in
            if places.count >= Self.most { places.removeAll() }
            places.insert(place)
        }
    }

    /// Whether a removal of the name may mean what was written here, not what is there now; asked once.
    func mayMeanAnother(_ place: Place) -> Bool { replaced.withLock { $0.remove(place) != nil } }

    /// What somebody has taken away is not told of any more.
    func all() -> [MountStatistics.FailedCommit] {
        let gone = Set(
            list.withLock { $0 }.map(\.stagedPath).filter { path in
                !path.isEmpty && access(path, F_OK) != 0 && errno == ENOENT
            })
        let (told, dropped) = list.withLock { list in
            let dropped = list.filter { gone.contains($0.stagedPath) }.compactMap(\.record)
            list.removeAll { gone.contains($0.stagedPath) }
            return (list, dropped)
        }
        if !dropped.isEmpty { context.writes.drop(dropped) }
        return told
    }

    /// As `all`, with those of which only the record tells any more.
    func everything() -> [MountStatistics.FailedCommit] {
        all()
            + untold.withLock { $0 }.map { id in
                var told = MountStatistics.FailedCommit(
                    path: "", stagedPath: "", bytes: 0, error: "", since: Timestamp(seconds: 0))
                (told.isFinal, told.record) = (true, id)
                return told
            }
    }

    /// Takes the bytes away, and what tells of them: first the record, so that nothing tells of bytes that are gone.
    /// - Parameter kept: of `everything`, with the place of its bytes.
    /// - Throws: `notFound` when somebody was quicker; `io`: it is told as before.
    func discard(_ kept: MountStatistics.FailedCommit) async throws(VFSError) {
        func isIt(_ told: MountStatistics.FailedCommit) -> Bool {
            kept.record == nil ? told.record == nil && told.stagedPath == kept.stagedPath : told.record == kept.record
        }
        let before = list.withLock { list in
            defer { list.removeAll(where: isIt) }
            return list.first(where: isIt)
        }
        let wasUntold = untold.withLock { untold in
            defer { untold.removeAll { $0 == kept.record } }
            return untold.contains { $0 == kept.record }
        }
        guard before != nil || wasUntold else { throw VFSError(.notFound, "it is not kept any more") }
        if let id = kept.record {
            do throws(VFSError) {
                try await context.writes.discard(id)
            } catch {
                if let before { list.withLock { $0.append(before) } } else { untold.withLock { $0.append(id) } }
                throw error
            }
        }
        let path = before.map(\.stagedPath) ?? kept.stagedPath
        if path.isEmpty { return }
        try await BlockingPool.shared.run(context.name) { () throws(VFSError) in
            if unlink(path) != 0, errno != ENOENT { throw localError("\(path) cannot be removed") }
        }
    }
}

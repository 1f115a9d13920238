import CloudMountVFS
import Glibc
import Synchronization

/// Bytes that cannot become a file any more, by where they are kept.
final class StrandedBytes: Sendable {
    private struct Item {
        /// Of its record in the journal.
        let id: Int64?
        let told: MountStatistics.FailedCommit
    }

    private static let most = 1000

    private let context: MountContext
    private let list = Mutex<[Item]>([])
    /// Of what is not told of any more, for want of room.
    private let untold = Mutex<[Int64]>([])

    init(_ context: MountContext) { self.context = context }

    deinit { context.writes.leave(Array(ids)) }

    /// Of their records.
    var ids: Set<Int64> { Set(list.withLock { $0.compactMap(\.id) } + untold.withLock { $0 }) }

    /// - Parameters:
    ///   - staged: path of the bytes.
    ///   - id: of the record that tells of them; without one nothing is noted where there are no bytes.
    func note(_ path: String, _ staged: String?, _ bytes: Int, _ error: String, since: Timestamp, record id: Int64?) {
        if id == nil, staged == nil || bytes == 0 { return }
        var told = MountStatistics.FailedCommit(
            path: path, stagedPath: staged ?? "", bytes: bytes, error: error, since: since)
        told.isFinal = true
        let item = Item(id: id, told: told)
        let oldest: Item? = list.withLock { list in
            list.append(item)
            return list.count > Self.most ? list.removeFirst() : nil
        }
        if let id = oldest?.id { untold.withLock { $0.append(id) } }
    }

    /// What somebody has taken away is not told of any more.
    func all() -> [MountStatistics.FailedCommit] {
        let gone = Set(
            list.withLock { $0 }.map(\.told.stagedPath).filter { path in
                !path.isEmpty && access(path, F_OK) != 0 && errno == ENOENT
            })
        let (told, dropped) = list.withLock { list in
            let dropped = list.filter { gone.contains($0.told.stagedPath) }.compactMap(\.id)
            list.removeAll { gone.contains($0.told.stagedPath) }
            return (list.map(\.told), dropped)
        }
        if !dropped.isEmpty { context.writes.drop(dropped) }
        return told
    }
}

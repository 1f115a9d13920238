import CloudMountCommit
import CloudMountStaging
import CloudMountVFS

/// What is known of the commits of one file.
struct CommitEntry {
    var task: Task<Commits.End, Never>?
    /// The task was cancelled so that the name can change; who waits for it begins again.
    var isInterrupted = false
    /// Why the last commit failed, until one succeeds.
    var error: VFSError?
    /// The same in the words of an earlier process, while nothing else is known.
    var reason: String?
    var failedSince: Timestamp?
    /// The write that is or was last on its way.
    var write: SealedWrite?
    /// What is on its way.
    var sending: SealedWrite?
    /// Of an earlier process, over `kinBase`.
    var kin: [WriteMark] = []
    var kinBase: ETag?
    /// What `write` was made of.
    var generations: [UInt64] = []
    /// Writes whose end is not known.
    var uncertain: [Attempt] = []
    /// What is stored, which may yet get another version by the same write, with the same bytes.
    var changing: ObjectInfo?
    /// Such that came before the last write which was stored, or of a file that had the name before: what of them lands late is still ours.
    var past: [WriteMark] = []
    /// Attempts in a row that ended because the file had changed meanwhile.
    var repeats = 0

    /// What a write was made of.
    struct Attempt {
        let write: SealedWrite
        let seal: StoredNames.Seal
        let snapshot: ContentSnapshot
        var mark: WriteMark { WriteMark(write) }
    }

    /// Of one file that fails for hours: attempts, and pieces of their images.
    private static let (mostUncertain, mostPieces) = (4096, 1 << 20)
    /// Of one that fails for days, and of one that is stored.
    static let (mostFailed, mostPast) = (10_000, 16)

    var marks: [WriteMark] {
        past + uncertain.map(\.mark) + (changing.flatMap { WriteMark($0) }.map { [$0] } ?? [])
    }

    /// That of a failed one too.
    var uncertainMarks: [WriteMark] { marks + (error == nil ? [] : write.map { [WriteMark($0)] } ?? []) }

    /// That of one on its way too.
    var allMarks: [WriteMark] { uncertainMarks + (sending.map { [WriteMark($0)] } ?? []) }

    /// Attempts over the base that `write` has: what they have stored has the same bytes wherever the write has its base's.
    func kin(of write: SealedWrite) -> [WriteMark] { kin(over: write.layers.base?.etag) }

    func kin(over base: ETag?) -> [WriteMark] {
        let attempts = uncertain.map(\.write) + [write, sending].compactMap { $0 }
        return (kinBase == base ? kin : []) + attempts.filter { $0.layers.base?.etag == base }.map { WriteMark($0) }
    }

    /// An attempt has ended, and how is not known.
    mutating func note(_ failed: Attempt) {
        uncertain.removeAll { $0.mark == failed.mark }
        uncertain.append(failed)
        var pieces = uncertain.reduce(0) { $0 + $1.snapshot.image.pieceCount }
        while uncertain.count > 2, uncertain.count > Self.mostUncertain || pieces > Self.mostPieces {
            // Its bytes are known no more; that it is ours is. What was sent when the store fell silent, and last, is the likeliest to be
            // there.
            let dropped = uncertain.remove(at: uncertain.count / 2)
            pieces -= dropped.snapshot.image.pieceCount
            past.append(dropped.mark)
        }
        notePast([])
    }

    mutating func notePast(_ marks: [WriteMark]) {
        past += marks
        if past.count > Self.mostFailed { past.removeFirst(past.count - Self.mostFailed / 2) }
    }
}

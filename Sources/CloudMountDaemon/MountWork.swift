import CloudMountPlatform
import Synchronization

/// The calls of one mount that the kernel may keep waiting, each with a limit: one that hangs holds a thread of this mount,
/// and nothing else.
final class MountWork: Sendable {
    enum Kind: CaseIterable { case mount, writeBack, unmount, detach, look, cleanUp }

    /// Calls of one kind follow each other; those of another are not kept by them. Without work a pool has no thread.
    private let pools = Dictionary(
        uniqueKeysWithValues: Kind.allCases.map { ($0, BlockingPool(name: "cm-mount", width: 1)) })
    private let underWay = Mutex<[Kind: [Int: ContinuousClock.Instant]]>([:])
    private let next = Atomic(0)

    /// Runs `work` on a thread of the mount's own.
    /// - Parameters:
    ///   - grace: how long the work is waited for when the caller is cancelled.
    ///   - late: takes what comes after the limit.
    /// - Returns: nil when it takes longer than `limit`, or while an earlier one of its kind does so.
    @discardableResult
    func run<Value: Sendable>(
        _ kind: Kind, limit: Duration, grace: Duration = .zero,
        late: @escaping @Sendable (Value) async -> Void = { _ in },
        _ work: @escaping @Sendable () -> Value
    ) async -> Value? {
        guard let pool = pools[kind] else { return nil }
        let number = next.add(1, ordering: .relaxed).newValue
        let hangs = underWay.withLock { underWay in
            if underWay[kind]?.values.contains(where: { $0 < .now }) == true { return true }
            underWay[kind, default: [:]][number] = .now + limit
            return false
        }
        if hangs { return nil }
        return await within(limit, grace: grace, late: late) {
            let value = await pool.run("", work)
            self.underWay.withLock { _ = $0[kind]?.removeValue(forKey: number) }
            return value
        }
    }
}

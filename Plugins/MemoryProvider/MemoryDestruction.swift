public import CloudMountVFS
import Synchronization

/// A version that ceased to be current because a call put another in its place, or nothing.
public struct Destruction: Sendable {
    /// The verbs that destroy.
    public enum Verb: String, Sendable {
        case put, copy, move, completeUpload, delete
    }

    public var key: ObjectKey
    /// The version that was current, with metadata.
    public var info: ObjectInfo
    public var bytes: [UInt8]
    public var verb: Verb
    /// What the caller asked for; of a `delete` with a version, `.match`.
    public var precondition: Precondition
    /// The precondition held in the very step of the change. Else it held just before.
    public var isAtomic: Bool
}

/// Why a change is made.
struct Cause: Sendable {
    var verb: Destruction.Verb
    var precondition: Precondition
    var isAtomic: Bool
}

extension MemoryProvider {
    /// Whether `destroyed` is kept. For tests; off.
    public var recordsDestruction: Bool {
        get { bucket.withLock { $0.recordsDestruction } }
        set { bucket.withLock { $0.recordsDestruction = newValue } }
    }

    /// What was destroyed, in order: at least the last 100,000, and all of them when `destructions` is no more than
    /// its count.
    public var destroyed: [Destruction] { bucket.withLock { Array($0.destroyed) } }

    /// How many versions were destroyed since the beginning, `clearDestroyed` notwithstanding.
    public var destructions: Int { bucket.withLock { $0.destructions } }

    public func clearDestroyed() { bucket.withLock { $0.destroyed = [] } }

    /// Awaited between the two steps of a change whose precondition is not held in one, so that a test can get in
    /// between.
    public var betweenSteps: (@Sendable (Destruction.Verb, ObjectKey) async -> Void)? {
        get { between.withLock { $0 } }
        set { between.withLock { $0 = newValue } }
    }

    /// Makes a change, in one step with its precondition where the capabilities say so, else just after.
    func guarded<Value: Sendable>(
        _ verb: Destruction.Verb, _ key: ObjectKey, _ precondition: Precondition,
        _ change: @Sendable (inout MemoryBucket, Cause) throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        let isAtomic = isAtomic(verb, precondition)
        let cause = Cause(verb: verb, precondition: precondition, isAtomic: isAtomic)
        if !isAtomic {
            guard bucket.withLock({ $0.admits(precondition, key) }) else { throw MemoryErrors.precondition(key) }
            await Task.yield()
            if let between = betweenSteps { await between(verb, key) }
            if Task.isCancelled { throw .cancelled }
        }
        let result: Result<Value, VFSError> = bucket.withLock { bucket in
            attemptNow { () throws(VFSError) in
                if isAtomic, !bucket.admits(precondition, key) { throw MemoryErrors.precondition(key) }
                return try change(&bucket, cause)
            }
        }
        return try result.get()
    }

    private func isAtomic(_ verb: Destruction.Verb, _ precondition: Precondition) -> Bool {
        switch (verb, precondition) {
        // Its source is a condition too.
        case (.copy, _), (.move, _): capabilities.conditionalCopy
        case (_, .none): true
        case (.delete, _): capabilities.conditionalDelete
        case (_, .absent): capabilities.conditionalCreate
        case (_, .match): capabilities.conditionalReplace
        }
    }
}

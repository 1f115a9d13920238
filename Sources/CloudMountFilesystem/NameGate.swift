import CloudMountVFS
import Synchronization

/// Keeps names from changing under those who work with them: a commit to a key, a new object in a directory, while an
/// inode above them is being renamed or removed; a question to the store about a key. Lives inside the namespace lock.
///
/// Who is let in has all it asked for at once, and waits from then on only for those who were let in before: no circle
/// can form. So nothing that is held may ask to be let in again: `learn`, `resolve` and `commit` are called by those who
/// hold nothing.
struct NameGate {
    /// Inodes whose names are in use, and by how many.
    private(set) var inUse: [InodeID: Int] = [:]
    /// Inodes whose names are changing.
    private(set) var changing: Set<InodeID> = []
    /// How often names of directories have begun to change.
    private(set) var moves: UInt64 = 0
    private var waiters: [CheckedContinuation<Void, Never>] = []

    mutating func enter(using used: [InodeID], changing changed: [InodeID], moving: Bool) {
        for id in used { inUse[id, default: 0] += 1 }
        changing.formUnion(changed)
        if moving { moves += 1 }
    }

    /// - Returns: whom to wake, outside the lock.
    mutating func leave(using used: [InodeID], changing changed: [InodeID]) -> [CheckedContinuation<Void, Never>] {
        for id in used {
            let count = inUse[id] ?? 0
            inUse[id] = count > 1 ? count - 1 : nil
        }
        changing.subtract(changed)
        defer { waiters = [] }
        return waiters
    }

    mutating func wait(_ continuation: CheckedContinuation<Void, Never>) { waiters.append(continuation) }
}

extension Namespace {
    /// Whether the name of `id`, or of a directory above it, is one of `ids`'s.
    func isAtOrBelow(_ id: InodeID, _ matches: (InodeID) -> Bool) -> Bool {
        var next = id
        while next != 0 {
            if matches(next) { return true }
            next = self[next]?.parent ?? 0
        }
        return false
    }

    /// Whether all of these names stay what they are for the time being.
    func isFree(_ ids: [InodeID]) -> Bool {
        gate.changing.isEmpty || !ids.contains { isAtOrBelow($0) { gate.changing.contains($0) } }
    }

    /// Whether anybody but who holds `own` uses names at or below `changed`.
    func isUsed(below changed: [InodeID], own: [InodeID]) -> Bool {
        gate.inUse.contains { id, count in
            count > own.count { $0 == id } && isAtOrBelow(id) { changed.contains($0) }
        }
    }
}

extension MountedBucket {
    /// Runs `work` while the names of `used`, and of all directories above them, stay what they are.
    ///
    /// - Parameters:
    ///   - changed: inodes whose names `work` changes: nobody else uses them, or anything below them, meanwhile.
    ///   - verify: under the namespace lock, once the names are held: whether they are still what the caller found.
    /// - Returns: nil when `verify` says no.
    func holding<Value: Sendable>(
        _ used: [InodeID], changing changed: [InodeID] = [], verify: (borrowing Namespace) -> Bool = { _ in true },
        _ work: () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value? {
        var isIn = false
        while true {
            let (now, isValid) = namespace.withLock { names in
                if !isIn {
                    guard names.isFree(used), names.isFree(changed) else { return (false, true) }
                    guard verify(names) else { return (true, false) }
                    let moving = changed.contains { names[$0]?.directory != nil }
                    names.gate.enter(using: used, changing: changed, moving: moving)
                    isIn = true
                }
                return (changed.isEmpty || !names.isUsed(below: changed, own: used), true)
            }
            if !isValid { return nil }
            if now { break }
            await withCheckedContinuation { continuation in
                let again = namespace.withLock { names in
                    let isOver =
                        isIn
                        ? !names.isUsed(below: changed, own: used)
                        : names.isFree(used) && names.isFree(changed)
                    if !isOver { names.gate.wait(continuation) }
                    return isOver
                }
                if again { continuation.resume() }
            }
        }
        let result = await attempt(work)
        for waiter in namespace.withLock({ $0.gate.leave(using: used, changing: changed) }) { waiter.resume() }
        return try result.get()
    }
}

extension MountedBucket {
    /// Whether `name` is `inode`'s, or nobody's.
    func isNamed(_ name: FileName, in parent: InodeID, _ inode: InodeID?, _ names: borrowing Namespace) -> Bool {
        guard let directory = names[parent]?.directory else { return false }
        return directory.children[name]?.id == inode
    }

    /// Runs `work` on what `find` found, again while others change its names before they are held.
    func persistently<Value: Sendable>(
        _ work: () async throws(VFSError) -> Value?
    ) async throws(VFSError) -> Value {
        for _ in 0..<16 {
            if let value = try await work() { return value }
        }
        throw VFSError(.busy, "others keep changing the name")
    }
}

import CloudMountVFS
import Synchronization

/// Keeps names from changing under those who work with them: a commit to a key, a new object in a directory, while an
/// inode above them is being renamed or removed; a question to the store about a key. Lives inside the tree's lock.
///
/// Who is let in has all it asked for at once, and waits from then on only for those who were let in before: no circle
/// can form. So nothing that is held may ask to be let in again: revalidation, lookups and commits are called by those who
/// hold nothing.
struct NameGate {
    /// Inodes whose names are in use, and by how many.
    private(set) var inUse: [InodeID: Int] = [:]
    /// Inodes whose names are changing.
    private(set) var changing: Set<InodeID> = []
    /// Of these, the ones whose objects go.
    private var doomed: Set<InodeID> = []
    /// Names that will be given to something when the work has ended.
    private var claimed: [Place: Int] = [:]
    /// How often names of directories have begun to change.
    private(set) var moves: UInt64 = 0

    /// Nobody works with any name.
    var isQuiet: Bool { inUse.isEmpty && changing.isEmpty && claimed.isEmpty }

    mutating func enter(
        using used: [InodeID], changing changed: [InodeID], doomed gone: [InodeID], claiming places: [Place] = [],
        moving: Bool
    ) {
        for place in places { claimed[place, default: 0] += 1 }
        for id in used { inUse[id, default: 0] += 1 }
        changing.formUnion(changed)
        doomed.formUnion(gone)
        if moving { moves += 1 }
    }

    /// The name of an inode that has just been made is in use until its object is stored.
    mutating func begin(_ id: InodeID) { inUse[id, default: 0] += 1 }

    mutating func leave(using used: [InodeID], changing changed: [InodeID] = [], claiming places: [Place] = []) {
        for place in places {
            let count = claimed[place] ?? 0
            claimed[place] = count > 1 ? count - 1 : nil
        }
        for id in used {
            let count = inUse[id] ?? 0
            inUse[id] = count > 1 ? count - 1 : nil
        }
        changing.subtract(changed)
        doomed.subtract(changed)
    }

    func isClaimed(_ place: Place) -> Bool { !claimed.isEmpty && claimed[place] != nil }
    var hasDoomed: Bool { !doomed.isEmpty }
    func isDoomed(_ id: InodeID) -> Bool { hasDoomed && doomed.contains(id) }
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

    /// Whether `id`, or a directory above it, is being removed or replaced.
    func isGoing(_ id: InodeID) -> Bool { gate.hasDoomed && isAtOrBelow(id) { gate.isDoomed($0) } }

    /// Whether the store's saying that a node is not there, or is something else, has to wait: it, or something below it, holds what
    /// the store has not; its name is changing; or names below it are being worked with.
    func isNeeded(_ node: Node) -> Bool {
        if node.holdsAnything || gate.changing.contains(node.id) { return true }
        return node.directory != nil && gate.inUse.keys.contains { isAtOrBelow($0) { $0 == node.id } }
    }

    /// Whether all of these names stay what they are for the time being.
    func isFree(_ ids: [InodeID]) -> Bool {
        gate.changing.isEmpty || !ids.contains { isAtOrBelow($0) { gate.changing.contains($0) } }
    }

    /// The names at or below `changed` that anybody but who holds `own` uses.
    func used(below changed: [InodeID], own: [InodeID]) -> [InodeID] {
        if changed.isEmpty { return [] }
        return gate.inUse.compactMap { id, count in
            count > own.count { $0 == id } && isAtOrBelow(id) { changed.contains($0) } ? id : nil
        }
    }
}

extension Tree {
    /// What `holding` is asked for.
    struct Hold: Sendable {
        /// Inodes whose names, and those of all directories above them, stay what they are.
        var used: [InodeID]
        /// Inodes whose names the work changes: nobody else uses them, or anything below them, meanwhile.
        var changed: [InodeID] = []
        /// Of these, the ones whose objects go: they are not opened meanwhile.
        var doomed: [InodeID] = []
        /// Names that something gets: nothing is made under them meanwhile.
        var claimed: [Place] = []
        /// Waits for as long as others hold the names.
        var isPatient = false
        /// Told of inodes below the changed ones whose names are in use by work that can be begun again.
        var interrupt: @Sendable ([InodeID]) -> Void = { _ in }
    }

    func holding<Value: Sendable>(
        _ inode: InodeID, _ work: () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        guard let value = try await holding(Hold(used: [inode]), work) else {
            throw VFSError(.io, "a hold was refused")
        }
        return value
    }

    /// Runs `work` while names are held.
    /// - Parameter verify: under the lock, before the names are held and once nobody else works with them: whether they are still
    ///   what the caller found.
    /// - Returns: nil when `verify` says no.
    /// - Throws: `timedOut` when the names are not free within the policy's deadline, and what `work` throws.
    func holding<Value: Sendable>(
        _ hold: Hold, verify: (borrowing Namespace) -> Bool = { _ in true },
        _ work: () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value? {
        let patience = hold.isPatient ? UInt64.max / 4 : context.policy().deadline.nanoseconds
        let deadline = now() + patience
        var isIn = false
        func leave() {
            if isIn { withNames { $0.gate.leave(using: hold.used, changing: hold.changed, claiming: hold.claimed) } }
            gateWaiters.resume()
        }
        while true {
            let (isReady, isValid, inTheWay): (Bool, Bool, [InodeID]) = withNames { names in
                if !isIn {
                    guard names.isFree(hold.used), names.isFree(hold.changed) else { return (false, true, []) }
                    guard verify(names) else { return (true, false, []) }
                    let moving = hold.changed.contains { names[$0]?.directory != nil }
                    names.gate.enter(
                        using: hold.used, changing: hold.changed, doomed: hold.doomed, claiming: hold.claimed,
                        moving: moving)
                    isIn = true
                }
                let used = names.used(below: hold.changed, own: hold.used)
                // Whoever was let in before may have given the inode another name, as a conflict does.
                return (used.isEmpty, !used.isEmpty || verify(names), used)
            }
            if !isValid {
                leave()
                return nil
            }
            if isReady { break }
            if !inTheWay.isEmpty { hold.interrupt(inTheWay) }
            let now = now()
            if now >= deadline || Task.isCancelled {
                leave()
                throw Task.isCancelled ? .cancelled : VFSError(.timedOut, "others are working with the name")
            }
            let entered = isIn
            await gateWaiters.wait(
                unless: {
                    withNames { names in
                        entered
                            ? names.used(below: hold.changed, own: hold.used).isEmpty
                            : names.isFree(hold.used) && names.isFree(hold.changed)
                    }
                }, for: .nanoseconds(min(deadline - now, 3_600_000_000_000)))
        }
        let result = await attempt(work)
        leave()
        return try result.get()
    }

    /// Returns when nobody works with the name of `inode`, or when the policy's deadline is over.
    /// - Parameter usersToo: also nobody who only wants it to stay, as a commit does.
    func whenFree(_ inode: InodeID, usersToo: Bool = true) async {
        await wait { names in names.isFree([inode]) && !(usersToo && names.gate.inUse[inode] != nil) }
    }

    /// Returns when nothing is about to get the name, or when the policy's deadline is over.
    func unclaimed(_ place: Place) async {
        await wait { names in !names.gate.isClaimed(place) && !names.isGoing(place.parent) }
    }

    private func wait(until condition: (borrowing Namespace) -> Bool) async {
        _ = await context.wait(on: gateWaiters) { withNames { names in condition(names) } }
    }

    /// Runs `work` on what it finds, again while others change its names before they are held.
    func persistently<Value: Sendable>(
        _ work: () async throws(VFSError) -> Value?
    ) async throws(VFSError) -> Value {
        for _ in 0..<16 {
            if let value = try await work() { return value }
        }
        throw VFSError(.busy, "others keep changing the name")
    }
}

import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// `offline: serve`: what is said while the store cannot be reached. Only what has been seen is ever said of a name: that it
/// is absent, or that a listing ends, is said by the store alone.
extension MountedBucket {
    /// How long one failure to reach the store stands for all that it would have told of a node.
    static let staleTime: UInt64 = 1_000_000_000
    static let staleValidity = Duration.nanoseconds(staleTime)

    /// Whether what is known may stand in for the answer that `error` has kept from coming.
    func servesStale(_ error: VFSError) -> Bool { error.code.isUnreachable && policy.offline == .serve }

    /// The inode of a name as it was last seen; nil when the name or its attributes never were.
    func remembered(_ name: FileName, in parent: InodeID) -> InodeID? {
        namespace.withLock { names in
            names[parent]?.directory?.children[name].flatMap { serveStale($0, &names) ? $0.id : nil }
        }
    }

    /// Marks a node as shown past its time. False when its attributes were never seen.
    func serveStale(_ node: Node, _ names: inout Namespace) -> Bool {
        let evidence = names[node.parent]?.directory?.evidence
        guard node.isKnown || node.isOrphan || evidence != .present else { return false }
        markStale(node, SystemClock.monotonic())
        return true
    }

    private func markStale(_ node: Node, _ now: UInt64) {
        if node.validUntil <= now, !node.isHeld { node.staleSince = now }
    }

    /// Asks for a node's metadata; where the store cannot be reached, what is known of it may stand.
    func learnOrRemember(_ inode: InodeID) async throws(VFSError) {
        do throws(VFSError) {
            try await learn(inode)
        } catch {
            guard servesStale(error),
                namespace.withLock({ names in names[inode].map { serveStale($0, &names) } ?? false })
            else { throw error }
        }
    }

    /// The names of a directory that was listed whole once, as they are known, for a listing that could not be finished.
    /// Under the namespace lock.
    /// - Returns: those that its readers have not been given; nil when the directory is not known whole.
    func rememberedNames(_ node: Node, _ error: VFSError) -> [FileName]? {
        guard servesStale(error), let directory = node.directory, directory.isWhole else { return nil }
        let now = SystemClock.monotonic()
        markStale(node, now)
        for child in directory.children { markStale(child, now) }
        return directory.children.compactMap { $0.listedIn == directory.generation ? nil : $0.name }
    }

    // MARK: What users may see of it

    /// A read-only extended attribute that no listing shows, so that no tool copies it.
    static let stateAttribute = "user.cloudmount.state"
    static let ownAttributes = "user.cloudmount."

    /// `failed`: its last commit failed; `dirty`: it has what the store has not; `stale`: shown past its time, because the
    /// store cannot be reached; else `current`.
    func state(of inode: InodeID) -> String {
        namespace.withLock { names in
            guard let node = names[inode] else { return "current" }
            if let content = node.content, node.isLocal {
                return content.state.withLock { $0.commitError } == nil ? "dirty" : "failed"
            }
            return node.isStale ? "stale" : "current"
        }
    }
}

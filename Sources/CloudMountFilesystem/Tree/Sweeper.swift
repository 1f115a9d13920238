import CloudMountVFS

/// Keeps the number of nodes, and what they take, within bounds, whatever is walked over. What is open, is being listed, or holds what the store
/// has not, stays; so does what was used in the last seconds. Directories that the kernel knows stay too: to make it forget one
/// would take it away from under whoever has it as working directory.
final class Sweeper: Sendable {
    private let context: MountContext
    private let tree: Tree

    init(context: MountContext, tree: Tree) {
        self.context = context
        self.tree = tree
    }

    /// Nanoseconds: a node is not taken away from under an operation that has just found it.
    private static let graceTime: UInt64 = 3_000_000_000

    /// The same for what the store can be asked again for; whoever has just asked for it is given a moment.
    private static let shortGraceTime: UInt64 = 200_000_000

    /// Begins to let go of nodes when there are too many, and of what they hold. Called after nodes were made or described,
    /// without the lock.
    func tidy() {
        let (sweeps, sheds) = tree.withNames { names -> (Bool, Bool) in
            let sheds = names.weights.isDue(names.rules.mostMetadata) && !names.weights.isShedding
            if sheds { names.weights.isShedding = true }
            let sweeps = names.count > names.mostNodes && !names.isSweeping
            if sweeps { names.isSweeping = true }
            return (sweeps, sheds)
        }
        if sheds { context.begin { [weak self] in await self?.shed() } }
        if sweeps { sweepOn() }
    }

    private func sweepOn() {
        let clock = context.clock
        Task(executorPreference: context.provider.executor) { [weak self] in
            var pause = Duration.seconds(4)
            var before = 0
            // What was too new, or known to the kernel, may go a little later.
            while let (rest, most) = await self?.sweep() {
                pause = abs(rest - before) > most / 100 ? .seconds(4) : min(pause * 2, .seconds(60))
                before = rest
                await clock.sleep(pause)
            }
        }
    }

    /// A moment that is so long ago.
    private func ago(_ time: UInt64) -> UInt64 {
        let now = tree.now()
        return now > time ? now - time : 0
    }

    /// Directories with something in them, the longest unused first.
    private func directories(usedBefore old: UInt64) -> [InodeID] {
        var directories: [(id: InodeID, usedAt: UInt64)] = tree.withNames { names in
            names.all.compactMap { node in
                guard let directory = node.directory, directory.usedAt < old, !directory.children.isEmpty else {
                    return nil
                }
                return (node.id, directory.usedAt)
            }
        }
        directories.sort { $0.usedAt < $1.usedAt }
        return directories.map(\.id)
    }

    /// Has files let go of what the store says of them beyond stat(2), down to half of what there may be.
    private func shed() async {
        var (weight, most) = tree.withNames { names in (names.weight, names.rules.mostMetadata) }
        if weight > most {
            let old = ago(Self.shortGraceTime)
            for id in directories(usedBefore: .max) {
                let freed = tree.withNames { names in
                    let ttl = names.rules.metadataTTL
                    return names[id]?.directory?.children.reduce(0) { sum, child in
                        guard weight - sum > most / 2, child.validUntil < old + ttl, child.canShed else { return sum }
                        let before = child.weight
                        child.shed()
                        return sum + before - child.weight
                    } ?? 0
                }
                weight -= freed
                if weight <= most / 2 { break }
                await Task.yield()
            }
        }
        tree.withNames { names in
            names.weights.counted(weight, nodes: names.count, most: most)
            names.weights.isShedding = false
        }
        // What cannot be let go of so goes with its nodes.
        if weight > most { tidy() }
    }

    /// - Returns: how many nodes there are, and how many there may be, if that is still too many.
    private func sweep() async -> (Int, Int)? {
        let old = ago(Self.graceTime)
        let most = tree.withNames { $0.mostNodes }
        var fading = 0
        for id in directories(usedBefore: old) {
            var notices: [(parent: InodeID, name: FileName)] = []
            let isEnough = tree.withNames { names in
                if names.count - fading <= most / 2 { return true }
                fading += letGo(of: id, &names, &notices, old)
                return false
            }
            if isEnough { break }
            let told = notices
            if !told.isEmpty {
                context.tellKernel { for (parent, name) in told { $0.invalidateEntry(parent: parent, name: name) } }
            }
            await Task.yield()
        }
        return tree.withNames { names in
            names.isSweeping = names.count > names.mostNodes
            return names.isSweeping ? (names.count, names.mostNodes) : nil
        }
    }

    /// Drops what is idle in one directory, and chooses what the kernel must forget first.
    /// - Returns: how many nodes will go when it has.
    private func letGo(
        of id: InodeID, _ names: inout Namespace, _ notices: inout [(parent: InodeID, name: FileName)], _ old: UInt64
    ) -> Int {
        guard let node = names[id], let directory = node.directory, node.openCount == 0, directory.listing == nil,
            directory.usedAt < old
        else { return 0 }
        var known: [FileName] = []
        let ttl = names.rules.metadataTTL
        for child in directory.children where child.validUntil < old + ttl {
            if child.isIdle {
                names.drop(child, from: node)
            } else if child.lookups > 0, child.openCount == 0, !child.isHeld, child.directory == nil {
                known.append(child.name)
            }
        }
        guard !known.isEmpty else { return 0 }
        directory.isFading = true
        for name in known { notices.append((id, name)) }
        return known.count
    }
}

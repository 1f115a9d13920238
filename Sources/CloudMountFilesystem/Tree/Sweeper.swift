import CloudMountPlatform
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
            if sheds { names.weights.beginShedding() }
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
    private func ago(_ time: UInt64) -> UInt64 { tree.now().elapsed(since: time) }

    /// Directories with something in them, the longest unused first. Gathered piece by piece and away from the thread that all transfers share;
    /// one that is passed over since the table of nodes has grown meanwhile has its turn the next time.
    private func directories(usedBefore old: UInt64) async -> [InodeID] {
        await Task.detached { [tree] in
            var directories: [(id: InodeID, usedAt: UInt64)] = []
            var position: Int? = 0
            while let from = position {
                let part: [(id: InodeID, usedAt: UInt64)]
                (part, position) = tree.withNames { names in
                    let (nodes, next) = names.all.slice(from: from)
                    let part = nodes.compactMap { node -> (id: InodeID, usedAt: UInt64)? in
                        guard let directory = node.directory, directory.usedAt < old, !directory.children.isEmpty else {
                            return nil
                        }
                        return (node.id, directory.usedAt)
                    }
                    return (part, next)
                }
                directories += part
                await Task.yield()
            }
            directories.sort { $0.usedAt < $1.usedAt }
            return directories.map(\.id)
        }.value
    }

    /// The children of one directory, slice by slice, for who lets go of the lock in between. Ends early when they have got other slots.
    private struct Slices {
        let id: InodeID
        private var position: Int? = 0
        private var layout: Int?

        init(of id: InodeID) { self.id = id }

        var goesOn: Bool { position != nil }

        /// Under the lock.
        mutating func next(_ names: Namespace) -> (Node, [Node])? {
            guard let from = position, let node = names[id], let directory = node.directory,
                layout ?? directory.children.layout == directory.children.layout
            else {
                position = nil
                return nil
            }
            let nodes: [Node]
            layout = directory.children.layout
            (nodes, position) = directory.children.slice(from: from)
            return (node, nodes)
        }
    }

    /// Has files let go of what the store says of them beyond stat(2), down to half of what there may be.
    private func shed() async {
        let most = tree.withNames { names in names.rules.mostMetadata }
        var weight = await Task.detached { [tree] in NodeWeight.sum(in: tree) }.value
        if weight > most {
            let old = ago(Self.shortGraceTime)
            for id in await directories(usedBefore: .max) {
                var slices = Slices(of: id)
                while slices.goesOn, weight > most / 2 {
                    weight -= tree.withNames { names in
                        let ttl = names.rules.metadataTTL
                        return slices.next(names)?.1.reduce(0) { sum, child in
                            guard weight - sum > most / 2, child.validUntil < old + ttl, child.canShed else {
                                return sum
                            }
                            let before = child.weight
                            child.shed()
                            return sum + before - child.weight
                        } ?? 0
                    }
                    await Task.yield()
                }
                if weight <= most / 2 { break }
            }
        }
        tree.withNames { names in names.weights.endShedding(weight, nodes: names.count, most: most) }
        // What cannot be let go of so goes with its nodes; and what has come meanwhile may be too much in its turn.
        tidy()
    }

    /// - Returns: how many nodes there are, and how many there may be, if that is still too many.
    private func sweep() async -> (Int, Int)? {
        let old = ago(Self.graceTime)
        let most = tree.withNames { $0.mostNodes }
        var fading = 0
        for id in await directories(usedBefore: old) {
            var slices = Slices(of: id)
            var isEnough = false
            while slices.goesOn, !isEnough {
                let known = tree.withNames { names -> [FileName] in
                    isEnough = names.count - fading <= most / 2
                    guard !isEnough, let (node, children) = slices.next(names) else { return [] }
                    return evict(children, of: node, &names, old)
                }
                fading += known.count
                if !known.isEmpty {
                    context.tellKernel { for name in known { $0.invalidateEntry(parent: id, name: name) } }
                }
                await Task.yield()
            }
            if isEnough { break }
        }
        return tree.withNames { names in
            names.isSweeping = names.count > names.mostNodes
            return names.isSweeping ? (names.count, names.mostNodes) : nil
        }
    }

    /// Drops what is idle of a directory's children, and chooses what the kernel must forget first.
    /// - Returns: the names of what will go when it has.
    private func evict(_ children: [Node], of node: Node, _ names: inout Namespace, _ old: UInt64) -> [FileName] {
        guard let directory = node.directory, node.openCount == 0, directory.listing == nil, directory.usedAt < old
        else { return [] }
        var known: [FileName] = []
        let ttl = names.rules.metadataTTL
        for child in children where child.validUntil < old + ttl {
            if child.isIdle {
                names.drop(child, from: node)
            } else if child.lookups > 0, child.openCount == 0, !child.isHeld, child.directory == nil {
                known.append(child.name)
            }
        }
        if !known.isEmpty { directory.isFading = true }
        return known
    }
}

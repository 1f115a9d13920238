import CloudMountVFS

/// Keeps the number of nodes within bounds, whatever is walked over. What is open, is being listed, or holds what the store
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

    /// Begins to let go of nodes when there are too many. Called after nodes were made, without the lock.
    func tidy() {
        let (most, isDue) = tree.withNames { names -> (Int, Bool) in
            let most = names.rules.mostNodes
            guard names.count > most, !names.isSweeping else { return (most, false) }
            names.isSweeping = true
            return (most, true)
        }
        guard isDue else { return }
        let clock = context.clock
        Task(executorPreference: context.provider.executor) { [weak self] in
            var pause = Duration.seconds(4)
            var before = 0
            // What was too new, or known to the kernel, may go a little later.
            while let rest = await self?.sweep(most) {
                pause = abs(rest - before) > most / 100 ? .seconds(4) : min(pause * 2, .seconds(60))
                before = rest
                await clock.sleep(pause)
            }
        }
    }

    /// - Returns: how many nodes there are, if that is still too many.
    private func sweep(_ most: Int) async -> Int? {
        let start = tree.now()
        let old = start > Self.graceTime ? start - Self.graceTime : 0
        // The longest unused first.
        var directories: [(id: InodeID, usedAt: UInt64)] = tree.withNames { names in
            names.all.compactMap { node in
                guard let directory = node.directory, directory.usedAt < old, !directory.children.isEmpty else {
                    return nil
                }
                return (node.id, directory.usedAt)
            }
        }
        directories.sort { $0.usedAt < $1.usedAt }
        var fading = 0
        for (id, _) in directories {
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
            names.isSweeping = names.count > most
            return names.isSweeping ? names.count : nil
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

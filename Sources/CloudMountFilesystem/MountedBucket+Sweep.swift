import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Keeps the number of nodes within bounds, whatever is walked over. What is open, is being listed, or holds what the store
/// has not, stays; so does what was used in the last seconds. Directories that the kernel knows stay too: to make it forget one
/// would take it away from under whoever has it as working directory.
extension MountedBucket {
    /// Nanoseconds: a node is not taken away from under an operation that has just found it.
    private static let graceTime: UInt64 = 3_000_000_000

    /// Begins to let go of nodes when there are too many. Called after nodes were made, without the namespace lock.
    func tidy() {
        let most = live.withLock { $0.mostNodes }
        let isDue = namespace.withLock { names in
            guard names.count > most, !names.isSweeping else { return false }
            names.isSweeping = true
            return true
        }
        guard isDue else { return }
        Task(executorPreference: provider.executor) { [weak self] in
            var pause = Duration.seconds(4)
            var before = 0
            // What was too new, or known to the kernel, may go a little later.
            while let rest = await self?.sweep(most) {
                pause = abs(rest - before) > most / 100 ? .seconds(4) : min(pause * 2, .seconds(60))
                before = rest
                try? await Task.sleep(for: pause)
            }
        }
    }

    /// - Returns: how many nodes there are, if that is still too many.
    private func sweep(_ most: Int) async -> Int? {
        let start = SystemClock.monotonic()
        let old = start > Self.graceTime ? start - Self.graceTime : 0
        // The longest unused first.
        var directories: [(id: InodeID, usedAt: UInt64)] = namespace.withLock { names in
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
            let isEnough = namespace.withLock { names in
                if names.count - fading <= most / 2 { return true }
                fading += letGo(of: id, &names, &notices, old)
                return false
            }
            if isEnough { break }
            let told = notices
            if !told.isEmpty {
                tellKernel { for (parent, name) in told { $0.invalidateEntry(parent: parent, name: name) } }
            }
            await Task.yield()
        }
        return namespace.withLock { names in
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
        let ttl = metadataTTL
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

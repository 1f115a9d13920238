import CloudMountCommit
import CloudMountVFS
import Logging

/// Gives files and directories other names.
struct Renamer: Sendable {
    let context: MountContext
    let tree: Tree
    let resolver: Resolver
    let remover: Remover
    let commits: Commits
    let markers: Markers

    /// - Returns: nil, to be tried again, when what was known of a name is not so any more.
    func rename(_ source: Place, to target: Place, noReplace: Bool) async throws(VFSError) {
        try await tree.persistently { () async throws(VFSError) -> Void? in
            guard let inode = try await resolver.findVisible(source) else {
                throw VFSError(.notFound, "\(source.name) is not there")
            }
            let known = try await resolver.findReplaceable(target)
            // Only the copy of a stored file asks the store by itself.
            let asks = known == nil && noReplace && context.policy().asksStoreForNames && isUnstored(inode)
            let replaced = asks ? try await resolver.resolve(target) : known
            if replaced == inode { return () }
            if replaced != nil, noReplace { throw VFSError(.alreadyExists, "\(target.name) exists") }
            let gone = replaced.map { [$0] } ?? []
            let commits = commits
            // The rename of a directory may be taken back.
            let claimed = tree.stored.kind(inode) == .directory ? [target, source] : [target]
            let hold = Tree.Hold(
                used: [source.parent, target.parent], changed: [inode] + gone, doomed: gone, claimed: claimed,
                interrupt: { commits.interrupt($0) })
            return try await tree.holding(
                hold,
                verify: { tree.stored.isNamed(source, inode, $0) && tree.stored.isNamed(target, replaced, $0) },
                { () async throws(VFSError) -> Void? in
                    if tree.stored.isAtOrBelow(target.parent, inode) {
                        throw VFSError(.invalidArgument, "a directory cannot be moved into itself")
                    }
                    // Only what is held has a key that lasts: the directory may have been moved until now.
                    let key = try tree.stored.key(of: target.name, in: target.parent)
                    try SlowPath.begin()
                    let move = Move(source: source, inode: inode, target: target, key: key, replaced: replaced)
                    let isDone =
                        tree.stored.kind(inode) == .directory
                        ? try await moveDirectory(move, noReplace: noReplace)
                        : try await moveFile(move, noReplace: noReplace)
                    guard isDone else { return nil }
                    if tree.stored.kind(inode) == .directory { await commits.renamed(inode) }
                    await markers.keepIfEmpty(source.parent)
                    markers.timesChanged()
                    return ()
                }
            ).flatMap { $0 }
        }
    }

    private func isUnstored(_ inode: InodeID) -> Bool {
        guard let file = try? tree.stored.target(inode), file.kind != .directory else { return false }
        return file.object == nil || file.isToReplace || file.isPlaceholder
    }

    private struct Move: Sendable {
        let source: Place
        let inode: InodeID
        let target: Place
        /// Of the new name, without a slash.
        let key: ObjectKey
        let replaced: InodeID?
    }

    // MARK: Files

    /// - Returns: false when what was known of a name is not so any more.
    private func moveFile(_ move: Move, noReplace: Bool) async throws(VFSError) -> Bool {
        var seen: StoredNames.Target?
        if let replaced = move.replaced {
            let target = try tree.stored.target(replaced)
            guard target.kind != .directory else { throw VFSError(.isDirectory, "\(move.target.name) is a directory") }
            if target.object != nil {
                if tree.stored.isExpected(move.target) { await preserveForAWhile(replaced) }
                if target.isOpen { try await preserve(replaced) }
            }
            seen = target
        }
        let source = try tree.stored.target(move.inode)
        guard let object = source.object, !source.isToReplace, !source.isPlaceholder else {
            // What a call that was given up stores there meanwhile is replaced as well.
            try await commits.landings.clear(move.key)
            if let replaced = move.replaced { seen = try tree.stored.target(replaced) }
            try await moveUnstored(move, source, seen)
            return true
        }
        guard context.capabilities.serverCopy || context.capabilities.moves else {
            throw VFSError(.crossDevice, "the store cannot copy")
        }
        if mayLand(move, over: seen, object) { try await commits.landings.clear(move.key) }
        if let replaced = move.replaced { seen = try tree.stored.target(replaced) }
        let condition: Precondition = seen?.object.map { .match($0.etag) } ?? .absent
        do throws(VFSError) {
            try await transfer(move, object, condition, replacedAny: seen?.object != nil)
            return true
        } catch {
            switch error.code {
            case .notFound, .stale:
                return try await sourceHasChanged(move, source, seen)
            case .preconditionFailed, .alreadyExists:
                // A write of our own that was given up has landed, and is what is to be replaced.
                if let replaced = move.replaced, tree.stored.hasLanded(replaced, since: seen?.object?.etag) {
                    return false
                }
                // Ours all the same, by a commit that was cut short?
                if let replaced = move.replaced, try await commits.recognise(replaced) { return false }
                tree.stored.distrust([move.target])
                // What was seen there has gone: nothing is in the way.
                if seen != nil, try await context.provider.headIfThere(move.key) == nil { return false }
                if noReplace { throw VFSError(.alreadyExists, "\(move.target.name) exists", wire: error.wire) }
                guard context.policy().onConflict == .keepBoth else {
                    throw Remover.changed(move.key, error)
                }
                try await keepBoth(move, object)
                return true
            default:
                // It may have been carried out.
                if CommitVerdict.isUnclear(error) {
                    tree.stored.distrust(context.capabilities.moves ? [move.target, move.source] : [move.target])
                }
                throw error
            }
        }
    }

    /// The object gets its new key: in one step where the store can, else by a copy, after which the old one goes.
    private func transfer(
        _ move: Move, _ object: ObjectInfo, _ condition: Precondition, replacedAny: Bool
    ) async throws(VFSError) {
        if context.capabilities.moves, var moved = try await moveInStore(move, object, condition) {
            moved.size = object.size
            tree.stored.relocate(move.inode, from: object, to: moved)
            return await arrive(move, object, moved, isClean: true)
        }
        guard context.capabilities.serverCopy else { throw VFSError(.crossDevice, "the store cannot copy") }
        let copied = try await context.provider.copy(
            CopyRequest(source: object, destination: move.key, precondition: condition))
        try await finish(move, object, copied, replacedAny: replacedAny)
    }

    /// - Returns: nil where this object has to be copied.
    private func moveInStore(
        _ move: Move, _ object: ObjectInfo, _ condition: Precondition
    ) async throws(VFSError) -> ObjectInfo? {
        let request = MoveRequest(
            source: object, destination: move.key, precondition: condition, nonce: tree.stored.nonce(move.inode))
        do throws(VFSError) {
            return try await context.provider.move(request)
        } catch {
            if error.code == .notSupported { return nil }
            // What is moved is under one name only: where its answer was lost, that is to be known.
            guard CommitVerdict.isUnclear(error),
                case .done(let moved?) = try? await context.provider.whatBecame(of: request)
            else { throw error }
            return moved
        }
    }

    /// Whether a write of a file that has or had the name, given up and still under way, could take effect once the copy is there. Where
    /// the store compares, one that is to replace another version is refused; versions with the same bytes may have one ETag.
    private func mayLand(_ move: Move, over seen: StoredNames.Target?, _ object: ObjectInfo) -> Bool {
        let capabilities = context.capabilities
        guard capabilities.conditionalCreate, capabilities.conditionalReplace else { return true }
        return commits.landings.mayLand(
            move.key, over: object, nonce: tree.stored.nonce(move.inode), isNew: seen == nil)
    }

    /// Keeps the bytes of a file that is about to be replaced, for who has it open.
    private func preserve(_ inode: InodeID) async throws(VFSError) {
        let content = try tree.borrowContent(inode)
        defer { tree.giveBackContent(inode) }
        try await Preservation(content: content, context: context).run()
    }

    private static let mostForAWhile = 16 << 20

    /// The same for who is just coming to open it: a courtesy, which costs the rename little and fails it never.
    private func preserveForAWhile(_ inode: InodeID) async {
        guard let content = try? tree.borrowContent(inode) else { return }
        let (context, tree) = (context, tree)
        context.begin {
            await context.clock.sleep(StoredNames.comeBack)
            tree.giveBackContent(inode)
        }
        guard content.size() <= Self.mostForAWhile else { return }
        try? await Preservation(content: content, context: context).run()
    }

    /// What was to be moved is not the version any more that this mount knows.
    private func sourceHasChanged(
        _ move: Move, _ source: StoredNames.Target, _ seen: StoredNames.Target?
    ) async throws(VFSError) -> Bool {
        // One of ours that was cut short may be about to replace there what is somebody else's. What it becomes waits for this rename.
        if commits.landings.mayReplaceOther(source.key, than: source.object?.etag) {
            throw VFSError(.busy, "a write of \(source.key) is still on its way")
        }
        // Or it may have reached the store.
        if try await commits.recognise(move.inode) { return false }
        // Nor is it certain what a copy that could not be pinned has left under the new name.
        tree.stored.distrust([move.source, move.target])
        guard tree.dirtyGeneration(move.inode) != nil else { return false }
        guard let content = tree.contentIfAny(move.inode), content.unchangedBase() == nil else {
            throw VFSError(.busy, "\(source.key) was changed by somebody else")
        }
        // The version of somebody else stays under the old name; what was written here goes on under the new one.
        try await record(move, over: seen)
        tree.stored.move(move.inode, to: move.target, .unstored(replacing: seen?.object?.etag))
        await commits.renamed(move.inode, over: seen?.inode)
        return true
    }

    /// A file that was never stored under the old name: its commit will find the new one, with what it is to replace there.
    private func moveUnstored(_ move: Move, _ source: StoredNames.Target, _ seen: StoredNames.Target?)
        async throws(VFSError)
    {
        try await record(move, over: seen)
        do throws(VFSError) { try await clearOldName(of: move, source) } catch {
            await commits.records.keepUnheard(move.inode)
            if let replaced = seen?.inode { await commits.records.keepUnheard(replaced) }
            throw error
        }
        tree.stored.move(move.inode, to: move.target, .unstored(replacing: seen?.object?.etag))
        await commits.renamed(move.inode, over: seen?.inode)
    }

    /// What a file that was never stored was to replace under its old name goes, and what it may have become there.
    private func clearOldName(of move: Move, _ source: StoredNames.Target) async throws(VFSError) {
        if let doomed = source.object {
            let request = DeleteRequest(
                source.key, version: doomed.etag, nonce: tree.stored.nonce(move.inode))
            if let failure = try await context.provider.delete([request]).first {
                guard failure.error.code == .preconditionFailed else { throw failure.error }
                tree.stored.distrust([move.source])
            }
        }
        let uncertain = commits.entries.uncertain(move.inode)
        if !uncertain.isEmpty, let there = try await context.provider.headIfThere(source.key),
            let mark = WriteMark(there), uncertain.contains(mark)
        {
            let request = DeleteRequest(source.key, version: there.etag, nonce: mark.nonce)
            let failure = try await context.provider.delete([request]).first
            if let failure, failure.error.code != .preconditionFailed { throw failure.error }
        }
    }

    /// What is on record of a file that the store has not gets its new name, before anybody is told of it.
    private func record(_ move: Move, over seen: StoredNames.Target?) async throws(VFSError) {
        let etag = seen?.object?.etag
        guard await commits.records.moves(move.inode, to: move.key, replacing: etag, over: seen?.inode) else {
            throw VFSError(.noSpace, "local disk has no room for a record of \(move.key)")
        }
    }

    /// The copy is there: the old object goes, as it was copied.
    private func finish(
        _ move: Move, _ object: ObjectInfo, _ info: ObjectInfo, replacedAny: Bool
    ) async throws(VFSError) {
        var copied = info
        copied.size = object.size
        let old = object
        tree.stored.relocate(move.inode, from: old, to: copied)
        // What was written over the object goes on from the copy, also in another process.
        guard
            await commits.records.moves(
                move.inode, to: copied.key, replacing: copied.etag, over: move.replaced)
        else {
            try await refuse(
                move, copied, old, replacedAny, VFSError(.noSpace, "local disk has no room for a record of \(move.key)")
            )
        }
        let failure: VFSError?
        do throws(VFSError) {
            failure = try await commits.takeAway(old, nonce: tree.stored.nonce(move.inode))
        } catch {
            if error.code == .permissionDenied {
                failure = error
            } else if let isFree = await isGone(old) {
                return await arrive(move, old, copied, isClean: isFree)
            } else {
                // Whether it still will be deleted, only time tells: both names stay.
                await stay(move, copied, old)
                tree.stored.distrust([move.target, move.source])
                throw error
            }
        }
        if let failure, failure.code != .preconditionFailed {
            try await refuse(move, copied, old, replacedAny, failure)
        }
        // What somebody else has stored under the old name meanwhile is shown.
        await arrive(move, old, copied, isClean: failure == nil)
    }

    /// The old name stays. What replaced another cannot be taken back.
    private func refuse(
        _ move: Move, _ copied: ObjectInfo, _ old: ObjectInfo, _ replacedAny: Bool, _ failure: VFSError
    ) async throws(VFSError) -> Never {
        await stay(move, copied, old)
        if !replacedAny {
            let undoing = DeleteRequest(copied.key, version: copied.etag, undoes: true)
            _ = try? await context.provider.delete([undoing])
        }
        tree.stored.distrust([move.target, move.source])
        throw failure
    }

    private func stay(_ move: Move, _ copied: ObjectInfo, _ old: ObjectInfo) async {
        tree.stored.stay(move.inode, from: copied, to: old)
        await commits.renamed(move.inode)
        if let replaced = move.replaced { await commits.records.keepUnheard(replaced) }
    }

    /// - Returns: when the version is not there any more, whether nothing is; nil when it is, or the store does not tell.
    private func isGone(_ object: ObjectInfo) async -> Bool? {
        let there = await attempt { () async throws(VFSError) in
            try await context.provider.headIfThere(object.key)
        }
        guard case .success(let there) = there, there?.etag != object.etag else { return nil }
        return there == nil
    }

    private func arrive(_ move: Move, _ old: ObjectInfo, _ copied: ObjectInfo, isClean: Bool) async {
        let place = Place(parent: move.target.parent, name: Self.name(copied.key))
        tree.stored.move(move.inode, to: place, .stored(old: old, new: copied))
        await commits.renamed(move.inode, over: move.replaced)
        if !isClean { tree.stored.distrust([move.source]) }
    }

    private static func name(_ key: ObjectKey) -> FileName {
        FileName(unchecked: key.names.last ?? key.string)
    }

    /// Somebody else has stored something under the new name that nobody here has seen: it stays, and the file goes beside it.
    private func keepBoth(_ move: Move, _ object: ObjectInfo) async throws(VFSError) {
        let now = context.clock.now()
        for attempt in 1...ConflictName.most {
            let key = ConflictName.key(beside: move.key, now: now, attempt: attempt)
            let beside = Move(
                source: move.source, inode: move.inode, target: move.target, key: key, replaced: nil)
            do throws(VFSError) {
                try await transfer(beside, object, .absent, replacedAny: false)
            } catch {
                guard error.code == .preconditionFailed, attempt < ConflictName.most else { throw error }
                continue
            }
            context.log.warning(
                "renamed here and changed elsewhere: both are kept",
                metadata: ["key": "\(move.key)", "kept": "\(key)"])
            return
        }
    }

    // MARK: Directories

    /// - Returns: false when what was known of a name is not so any more.
    private func moveDirectory(_ move: Move, noReplace: Bool) async throws(VFSError) -> Bool {
        var replaced: ObjectInfo?
        if let inode = move.replaced {
            guard tree.stored.kind(inode) == .directory else {
                throw VFSError(.notDirectory, "\(move.target.name) is not a directory")
            }
            replaced = try await remover.requireEmpty(inode).marker
        }
        let source = try tree.stored.target(move.inode)
        guard let seal = tree.stored.sealMarker(move.inode) else { throw VFSError(.notFound, "the directory is gone") }
        let job = DirectoryMove(
            from: source.key, to: ObjectKey(move.key.string + "/"), replaced: replaced, attributes: seal.attributes,
            provider: context.provider, budget: context.names)
        try await requireShort(move, job, onlyHeld: true)
        let made: [DirectoryMove.Moved]
        try await commits.landings.clear(job.to)
        // The marker of an old tool is no part of the folder.
        let isOwnMarker = source.object.map { $0.key == source.key } ?? true
        if context.capabilities.movesFolders, move.replaced == nil, isOwnMarker,
            let isDone = try await moveWhole(move, job, source.object, noReplace: noReplace)
        {
            return isDone
        }
        do throws(VFSError) {
            try await requireNoFile(move)
            made = try await job.copyAll()
        } catch {
            if [.notEmpty, .alreadyExists].contains(error.code) { tree.stored.distrust([move.target]) }
            if [.notFound, .stale].contains(error.code) { tree.stored.distrust([move.source]) }
            if noReplace, error.code == .notEmpty {
                throw VFSError(.alreadyExists, "\(move.target.name) exists", wire: error.wire)
            }
            throw error
        }
        // The marker of an old tool has no slash, and no place in the new tree: the directory has one that has.
        let oldMarker = source.object.flatMap { $0.key == source.key ? nil : $0 }
        let marker = made.first { $0.new.key == job.to }?.new
        await arrive(move.inode, at: move.target, marker, made, below: job.to)
        // What records are made of is about to go.
        guard await commits.renamed(move.inode) else {
            await takeBack(move, job, made, seal.object)
            throw VFSError(.noSpace, "local disk has no room for records of what is in \(job.to)")
        }
        do throws(VFSError) {
            var (stayed, refusal) = try await job.deleteOld(made)
            if let refusal {
                if await job.isWhole(made) { await takeBack(move, job, made, seal.object) }
                throw refusal
            }
            var left: [ObjectInfo] = []
            for object in stayed where try await commits.takeAway(object) != nil { left.append(object) }
            stayed = left
            if let oldMarker {
                _ = try await context.provider.delete([DeleteRequest(oldMarker.key, version: oldMarker.etag)])
            }
            if !stayed.isEmpty {
                context.log.notice(
                    "changed elsewhere while its directory was moved: it stays where it was",
                    metadata: ["directory": "\(job.from)", "keys": "\(stayed.count)"])
                tree.stored.distrust([move.source])
            }
            return true
        } catch {
            // Deletes whose end is not known may still take place: the copies stay.
            tree.stored.distrust([move.target, move.source])
            throw error
        }
    }

    /// The store gives the folder its new name, with all that is in it, seen here or not.
    /// - Returns: nil where it has to be copied; false when what was known of a name is not so any more.
    private func moveWhole(
        _ move: Move, _ job: DirectoryMove, _ marker: ObjectInfo?, noReplace: Bool
    ) async throws(VFSError) -> Bool? {
        // What nobody here has seen the store would not ask about. Copies find it out.
        try await requireShort(move, job, onlyHeld: false)
        let folder = marker ?? ObjectInfo(key: job.from, size: 0, etag: ETag(""), stored: Timestamp(seconds: 0))
        let request = MoveRequest(source: folder, destination: job.to)
        var (moved, isSure): (ObjectInfo?, Bool) = (nil, true)
        do throws(VFSError) {
            moved = try await context.provider.move(request)
        } catch {
            switch error.code {
            // One that only this mount knows, or that holds what the store cannot move.
            case .notSupported, .notFound: return nil
            case .preconditionFailed, .alreadyExists:
                tree.stored.distrust([move.target])
                if noReplace { throw VFSError(.alreadyExists, "\(move.target.name) exists", wire: error.wire) }
                return false
            default:
                guard CommitVerdict.isUnclear(error) else { throw error }
                // Copies must not be made of what may still be moving.
                tree.stored.distrust([move.source, move.target])
                guard case .done(let found) = try? await context.provider.whatBecame(of: request) else { throw error }
                (moved, isSure) = (found, false)
            }
        }
        let arrival = StoredNames.Arrival.whole(marker: moved, from: job.from, to: job.to, isSure: isSure)
        await LongWork.run(tree.stored.nodeCount) { tree.stored.move(move.inode, to: move.target, arrival) }
        return true
    }

    /// Nothing has been deleted: all is as it was.
    private func takeBack(
        _ move: Move, _ job: DirectoryMove, _ made: [DirectoryMove.Moved], _ marker: ObjectInfo?
    ) async {
        let back = await LongWork.run(made.count) {
            made.filter { $0.old.key != $0.new.key }.map { DirectoryMove.Moved(old: $0.new, new: $0.old) }
        }
        await arrive(move.inode, at: move.source, marker, back, below: job.from)
        // Where a record still tells the new names, what they stand for stays.
        if await commits.renamed(move.inode) { await job.takeBack(made) }
        tree.stored.distrust([move.target])
    }

    /// The directory gets its other place in one step, by what is below `prefix` now. It may be a long step: the thread that all transfers
    /// share does other things meanwhile.
    private func arrive(
        _ inode: InodeID, at place: Place, _ marker: ObjectInfo?, _ moved: [DirectoryMove.Moved],
        below prefix: ObjectKey
    ) async {
        await LongWork.run(tree.stored.nodeCount + moved.count) {
            let byPath = Dictionary(
                moved.map { ($0.new.key.dropping(prefix.byteCount), $0) }, uniquingKeysWith: { $1 })
            tree.stored.move(inode, to: place, .directory(marker: marker, byPath))
        }
    }

    private func requireShort(_ move: Move, _ job: DirectoryMove, onlyHeld: Bool) async throws(VFSError) {
        let longest = await LongWork.run(tree.stored.nodeCount) {
            tree.stored.longest(below: move.inode, onlyHeld: onlyHeld)
        }
        guard job.to.byteCount + longest <= context.capabilities.maxKeyBytes else {
            throw VFSError(.nameTooLong, "a key below \(job.to) would be too long")
        }
    }

    /// A file may have been made under the new name, beside which a directory would hide it.
    private func requireNoFile(_ move: Move) async throws(VFSError) {
        if move.replaced != nil { return }
        guard let there = try await context.provider.headIfThere(move.key), !AttributeCodec.isDirectory(there) else {
            return
        }
        throw VFSError(.alreadyExists, "\(move.target.name) exists")
    }
}

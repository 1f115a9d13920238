import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import Logging
import Synchronization

/// The commits of one mount: which file's is under way, which has failed, and what a later attempt must know of earlier ones.
final class Commits: Sendable {
    /// How an attempt ended.
    enum End: Sendable {
        case stored
        /// Its name or its bytes have changed meanwhile: once more, if it is still wanted.
        case again
        case failed(VFSError)
    }

    /// A file that changes under every attempt is not sent for ever.
    private static let mostRepeats = 8
    private let context: MountContext
    private let tree: Tree
    private let revalidator: Revalidator
    private let markers: Markers
    private let committer: Committer
    let entries = CommitTable()
    /// Writes whose calls were given up.
    let landings: Landings
    let records: Records
    let queue: UploadQueue
    let stranded: StrandedBytes
    /// Drained once: what is written from then on is on disk at once, for the drain may be given up at any moment.
    private let isEnding = Atomic(false)

    init(context: MountContext, tree: Tree, revalidator: Revalidator, markers: Markers) {
        self.context = context
        self.tree = tree
        self.revalidator = revalidator
        self.markers = markers
        landings = Landings(context: context, tree: tree)
        records = Records(context: context, tree: tree)
        queue = UploadQueue(context: context)
        stranded = StrandedBytes(context)
        let log = context.log
        committer = Committer(
            provider: context.provider, reader: context.imageReader()
        ) { key, left in
            log.notice(
                "the metadata of others leaves no room for all attributes",
                metadata: ["key": "\(key)", "left out": "\(left.joined(separator: ", "))"])
        }
    }

    deinit { queue.end() }

    func isDraining() -> Bool { isEnding.load(ordering: .relaxed) }

    // MARK: One file

    /// Returns when the store has all that was changed before the call.
    /// - Throws: why it has not. The bytes stay staged, and the next call tries again.
    func commit(_ inode: InodeID) async throws(VFSError) {
        guard let wanted = tree.dirtyGeneration(inode) else { return try requireWhole(inode) }
        while !tree.isStored(inode, at: wanted) {
            let task = entries.withLock { entries in
                var entry = entries[inode] ?? CommitEntry()
                if let task = entry.task { return task }
                let task = Task(executorPreference: context.provider.executor) { await self.run(inode) }
                entry.task = task
                entry.isInterrupted = false
                entries[inode] = entry
                return task
            }
            switch await task.value {
            case .stored: continue
            case .again: if Task.isCancelled { throw .cancelled }
            case .failed(let error): throw error
            }
        }
        try requireWhole(inode)
    }

    /// A file that has lost its name to somebody else's version has nothing to be stored, and its new bytes are not stored.
    func requireWhole(_ inode: InodeID) throws(VFSError) {
        if let failure = tree.contentIfAny(inode)?.failure() { throw failure }
    }

    private func run(_ inode: InodeID) async -> End {
        let result = await attempt { () async throws(VFSError) in
            _ = try await self.tree.holding(Tree.Hold(used: [inode], isPatient: true)) { () async throws(VFSError) in
                try await self.commitOnce(inode)
            }
        }
        guard case .failure(let error) = result else {
            entries.withLock { entries in
                guard var entry = entries[inode] else { return }
                (entry.task, entry.error, entry.failedSince, entry.repeats) = (nil, nil, nil, 0)
                (entry.write, entry.sending, entry.reason, entry.kin) = (nil, nil, nil, [])
                entry.past = entry.marks.suffix(CommitEntry.mostPast)
                entry.uncertain = []
                entries[inode] = entry.past.isEmpty && entry.changing == nil ? nil : entry
            }
            await records.update(inode)
            return .stored
        }
        let content = tree.contentIfAny(inode)
        let isAgain = entries.withLock { entries in
            guard var entry = entries[inode] else { return true }
            defer { entries[inode] = entry }
            if entry.isInterrupted { return true }
            guard error.code == .busy, entry.repeats < Self.mostRepeats else { return false }
            entry.repeats += 1
            return true
        }
        // What could not be stored is on disk before anybody is told.
        if !isAgain { await context.spill(content?.staged()) }
        let time = context.clock.now()
        entries.withLock { entries in
            entries[inode]?.task = nil
            entries[inode]?.sending = nil
            if isAgain { return }
            entries[inode]?.error = error
            entries[inode]?.reason = nil
            if entries[inode]?.failedSince == nil { entries[inode]?.failedSince = time }
        }
        if isAgain { return .again }
        await records.keepUnheard(inode)
        // Without marks it might be stored twice.
        if context.capabilities.metadata { queue.add(inode, after: .zero, hasFailed: true) }
        context.log.error(
            "commit failed; the bytes are kept",
            metadata: ["staged": "\(content?.staged()?.place ?? "memory")", "error": "\(error)"])
        // Nothing of it is tried again.
        if tree.stored.place(of: inode) == nil { abandon(inode) }
        return .failed(error)
    }

    /// A write of an earlier process goes on as this file, once `UploadQueue.start` lets it.
    func adopt(_ write: JournaledWrite, _ restored: RestoredFile) {
        entries.adopt(write, restored)
        queue.add(restored.inode, after: .zero, hasFailed: false)
    }

    /// What is told on record of a file; nil for one that is stored, or never will be.
    func told(_ inode: InodeID) -> Records.Told? {
        guard tree.dirtyGeneration(inode) != nil, let seal = tree.stored.seal(inode),
            let snapshot = tree.contentIfAny(inode)?.snapshot()
        else { return nil }
        entries.withLock { if $0[inode] == nil { $0[inode] = CommitEntry() } }
        // The next attempt sends just that, if nothing changes until then.
        let write = sealed(inode, seal, snapshot, isPlan: true)
        return entries.withLock { entries in
            let entry = entries[inode] ?? CommitEntry()
            let told = JournaledWrite(
                write: write, marks: entry.allMarks.filter { $0 != WriteMark(write) }, kin: entry.kin(of: write),
                since: entry.failedSince ?? context.clock.now(), error: entry.error?.description ?? entry.reason,
                unseen: seal.unseen)
            return Records.Told(write: told, staged: snapshot.image.dirty.total > 0 ? snapshot.staged : nil)
        }
    }

    /// What fails is told by `statistics`.
    func commitUnheard(_ inode: InodeID) async {
        _ = await attempt { () async throws(VFSError) in try await commit(inode) }
        tree.dropIdleContent(inode)
    }

    private func commitOnce(_ inode: InodeID) async throws(VFSError) {
        if let seal = tree.stored.seal(inode), seal.unseen != nil {
            try await revalidator.describeForCommit(inode, seal.key)
        }
        guard let seal = tree.stored.seal(inode) else {
            if tree.dirtyGeneration(inode) == nil { return }
            throw VFSError(.stale, "the file has lost its directory")
        }
        let content = try tree.borrowContent(inode)
        defer { tree.giveBackContent(inode) }
        guard let snapshot = content.snapshot() else {
            if tree.dirtyGeneration(inode) == nil { return }
            throw VFSError(.stale, "the file is never stored again")
        }
        var write = sealed(inode, seal, snapshot)
        let earlier = entries.marks(inode).filter { $0 != WriteMark(write) }
        // A call that was given up may still come to its effect: nothing is sent to the same key before that.
        try await landings.clear(write.key)
        let begun = write
        // Whoever goes on after a crash must know what was sent.
        if let mark = records.mark(inode), mark != WriteMark(write) { await records.keepUnheard(inode) }
        let isInDoubt = Mutex(false)
        let local = LocalBytes(
            staged: snapshot.staged, stream: snapshot.stream, generation: snapshot.generation,
            dropStream: { content.dropStream($0) }, givenUp: { self.await($0, inode, begun, as: $1) },
            mayChange: { isInDoubt.withLock { $0 = true } })
        let outcome: CommitOutcome
        do throws(VFSError) {
            outcome = try await committer.commit(
                &write, local, rule: context.policy().onConflict, earlier: earlier, now: context.clock.now())
        } catch {
            // Changed under the transfer, which may be all that was wrong with it: once more.
            if error.code == .io || error.code == .uploadNotFound, content.generation() != snapshot.generation {
                throw VFSError(.busy, error.message, wire: error.wire)
            }
            let failed = CommitEntry.Attempt(write: write, seal: seal, snapshot: snapshot.withoutBytes)
            let isPlannedAnew = entries.withLock { entries in
                // What has been planned since is another write.
                let isLast = entries[inode]?.generations == [seal.generation, snapshot.generation]
                if isLast { entries[inode]?.write = failed.write }
                if CommitVerdict.isUnclear(error) { entries[inode]?.note(failed) }
                return !isLast
            }
            if isPlannedAnew { committer.abandon(failed.write.upload) }
            throw error
        }
        switch outcome {
        case .stored(let info):
            entries.resolve(WriteMark(write), of: inode, changing: isInDoubt.withLock { $0 } ? info : nil)
            await accept(inode, seal, snapshot, content, write, info)
        case .earlier(let info):
            // Of one that came before what is stored nothing is known but that it is ours: it is what is replaced next.
            if await !known(inode, info, content, WriteMark(info)) {
                goOn(inode, info, content)
                _ = tree.stored.noteLate(inode, info, over: seal.version, nonce: info.metadata?.nonce)
            }
            throw VFSError(.busy, "an earlier write has been stored")
        case .kept(let info): await keepBeside(inode, seal, snapshot, content, write, info)
        case .stranded(let error):
            // What has landed meanwhile has given the file another base.
            let base = content.base()
            guard base?.etag == snapshot.base?.etag, base?.key == snapshot.base?.key else {
                throw VFSError(.busy, error.message, wire: error.wire)
            }
            throw await strand(inode, seal, content, error)
        }
    }

    // MARK: Calls that were given up

    /// What a call stores that nobody waits for goes again, unless the file still has that name: then it is its version.
    private func await(
        _ call: Task<Result<ObjectInfo, VFSError>, Never>, _ inode: InodeID, _ begun: SealedWrite, as write: SealedWrite
    ) {
        // What it becomes is of this file, also when the kernel has forgotten it meanwhile.
        let isKept = (try? tree.borrowContent(inode)) != nil
        // The node is still what it was when the commit began, also when another version is replaced knowingly.
        var noted = write
        if write.key == begun.key { noted.replaces = begun.replaces }
        let late = noted
        landings.follow(call, write, at: begun.key, { await self.acceptLate($0, inode, late) }) {
            if isKept { self.tree.giveBackContent(inode) }
        }
    }

    private func acceptLate(_ info: ObjectInfo, _ inode: InodeID, _ write: SealedWrite) async {
        while info.key == write.key {
            switch tree.stored.noteLate(inode, info, over: write.replaces, nonce: write.nonce) {
            case .done:
                if let content = tree.contentIfAny(inode) { await noteLanded(inode, info, content, WriteMark(write)) }
                return
            // The commit that begins anew may be waiting for this one.
            case .later: await tree.whenFree(inode, usersToo: false)
            case .gone: break
            }
            if tree.stored.seal(inode)?.key != write.key { break }
        }
        // Under a name that the file has not any more, or beside it.
        await landings.undo(WriteMark(write), at: info.key)
    }

    /// A call that was given up has stored the version that the file is based on from now on. The bytes of one that is losing its name, all
    /// of them staged, stay where they are: for who has it open, the version goes.
    private func noteLanded(_ inode: InodeID, _ info: ObjectInfo, _ content: FileContent, _ mark: WriteMark) async {
        if tree.stored.isDoomed(inode), content.base() == nil { return }
        _ = await known(inode, info, content, mark)
    }

    /// Takes an object away that has been copied, with what of this mount's own writes has come over it since: nobody wants that
    /// under the old name, and it must not uncover again what was copied.
    /// - Returns: why the store refuses; `preconditionFailed` when somebody else's is there.
    func takeAway(_ old: ObjectInfo, nonce: String? = nil) async throws(VFSError) -> VFSError? {
        var request = DeleteRequest(old.key, version: old.etag, nonce: nonce)
        for _ in 0..<4 {
            guard let failure = try await context.provider.delete([request]).first?.error else { return nil }
            guard failure.code == .preconditionFailed else { return failure }
            guard let there = try await context.provider.headIfThere(old.key) else { return nil }
            let found = there.metadata?.nonce
            let isUncovered = there.etag == old.etag && (nonce == nil || found == nonce)
            guard isUncovered || WriteMark(there).map(entries.isUncertain) ?? false else { return failure }
            request = DeleteRequest(old.key, version: there.etag, nonce: found)
        }
        return VFSError(.busy, "\(old.key) keeps changing")
    }

    // MARK: Writes whose answers were lost

    /// Looks whether a write of the file whose end was not known has reached the store; then the file goes on from there. Called by
    /// who holds its name.
    func recognise(_ inode: InodeID) async throws(VFSError) -> Bool {
        let marks = entries.uncertain(inode)
        guard !marks.isEmpty, let seal = tree.stored.seal(inode),
            let there = try await context.provider.headIfThere(seal.key), there.etag != seal.version,
            let mark = WriteMark(there), marks.contains(mark)
        else { return false }
        _ = tree.stored.noteLate(inode, there, over: seal.version, nonce: mark.nonce, isHeld: true)
        if let content = tree.contentIfAny(inode), await !known(inode, there, content, mark) {
            goOn(inode, there, content)
        }
        return true
    }

    /// The version that a file reads is gone: has a write of an earlier process come over it?
    func isBaseOurs(_ inode: InodeID, _ base: ObjectInfo) async -> Bool {
        guard entries.hasKin(inode), let content = tree.contentIfAny(inode),
            let there = try? await context.provider.headIfThere(base.key), there.etag != base.etag
        else { return false }
        return goOn(inode, there, content)
    }

    /// A file of an earlier process goes on over what that has stored of it.
    @discardableResult
    private func goOn(_ inode: InodeID, _ info: ObjectInfo, _ content: FileContent) -> Bool {
        guard let mark = WriteMark(info), entries.isKin(mark, over: content.base()?.etag, of: inode) else {
            return false
        }
        content.rebase(onto: info)
        return true
    }

    /// The object is what an earlier attempt has stored: its bytes are the base of what has changed since.
    /// - Returns: false when it is not known which state of the file that was.
    private func known(
        _ inode: InodeID, _ info: ObjectInfo, _ content: FileContent, _ mark: WriteMark?
    ) async -> Bool {
        guard let mark else { return false }
        guard let attempt = entries.takeAttempt(mark, of: inode) else {
            let changing = entries.withLock { $0[inode]?.changing }
            guard var before = changing, WriteMark(before) == mark else { return false }
            if let base = content.base(), base.etag == before.etag { before.key = base.key }
            // The same bytes under a new version.
            _ = tree.stored.noteLate(inode, info, over: before.etag, nonce: mark.nonce, isHeld: true)
            content.relocate(from: before, to: info)
            return true
        }
        // With its folder it may have got another name since, and so may what it was based on.
        var (write, snapshot) = (attempt.write, attempt.snapshot)
        if let base = content.base(), base.key == info.key, base.etag == snapshot.base?.etag,
            snapshot.base?.key == write.key
        {
            snapshot.base = base
        }
        write.key = info.key
        await accept(inode, attempt.seal, snapshot, content, write, info)
        return true
    }

    /// The write of a file as it is. An attempt that was cut short goes on when nothing has changed since.
    /// - Parameter isPlan: not to be sent now, perhaps beside another that is.
    private func sealed(
        _ inode: InodeID, _ seal: StoredNames.Seal, _ snapshot: ContentSnapshot, isPlan: Bool = false
    ) -> SealedWrite {
        let generations = [seal.generation, snapshot.generation]
        var stream = snapshot.stream
        if let begun = stream, !begun.isGood(for: snapshot.generation) { stream = nil }
        let layers = SealedWrite.Layers(
            image: snapshot.image, base: snapshot.base, staged: snapshot.staged?.name)
        var write = SealedWrite(
            mount: context.name, key: seal.key, replaces: seal.version, attributes: seal.attributes,
            hasExplicitTime: seal.hasExplicitTime, layers: layers,
            nonce: stream?.nonce ?? ObjectMetadata.newNonce())
        let unfinished: UnfinishedUpload? = entries.withLock { entries in
            defer {
                if !isPlan || entries[inode]?.write == nil { entries[inode]?.write = write }
                // From now on whoever puts the file on record tells that too.
                if !isPlan { entries[inode]?.sending = write }
            }
            guard let before = entries[inode]?.write else {
                entries[inode]?.generations = generations
                return nil
            }
            if entries[inode]?.generations == generations, before.key == write.key {
                write.nonce = stream?.nonce ?? before.nonce
                write.upload = before.upload
                return nil
            }
            entries[inode]?.generations = generations
            entries[inode]?.write = nil
            return isPlan && entries[inode]?.task != nil ? nil : before.upload
        }
        committer.abandon(unfinished)
        return write
    }

    private func accept(
        _ inode: InodeID, _ seal: StoredNames.Seal, _ snapshot: ContentSnapshot, _ content: FileContent,
        _ write: SealedWrite, _ info: ObjectInfo
    ) async {
        var stored = info
        stored.key = write.key
        let isUnchanged = content.stored(snapshot, as: stored, attributesOnly: write.isBase)
        // A file sent while it was written has the time at which the store took it in; it could not be told another.
        var modified: Timestamp?
        if snapshot.isStreamed, let metadata = info.metadata, metadata.modified == nil { modified = info.stored }
        let useless = tree.stored.stored(
            inode, seal, stored, nonce: write.nonce, isUnchanged: isUnchanged, modified: modified)
        if let useless { markers.arrived(in: useless) }
        markers.timesChanged()
        await records.update(inode)
    }

    /// Somebody else has changed the object, and both are kept. The open file goes on under the name of its own version.
    private func keepBeside(
        _ inode: InodeID, _ seal: StoredNames.Seal, _ snapshot: ContentSnapshot, _ content: FileContent,
        _ write: SealedWrite, _ info: ObjectInfo
    ) async {
        let name = info.key.names.last ?? info.key.string
        let place = tree.stored.keptBeside(inode, as: FileName(unchecked: name))
        var kept = write
        kept.key = info.key
        await accept(inode, seal, snapshot, content, kept, info)
        context.log.warning(
            "changed here and elsewhere: both are kept", metadata: ["key": "\(write.key)", "kept": "\(info.key)"])
        if let place { context.invalidate([place]) }
    }

    /// The new bytes cannot become a whole file: they stay in the staging area, and the name shows what the store has.
    private func strand(_ inode: InodeID, _ seal: StoredNames.Seal, _ content: FileContent, _ error: VFSError) async
        -> VFSError
    {
        await context.spill(content.staged())
        let bytes = content.dirtyBytes()
        let state = told(inode)
        // The content first: whoever finds the name gone finds the failure too.
        let staged = content.strand(error)
        let place = tree.stored.strand(inode)
        await end(inode, seal.key.string, state, staged, bytes, error)
        context.log.error(
            "changed elsewhere, and the version that it was based on is gone; the new bytes are kept",
            metadata: ["key": "\(seal.key)", "staged": "\(staged ?? "-")"])
        if let place {
            stranded.wasReplaced(place)
            context.invalidate([place])
        }
        return error
    }

    private func end(
        _ inode: InodeID, _ path: String, _ state: Records.Told?, _ staged: String?, _ bytes: Int, _ error: VFSError
    ) async {
        let record = await records.end(inode, state, error)
        // By then it is on disk.
        stranded.note(
            path, state?.staged?.place ?? staged, bytes, error.description, since: context.clock.now(), record: record)
    }

    var strandedIDs: Set<Int64> { stranded.ids }

    /// What an earlier process has left, and nothing can be made of: it stays on record.
    func strandLeft(_ left: WriteLog.Left, _ reason: String, since: Timestamp) {
        let file = left.staged.flatMap(context.staging.leftover)
        stranded.note(left.key.string, file?.path, file?.size ?? 0, reason, since: since, record: left.id)
        context.log.error(
            "an earlier run has left what cannot be stored",
            metadata: ["key": "\(left.key)", "staged": "\(file?.path ?? "-")", "reason": "\(reason)"])
    }

    // MARK: Names that change

    /// Ends commits so that names can change: those that are still wanted begin again under the new ones.
    func interrupt(_ inodes: [InodeID]) {
        let tasks = entries.withLock { entries in
            inodes.compactMap { inode -> Task<End, Never>? in
                guard let task = entries[inode]?.task else { return nil }
                entries[inode]?.isInterrupted = true
                return task
            }
        }
        for task in tasks { task.cancel() }
    }

    /// The file has no name any more, which no later process brings back.
    func withdraw(_ inode: InodeID) async {
        abandon(inode)
        await records.remove(inode)
    }

    /// As `Records.renamed`.
    @discardableResult
    func renamed(_ inode: InodeID, over replaced: InodeID? = nil) async -> Bool {
        if let replaced {
            // What of the other one has landed under the name, or still will, is this mount's: the file goes over it.
            entries.inherit(replaced, by: inode)
            abandon(replaced)
        }
        return await records.renamed(inode, over: replaced)
    }

    /// Bytes are about to be taken away that a record may name. Blocks.
    /// - Returns: false when there is no record that does without them.
    func cuts(_ inode: InodeID) throws(VFSError) -> Bool {
        try records.keepNow(inode)
    }

    private func abandon(_ inode: InodeID) {
        let upload = entries.withLock { entries in entries.removeValue(forKey: inode)?.write?.upload }
        committer.abandon(upload)
    }

    /// The file is again what it was before its last commit, which failed. Should that land all the same, it is still ours.
    func tookBack(_ inode: InodeID) async {
        let upload: UnfinishedUpload? = entries.withLock { entries in
            guard let entry = entries[inode] else { return nil }
            var left = CommitEntry()
            left.task = entry.task
            left.past = entry.marks.suffix(CommitEntry.mostPast)
            entries[inode] = left.past.isEmpty && left.task == nil ? nil : left
            return entry.write?.upload
        }
        committer.abandon(upload)
        await records.update(inode)
    }

    // MARK: All files

    /// The last handle of a file is closed, which the store forbids to be written: trying again would change nothing. The
    /// name shows again what the store has, and the new bytes stay on local disk.
    func closed(_ inode: InodeID) {
        guard let error = entries.error(inode), error.code == .permissionDenied else { return }
        // What was acknowledged is tried for ever, whatever the policy is by now.
        if context.writes.isPromised(inode) { return }
        let state = told(inode)
        guard let closed = tree.stored.abandonIfClosed(inode) else { return }
        let bytes = closed.content?.dirtyBytes() ?? 0
        let staged = closed.content?.strand(error)
        abandon(inode)
        context.begin { await self.end(inode, closed.path, state, staged, bytes, error) }
        context.log.error(
            "the store forbids to write the file; its new bytes are kept",
            metadata: ["key": "\(closed.path)", "staged": "\(staged ?? "-")"])
        context.invalidate([closed.place])
    }

    /// What a conflict kept from being stored may go now.
    func retryConflicts() {
        let refused = entries.withLock { entries in entries.filter { $0.value.error?.code == .stale }.map(\.key) }
        for inode in refused { context.begin { await self.commitUnheard(inode) } }
    }

    /// Commits what files hold that the store does not have, once it is all on disk. Failures stay in `statistics`, their
    /// bytes on disk.
    func drain() async {
        isEnding.store(true, ordering: .relaxed)
        let dirty = tree.stored.dirtyFiles()
        _ = await inParallelToEnd(dirty, width: 8) { file async throws(VFSError) in
            await self.context.spill(file.content?.staged())
        }
        _ = await attempt { () async throws(VFSError) in
            try await inParallel(dirty, width: 16) { file async throws(VFSError) in
                let result = await attempt { () async throws(VFSError) in try await self.commit(file.inode) }
                // What is on record is kept by that.
                guard case .failure = result, let staged = file.content?.staged() else { return }
                if !self.context.writes.names(staged, of: file.inode) { staged.keep() }
            }
        }
        await markers.storeTimes()
        // What is still on its way then is looked after for as long as the process lives.
        await landings.clearAll()
    }

    func count(into statistics: inout MountStatistics) {
        for file in tree.stored.dirtyFiles() {
            guard let content = file.content else { continue }
            let bytes = content.dirtyBytes()
            statistics.dirtyFiles += 1
            statistics.dirtyBytes = statistics.dirtyBytes.addingSaturated(bytes)
            let failure = entries.withLock { entries in
                entries[file.inode].flatMap { entry in
                    (entry.error?.description ?? entry.reason).map { ($0, entry.failedSince ?? Timestamp(seconds: 0)) }
                }
            }
            guard let (error, since) = failure else { continue }
            statistics.failedCommits.append(
                MountStatistics.FailedCommit(
                    path: file.path, stagedPath: content.staged()?.place ?? "", bytes: bytes, error: error,
                    since: since))
        }
        statistics.failedCommits += stranded.all()
    }
}

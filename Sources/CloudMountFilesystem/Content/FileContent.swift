import CloudMountCache
import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Logging
import Synchronization

/// The bytes of one file while it is open or holds what the store does not have: the stored version they began as (the
/// base), and local changes over it.
///
/// Changes are in order by `changes`, which is held over local disk I/O. What they have made is published under `state`,
/// which is held for no I/O and calls nobody; readers and commits take only that.
final class FileContent: Sendable {
    let inode: InodeID
    private let context: MountContext
    private let hooks: ContentHooks
    private let changes = Mutex(())
    private let state: Mutex<ContentState>

    init(inode: InodeID, base: ObjectInfo?, size: Int, context: MountContext, hooks: ContentHooks) {
        self.inode = inode
        self.context = context
        self.hooks = hooks
        state = Mutex(ContentState(base: base, storedSize: base?.size ?? 0, size: size))
    }

    // MARK: Changes

    /// Stages `bytes` at `offset`, in memory as long as they are few unless `onDisk`.
    /// - Throws: `noSpace`, `io`, `stale`; nothing has changed then.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int, onDisk: Bool) throws(VFSError) -> ContentChange {
        let extent = Extent(offset: offset, count: bytes.count)
        return try changing(onDisk: onDisk) { () throws(VFSError) in
            while true {
                let staged = try stagedFile(onDisk: onDisk)
                let stream = try writable(extent).stream
                stream?.touch(extent)
                do throws(VFSError) {
                    try staged.write(bytes, at: offset)
                } catch {
                    // Half of it may lie where the file has nothing.
                    noteExcess(of: staged)
                    throw error
                }
                stream?.touch(extent)
                // Published only now that the bytes are there; a commit that ended meanwhile has taken the file away.
                let result: (ContentChange, written: Int)? = state.withLock { state in
                    guard state.staged === staged, state.stream === stream else { return nil }
                    var image = state.current
                    state.image = nil
                    image.write(extent)
                    state.bytesVersion = staged.version
                    let written = image.dirty.first(at: 0).map { $0.lowerBound == 0 ? $0.upperBound : 0 } ?? 0
                    return (state.publish(image), written)
                }
                guard let (change, written) = result else { continue }
                stream?.grew(to: written)
                return change
            }
        }
    }

    /// - Parameter keeping: something of what is there.
    private func changing<Value>(
        keeping: Bool = true, onDisk: Bool = true, _ body: () throws(VFSError) -> Value
    ) throws(VFSError) -> Value {
        try changes.withLock { _ throws(VFSError) in
            if keeping {
                _ = leaveBase(onDisk: onDisk)
                try keepRecorded(onDisk: onDisk)
            }
            return try body()
        }
    }

    /// Goes on with bytes of its own where those of the base are in memory, so that nothing of it has to be fetched. With `changes` held.
    private func leaveBase(onDisk: Bool) -> Bool {
        let before: ContentSnapshot? = state.withLock { $0.isBase ? $0.snapshot : nil }
        guard let before, let base = before.base, let copy = context.recent.find(base, forChange: true),
            copy.extent == Extent(0, before.size),
            let staged = try? context.staging.makeFile(label: context.name, memory: onDisk ? nil : context.memory),
            (try? staged.write(UnsafeRawBufferPointer(copy.bytes(copy.extent)), at: 0)) != nil
        else { return false }
        return goOn(with: staged, before)
    }

    /// Bytes that are copied so that what is on record of a file stays exactly what it was. In a larger file what is overwritten may be old or
    /// new after a crash, as on a local disk.
    private static let mostCopied = 256 << 10

    /// A small file that is on record goes on with a copy of its bytes. With `changes` held.
    private func keepRecorded(onDisk: Bool) throws(VFSError) {
        guard let staged = state.withLock({ $0.staged }), context.writes.names(staged, of: inode) else { return }
        let dirty = state.withLock { $0.current.dirty }
        if dirty.total > Self.mostCopied { return }
        let copy = try context.staging.makeFile(label: context.name, memory: onDisk ? nil : context.memory)
        try staged.copy(dirty, to: copy)
        let stream: StreamingUpload? = state.withLock { state in
            guard state.staged === staged else { return nil }
            (state.staged, state.bytesVersion) = (copy, nil)
            return state.stream.take()
        }
        stream?.abandon()
    }

    private func cut(_ staged: StagedFile?, asks: Bool, _ body: StagedCut.Body) {
        guard let staged else { return }
        StagedCut(context: context, inode: inode, record: hooks.cuts).run(staged, asks: asks, body)
        if staged.hasExcess { noteExcess(of: staged) }
    }

    /// A stream sends what is staged, whatever the file has.
    private func noteExcess(of staged: StagedFile) {
        staged.noteExcess()
        state.withLock { $0.stream.take() }?.abandon()
    }

    /// As `leaveBase`, of a file whose object is about to go.
    func keepRecent() -> Bool { changes.withLock { _ in leaveBase(onDisk: false) } }

    /// - Parameter extent: what is to be changed, which may take one more piece to say.
    private func writable(
        _ extent: Extent? = nil, isStaged: Bool = true
    ) throws(VFSError) -> (staged: StagedFile?, stream: StreamingUpload?) {
        let most = context.mostPieces
        return try state.withLock { state throws(VFSError) in
            if let failure = state.failure { throw failure }
            if let extent { try state.image?.requireRoom(unlessStaged: isStaged ? extent : nil, most: most) }
            return (state.staged, state.stream)
        }
    }

    private func stagedFile(onDisk: Bool) throws(VFSError) -> StagedFile {
        if let staged = state.withLock({ $0.staged }) { return staged }
        let made = try context.staging.makeFile(label: context.name, memory: onDisk ? nil : context.memory)
        return state.withLock { state in
            if let staged = state.staged { return staged }
            state.staged = made
            return made
        }
    }

    /// Cuts or extends.
    func truncate(to size: Int) throws(VFSError) -> ContentChange {
        try changing(keeping: size > 0) { () throws(VFSError) in
            let (staged, stream) = try writable()
            // What is on record keeps its bytes; the file goes on with none.
            let isLeft = size == 0 && staged.map { context.writes.names($0, of: inode) } ?? false
            let isKept = !isLeft && stream?.cut(to: size) ?? true
            let (change, waiters, cuts) = state.withLock { state in
                var image = state.current
                let cuts = image.dirty.upperBound > size
                state.image = nil
                var waiters: [VersionReader.Waiter] = []
                if size == 0 {
                    image = FileImage(size: 0, baseSize: 0)
                    state.holes = Holes()
                    waiters = state.setBase(nil)
                } else {
                    image.truncate(to: size)
                }
                if !isKept { state.stream = nil }
                if isLeft { state.staged = nil }
                return (state.publish(image), waiters, cuts)
            }
            if !isKept { stream?.abandon() }
            redirect(waiters)
            if !isLeft { cut(staged, asks: cuts) { staged throws(VFSError) in try staged.truncate(to: size) } }
            return change
        }
    }

    /// Makes zeros of `extent`, as far as the file reaches; with `extend`, up to its end.
    func zero(_ extent: Extent, extend: Bool) throws(VFSError) -> ContentChange {
        try changing { () throws(VFSError) in
            let (staged, _) = try writable(extent, isStaged: false)
            // A stream sends what is staged, where the zeros are not, or not yet.
            let (change, stream): (ContentChange, StreamingUpload?) = state.withLock { state in
                guard extend || extent.lowerBound < state.size else {
                    return (ContentChange(size: state.size, generation: state.generation), nil)
                }
                var image = state.current
                state.image = nil
                if extend { image.extend(to: extent.upperBound) }
                image.zero(extent)
                return (state.publish(image), state.stream.take())
            }
            stream?.abandon()
            cut(staged, asks: true) { staged throws(VFSError) in try staged.punch(extent) }
            return change
        }
    }

    /// Lets the file grow with zeros up to `size`.
    func extend(to size: Int) throws(VFSError) -> ContentChange {
        try changing { () throws(VFSError) in
            _ = try writable()
            return state.withLock { state in
                guard size > state.size else { return ContentChange(size: state.size, generation: state.generation) }
                var image = state.current
                state.image = nil
                image.extend(to: size)
                return state.publish(image)
            }
        }
    }

    /// An empty file becomes a copy of another stored object, without its bytes being moved.
    /// - Returns: nil when there is something in the file.
    func adopt(_ source: ObjectInfo) -> ContentChange? {
        state.withLock { state in
            guard state.size == 0, state.stream == nil, !state.isDetached, state.failure == nil else { return nil }
            state.base = source
            state.reader = nil
            state.staged = nil
            state.holes = Holes()
            return state.publish(FileImage(size: source.size, baseSize: source.size))
        }
    }

    /// The copy could not be made.
    /// - Returns: nil when the file has been written to since.
    func dropAdopted(_ source: ObjectInfo) -> ContentChange? {
        let (change, waiters): (ContentChange?, [VersionReader.Waiter]) = state.withLock { state in
            guard state.base?.isSameVersion(as: source) ?? false, state.image?.isWholeBase ?? false else {
                return (nil, [])
            }
            return (state.publish(FileImage(size: 0, baseSize: 0)), state.setBase(nil))
        }
        redirect(waiters)
        return change
    }

    /// Goes on where an earlier process was.
    func restore(_ layers: SealedWrite.Layers, _ staged: StagedFile?) {
        state.withLock { state in
            (state.base, state.staged, state.bytesVersion) = (layers.base, staged, nil)
            state.publish(layers.image)
            state.storedSize = layers.base?.size ?? 0
        }
    }

    // MARK: What it is now

    func size() -> Int { state.withLock { $0.size } }
    func staged() -> StagedFile? { state.withLock { $0.staged } }
    func dirtyBytes() -> Int { state.withLock { $0.image?.dirty.total ?? 0 } }
    func generation() -> UInt64 { state.withLock { $0.generation } }
    func base() -> ObjectInfo? { state.withLock { $0.base } }
    func storedSize() -> Int { state.withLock { $0.storedSize } }
    func failure() -> VFSError? { state.withLock { $0.failure } }

    /// The stored version that the file is, byte for byte; nil when it has changes.
    func unchangedBase() -> ObjectInfo? {
        state.withLock { state in state.image.map { $0.isWholeBase } ?? true ? state.base : nil }
    }

    /// Bytes that are not known to be zeros.
    func allocated() -> Int {
        state.withLock { state in state.image?.allocated ?? state.size - state.holes.total }
    }

    func data(from offset: Int) -> Int? {
        state.withLock { state in
            state.image.map { $0.data(from: offset) } ?? state.holes.data(from: offset, size: state.size)
        }
    }

    func hole(from offset: Int) -> Int? {
        state.withLock { state in
            state.image.map { $0.hole(from: offset) } ?? state.holes.hole(from: offset, size: state.size)
        }
    }

    /// The kernel has pages, and keeps them.
    func noteSeen() { state.withLock { $0.isSeen = true } }

    /// Somebody gets bytes that were looked for when the file had been switched so often.
    /// - Returns: false when they are of a version that the file has left since.
    private func noteSeen(unlessSwitchedSince switches: Int) -> Bool {
        state.withLock { state in
            guard state.switches == switches else { return false }
            state.isSeen = true
            return true
        }
    }

    // MARK: Commits

    /// Nil for a file that is never committed again.
    func snapshot() -> ContentSnapshot? { state.withLock { $0.isDetached ? nil : $0.snapshot } }

    /// The store has `stored`, made of `snapshot`.
    /// - Parameter attributesOnly: the bytes are those of the base.
    /// - Returns: whether the bytes have not changed since.
    func stored(_ snapshot: ContentSnapshot, as stored: ObjectInfo, attributesOnly: Bool) -> Bool {
        let (isUnchanged, released, waiters): (Bool, StagedFile?, [VersionReader.Waiter]) = state.withLock { state in
            state.storedSize = stored.size
            state.preserved = nil
            // The file has another base by now, to which what was stored means nothing.
            guard state.base?.etag == snapshot.base?.etag, state.base?.key == snapshot.base?.key else {
                return (false, nil, [])
            }
            let isUnchanged = state.generation == snapshot.generation
            state.holes = Holes(of: snapshot.image, over: state.holes)
            var released: StagedFile?
            if isUnchanged {
                state.image = nil
                released = state.staged.take()
                released?.keep(false)
            } else if let image = state.image {
                state.image = image.rebased(onto: stored.size)
            }
            return (isUnchanged, released, state.setBase(stored))
        }
        redirect(waiters)
        if attributesOnly, let base = snapshot.base, context.capabilities.conditionalCopy || stored.etag == base.etag {
            // Of another key it is a copy, and that stays.
            if base.key == stored.key { context.relocate(from: base, to: stored) }
        } else {
            context.recent.note(context.policy().data == .off ? snapshot.withoutBytes : snapshot, as: stored)
            context.kept?.note(snapshot, released, as: stored)
        }
        return isUnchanged
    }

    /// The object `info` has the same bytes wherever the file has its base's.
    func rebase(onto info: ObjectInfo) {
        let waiters: [VersionReader.Waiter] = state.withLock { state in
            guard let image = state.image, image.baseLimit <= info.size else { return [] }
            state.image = image.rebased(onto: info.size)
            return state.setBase(info)
        }
        redirect(waiters)
    }

    func dropStream(_ stream: StreamingUpload) { state.withLock { if $0.stream === stream { $0.stream = nil } } }

    /// Begins to send a new file that is being written from front to back.
    func streamUp(_ key: ObjectKey, _ metadata: ObjectMetadata) {
        // Not beside a change, which would not tell a stream that it did not see.
        changes.withLock { _ in
            let begun: (StreamingUpload, Int)? = state.withLock { state in
                guard state.isStreamable, let staged = state.staged else { return nil }
                let stream = StreamingUpload(
                    provider: context.provider, staged: staged, key: key, metadata: metadata,
                    nonce: ObjectMetadata.newNonce())
                state.stream = stream
                return (stream, state.size)
            }
            if let (stream, size) = begun { stream.grew(to: size) }
        }
    }

    func isStreamable() -> Bool { state.withLock { $0.isStreamable } }

    // MARK: The end

    /// From now on the file has no name: nothing of it is committed.
    func detach() {
        let stream = state.withLock { state in
            state.isDetached = true
            return state.stream.take()
        }
        stream?.abandon()
    }

    /// Its new bytes cannot become a file any more: they stay on disk, and whoever has it open is told.
    /// - Returns: where they are.
    func strand(_ error: VFSError) -> String? {
        let (staged, stream) = state.withLock { state in
            state.isDetached = true
            state.failure = error
            return (state.staged, state.stream.take())
        }
        stream?.abandon()
        staged?.keep()
        return staged?.place
    }

    /// The stored version that the file is, byte for byte; nil when it has changes.
    func origin() -> ObjectInfo? {
        state.withLock { state in
            if let (base, generation) = state.preserved, generation == state.generation { return base }
            return state.image == nil && state.base?.size == state.size ? state.base : nil
        }
    }

    /// Drops the changes that led to `generation`, if there have been none since: the file is again what `origin()` was.
    /// - Returns: false when the file has been changed again.
    func goBack(to origin: ObjectInfo, from generation: UInt64) -> Bool {
        let result: (StreamingUpload?, [VersionReader.Waiter])? = state.withLock { state in
            guard state.generation == generation else { return nil }
            state.image = nil
            state.staged = nil
            state.size = origin.size
            state.generation += 1
            let stream = state.stream.take()
            return (stream, state.setBase(origin))
        }
        guard let (stream, waiters) = result else { return false }
        stream?.abandon()
        redirect(waiters)
        return true
    }

    // MARK: Another base

    /// The version that the file is based on is under another key, or has another name, with the same bytes.
    func relocate(from old: ObjectInfo, to new: ObjectInfo) {
        let waiters: [VersionReader.Waiter] = state.withLock { state in
            if let (base, generation) = state.preserved, base.isSameVersion(as: old) {
                state.preserved = (new, generation)
            }
            guard let base = state.base, base.isSameVersion(as: old) else { return [] }
            return state.setBase(new)
        }
        redirect(waiters)
    }

    /// The file goes on with a version that somebody else has stored, if nobody can have seen a byte of the one before.
    /// - Parameter tell: tells the tree and the kernel, before anybody gets a byte.
    func switchUnread(to info: ObjectInfo, tell: () -> Void) -> Bool {
        guard state.withLock({ $0.switchUnread(to: info) }) else { return false }
        tell()
        for call in state.withLock({ $0.kernelIsTold() }) { assembleLater(call) }
        return true
    }

    /// The kernel was told another size of the file, and is to be told before it reads.
    func kernelIsBehind(tell: () -> Void) {
        guard state.withLock({ $0.kernelIsBehind() }) else { return }
        tell()
        for call in state.withLock({ $0.kernelIsTold() }) { assembleLater(call) }
    }

    /// All bytes are in `staged` from now on. False when the file has changed.
    func replaceAll(with staged: StagedFile, _ before: ContentSnapshot) -> Bool {
        // Not beside a change, which still has to do with the file that was staged before.
        changes.withLock { _ in goOn(with: staged, before) }
    }

    private func goOn(with staged: StagedFile, _ before: ContentSnapshot) -> Bool {
        let result: (StreamingUpload?, [VersionReader.Waiter])? = state.withLock { state in
            // Another base counts as no change of the bytes.
            guard state.generation == before.generation, state.base?.etag == before.base?.etag,
                state.base?.key == before.base?.key
            else { return nil }
            var image = FileImage(size: before.size, baseSize: 0)
            image.write(Extent(0, before.size))
            state.image = image
            (state.staged, state.bytesVersion) = (staged, staged.version)
            if before.image.isWholeBase, let base = before.base { state.preserved = (base, before.generation) }
            let stream = state.stream.take()
            return (stream, state.setBase(nil))
        }
        guard let (stream, waiters) = result else { return false }
        stream?.abandon()
        redirect(waiters)
        return true
    }

    // MARK: Reading

    /// Answers with the bytes of `extent`, as far as the file has them.
    func read(_ wanted: Extent, handle: OpenFile, reply: consuming Reply<ReadSlices>) {
        respond(ReadCall(wanted: wanted, isDirect: handle.isDirect, reply: ReplyBox(reply)), handle, asksDisk: true)
    }

    /// - Parameter asksDisk: what the local disk keeps of the version has not been looked at for it yet.
    private func respond(_ call: ReadCall, _ handle: OpenFile, asksDisk: Bool) {
        let box = call.reply
        var isPrepared = false
        var plan: Prefetcher.Plan?
        while true {
            let view = state.withLock { state in
                if let delay = state.delays(call) { return delay }
                return state.view(call.wanted, context.recent) { base in
                    let reader = hooks.ahead(base) ?? VersionReader(base: base, context: context)
                    return reader.reading { [weak self] in self?.lost($0, $1, $2) }
                }
            }
            switch view {
            case .empty: return box.send(ReadSlices([]))
            case .held: return
            case .refused: return box.fail(.isShorter)
            case .recent(let copy, let extent):
                return withExtendedLifetime(copy) {
                    box.send(ReadSlices([UnsafeRawBufferPointer(copy.bytes(extent))]))
                }
            case .staged(let pieces, let extent, let staged): return readStaged(pieces, extent, staged, call)
            case .mixed: return assembleLater(call)
            case .stored(let reader, let extent, let limit, let size):
                let otherwise = { @Sendable in self.respond(call, handle, asksDisk: false) }
                if asksDisk, reader.readKept(extent, box, otherwise: otherwise) { return }
                let planned = plan ?? handle.plan(extent, size: size)
                plan = planned
                let answer = reader.read(extent, limit: limit, planned, handle, call) {
                    if isPrepared { return }
                    isPrepared = true
                    box.onInterrupt { [weak self] in self?.giveUp(box) }
                }
                switch answer {
                case .taken: return
                case .noMemory: return assembleLater(call)
                case .retired: continue
                }
            }
        }
    }

    private func giveUp(_ box: ReplyBox<ReadSlices>) {
        state.withLock { $0.reader }?.giveUp(box)
        box.fail(.cancelled)
    }

    /// The handle is closed.
    func closed(_ handle: HandleID) { state.withLock { $0.reader }?.closed(handle) }

    private func readStaged(
        _ pieces: [FileImage.Piece], _ extent: Extent, _ staged: StagedFile?, _ call: ReadCall
    ) {
        guard let buffer = context.memory.take(extent.count) else { return assembleLater(call) }
        do throws(VFSError) {
            try ImageReader.fill(buffer, extent, pieces, staged)
            call.reply.send(ReadSlices([UnsafeRawBufferPointer(buffer.bytes)]))
        } catch {
            assembleLater(call)  // Cut short in this moment, perhaps.
        }
    }

    /// Answers from what the file is now.
    private func redirect(_ waiters: [VersionReader.Waiter]) { for waiter in waiters { assembleLater(waiter.call) } }

    private func lost(_ reader: VersionReader, _ waiters: [VersionReader.Waiter], _ error: VFSError?) {
        guard let error else { return redirect(waiters) }
        guard error.code == .stale || error.code == .notFound else {
            for waiter in waiters { waiter.reply.fail(error) }
            return
        }
        context.begin {
            _ = await self.hasAnother(than: reader.base)
            self.redirect(waiters)
        }
    }

    /// The bytes of `base` cannot be had: waits for what this mount may be doing to it, then asks the store.
    /// - Returns: whether the file goes on with another version.
    private func hasAnother(than base: ObjectInfo) async -> Bool {
        func isOther() -> Bool { state.withLock { $0.base.map { !$0.isSameVersion(as: base) } ?? true } }
        if isOther() { return true }
        await hooks.whenFree(inode)
        if isOther() { return true }
        return await hooks.gone(inode, base) || isOther()
    }

    /// How often a read looks where its bytes are by now.
    private static let mostLooks = 8

    private func assembleLater(_ call: ReadCall) {
        let box = call.reply
        context.begin {
            let reader = self.context.imageReader()
            var looks = 1
            while true {
                let (delay, extent, pieces, base, staged, generation, switches) = self.state.withLock { state in
                    let delay = state.delays(call)
                    let extent = call.wanted.clipped(to: state.size)
                    if extent.isEmpty, delay == nil { state.isSeen = true }
                    let pieces = state.current.pieces(in: extent)
                    return (delay, extent, pieces, state.base, state.staged, state.generation, state.switches)
                }
                if case .held? = delay { return }
                if delay != nil { return box.fail(.isShorter) }
                if extent.isEmpty { return box.send(ReadSlices([])) }
                do throws(VFSError) {
                    let buffer = try await reader.read(pieces, extent, base: base, staged: staged)
                    guard self.noteSeen(unlessSwitchedSince: switches) else { continue }
                    return box.send(ReadSlices([UnsafeRawBufferPointer(buffer.bytes)]))
                } catch {
                    looks += 1
                    guard error.code == .stale || error.code == .io, looks <= Self.mostLooks else {
                        return box.fail(error)
                    }
                    // Committed, renamed or cut meanwhile: what the file is now has the bytes elsewhere.
                    let hasChanged = self.state.withLock { state in
                        state.generation != generation || state.staged !== staged || state.base?.etag != base?.etag
                            || state.base?.key != base?.key
                    }
                    if hasChanged { continue }
                    guard error.code == .stale, let base, await self.hasAnother(than: base) else {
                        return box.fail(error)
                    }
                }
            }
        }
    }
}

import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Synchronization

/// The bytes of one file while it is open or holds what the store does not have: the stored version they began as (the
/// base), local changes over it, and what is being read ahead.
///
/// Its lock is below the namespace lock and above those of a fetch and of the buffer pool.
final class FileContent: Sendable {
    struct State {
        /// Where unchanged bytes come from. Its key may be another file's: a copy that has not been made yet.
        var base: ObjectInfo?
        /// Local changes; nil when the file is its base.
        var image: FileImage?
        var staged: StagedFile?
        var size: Int
        /// Counts local changes, of bytes and of attributes.
        var generation: UInt64 = 0
        /// The generation that the store has.
        var committed: UInt64 = 0
        var commit: Task<Result<Void, VFSError>, Never>?
        /// Why the last commit failed, until one succeeds.
        var commitError: VFSError?
        var failedSince: Timestamp?
        /// An upload that began while the file was still being written.
        var stream: StreamingUpload?
        var unfinished: UnfinishedUpload?
        var fetches: [Fetch] = []
        var waiters: [ReadWaiter] = []
        /// A read that has just failed.
        var failure: ReadFailure?
        /// Unlinked or replaced: never committed again.
        var isDetached = false
    }

    /// The kernel asks once more, page by page, for what a read ahead of it did not get: it has its answer.
    struct ReadFailure: Sendable {
        let extent: Extent
        let error: VFSError
        let until: UInt64

        /// Nanoseconds for which it answers for others.
        static let life: UInt64 = 250_000_000
    }

    struct ReadWaiter: Sendable {
        let extent: Extent
        let reply: ReplyBox<ReadSlices>
    }

    let provider: any ObjectProvider
    let pool: MemoryShare
    let state: Mutex<State>

    init(base: ObjectInfo?, size: Int, provider: any ObjectProvider, pool: MemoryShare) {
        self.provider = provider
        self.pool = pool
        state = Mutex(State(base: base, size: size))
    }

    var isDirty: Bool { state.withLock { $0.generation != $0.committed && !$0.isDetached } }

    var isUnlinked: Bool { state.withLock { $0.isDetached } }

    /// Local changes begin on an image of the base.
    static func beginChange(_ state: inout State) -> FileImage {
        state.image ?? FileImage(size: state.size, baseSize: state.base?.size ?? 0)
    }

    // MARK: Changes

    /// Stages `bytes` at `offset`, in memory as long as they are few unless `onDisk`.
    /// - Returns: the size of the file afterwards.
    /// - Throws: `noSpace`, `io`; nothing has changed then.
    func write(
        _ bytes: UnsafeRawBufferPointer, at offset: Int, staging: StagingArea, label: String, onDisk: Bool = false
    ) throws(VFSError) -> Int {
        let extent = Extent(offset: offset, count: bytes.count)
        while true {
            let staged = try stagedFile(staging, label, onDisk ? nil : pool)
            try staged.write(bytes, at: offset)
            // Published only now that the bytes are there; a commit that ended meanwhile has taken the file away.
            let result: (size: Int, stream: StreamingUpload?)? = state.withLock { state in
                guard state.staged === staged else { return nil }
                var image = FileContent.beginChange(&state)
                state.image = nil
                image.write(extent)
                state.size = image.size
                state.image = image
                state.generation += 1
                return (image.size, state.stream)
            }
            guard let result else { continue }
            result.stream?.wrote(extent, size: result.size)
            return result.size
        }
    }

    private func stagedFile(
        _ staging: StagingArea, _ label: String, _ memory: MemoryShare?
    ) throws(VFSError) -> StagedFile {
        if let staged = state.withLock({ $0.staged }) { return staged }
        let made = try staging.makeFile(label: label, memory: memory)
        return state.withLock { state in
            if let staged = state.staged { return staged }
            state.staged = made
            return made
        }
    }

    /// Cuts or extends.
    func truncate(to size: Int) throws(VFSError) {
        let (staged, stream, reads) = state.withLock { state in
            var image = FileContent.beginChange(&state)
            state.image = nil
            var reads = Reads()
            if size == 0 {
                image = FileImage(size: 0, baseSize: 0)
                state.base = nil
                reads = FileContent.takeReads(&state)
            } else {
                image.truncate(to: size)
            }
            state.image = image
            state.size = size
            state.generation += 1
            let stream = state.stream
            state.stream = nil
            return (state.staged, stream, reads)
        }
        stream?.abandon()
        redirect(reads)
        try staged?.truncate(to: size)
    }

    /// Makes zeros of `extent`, as far as the file reaches; with `extend`, up to its end.
    func zero(_ extent: Extent, extend: Bool) throws(VFSError) -> Int {
        let (staged, stream, size) = state.withLock { state in
            var image = FileContent.beginChange(&state)
            state.image = nil
            if extend { image.extend(to: extent.upperBound) }
            image.zero(extent)
            state.image = image
            state.size = image.size
            state.generation += 1
            let stream = state.stream
            state.stream = nil
            return (state.staged, stream, image.size)
        }
        stream?.abandon()
        try staged?.punch(extent)
        return size
    }

    /// Lets the file grow with zeros up to `size`.
    func extend(to size: Int) -> Int {
        let (size, stream): (Int, StreamingUpload?) = state.withLock { state in
            guard size > state.size else { return (state.size, nil) }
            var image = FileContent.beginChange(&state)
            state.image = nil
            image.extend(to: size)
            state.image = image
            state.size = size
            state.generation += 1
            let stream = state.stream
            state.stream = nil
            return (size, stream)
        }
        stream?.abandon()
        return size
    }

    /// Takes the first `count` bytes of another stored object as this file's bytes, without moving them.
    /// - Returns: false when what is here already is in the way.
    func adopt(_ source: ObjectInfo, offset: Int, count: Int) -> Bool {
        let reads: Reads? = state.withLock { state in
            guard state.size == offset, state.stream == nil else { return nil }
            if offset > 0 {
                guard let base = state.base, base.isSameVersion(as: source), let image = state.image,
                    image.dirty.isEmpty, image.zeros.isEmpty, image.baseLimit == offset
                else { return nil }
            }
            state.base = source
            state.staged = nil
            state.size = offset + count
            var image = FileImage(size: source.size, baseSize: source.size)
            image.truncate(to: state.size)
            state.image = image
            state.generation += 1
            return FileContent.takeReads(&state)
        }
        guard let reads else { return false }
        redirect(reads)
        return true
    }

    func touchAttributes() { state.withLock { $0.generation += 1 } }

    /// From now on the file has no name: nothing of it is committed.
    func detach() {
        let (stream, unfinished) = state.withLock { state in
            state.isDetached = true
            let stream = state.stream
            state.stream = nil
            return (stream, state.unfinished.take())
        }
        stream?.abandon()
        guard let unfinished else { return }
        let provider = provider
        Task(executorPreference: provider.executor) { try? await provider.abortUpload(unfinished.upload) }
    }

    // MARK: Holes

    func data(from offset: Int) -> Int? {
        state.withLock { state in
            if let image = state.image { return image.data(from: offset) }
            return offset < state.size ? offset : nil
        }
    }

    func hole(from offset: Int) -> Int? {
        state.withLock { state in
            if let image = state.image { return image.hole(from: offset) }
            return offset < state.size ? state.size : nil
        }
    }
}

extension FileContent {
    var runningCommit: Task<Result<Void, VFSError>, Never>? { state.withLock { $0.commit } }

    /// The store has `stored`, made of what this file was at `generation` over `base`.
    /// - Returns: whether nothing has changed since; and what is to be redirected.
    func committed(
        _ generation: UInt64, over base: ObjectInfo?, as stored: ObjectInfo, attributesOnly: Bool
    ) -> (unchanged: Bool, Reads) {
        state.withLock { state in
            state.committed = generation
            // The file has another base by now, to which what was stored means nothing.
            guard state.base?.etag == base?.etag, state.base?.key == base?.key else { return (false, Reads()) }
            let unchanged = state.generation == generation
            if unchanged {
                state.image = nil
                state.staged = nil
            } else if let image = state.image {
                state.image = image.rebased(onto: stored.size)
            }
            state.base = stored
            return (unchanged, attributesOnly ? Reads() : FileContent.takeReads(&state))
        }
    }

    /// All bytes are in `staged` from now on. False when the file is another than at `generation`.
    func replaceAll(with staged: StagedFile, size: Int, generation: UInt64) -> Bool {
        let reads: Reads? = state.withLock { state in
            guard state.generation == generation else { return nil }
            var image = FileImage(size: size, baseSize: 0)
            image.write(Extent(0, size))
            state.image = image
            state.staged = staged
            state.base = nil
            return FileContent.takeReads(&state)
        }
        guard let reads else { return false }
        redirect(reads)
        return true
    }
}

extension ObjectInfo {
    func isSameVersion(as other: ObjectInfo) -> Bool { key == other.key && etag == other.etag }
}

import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS

/// What the content of one file is, and how it changes. A value: `FileContent` holds it under its lock, and does the I/O.
struct ContentState {
    /// Where unchanged bytes come from.
    var base: ObjectInfo?
    /// Of the version that the store has under the file's name, also when none of its bytes is wanted any more.
    var storedSize: Int
    var reader: VersionReader?
    /// Local changes; nil when the file is its base.
    var image: FileImage?
    var staged: StagedFile?
    var size: Int
    /// Of the staged bytes when a change of them was last published; nil when that is not known.
    var bytesVersion: Int?
    /// Counts changes of the bytes.
    var generation: UInt64 = 0
    /// An upload that began while the file was still being written.
    var stream: StreamingUpload?
    /// Unlinked or replaced: never committed again.
    var isDetached = false
    /// Why nothing can be written any more: what the unchanged bytes were to come from is gone.
    var failure: VFSError?
    /// Somebody has got bytes of this file, by way of the kernel's pages or of an earlier base, or has written some.
    var isSeen = false
    /// How often the file went on with a version of somebody else.
    var switches = 0
    /// The kernel may believe in a longer file.
    var lag: KernelLag?
    /// Who waits for the kernel to be told.
    var held: [ReadCall] = []
    /// Of the base.
    var holes = Holes()
    /// The version whose bytes are all staged, for the case that its object goes, and the generation for which that is so.
    var preserved: (base: ObjectInfo, generation: UInt64)?

    /// Local changes begin on an image of the base.
    var current: FileImage { image ?? FileImage(size: size, baseSize: base?.size ?? 0) }

    @discardableResult
    mutating func publish(_ image: FileImage) -> ContentChange {
        size = image.size
        self.image = image
        isSeen = true
        generation += 1
        return ContentChange(size: image.size, generation: generation)
    }

    var isStreamable: Bool {
        guard stream == nil, !isDetached, !(staged?.hasExcess ?? false), let image, base == nil || image.baseLimit == 0
        else { return false }
        return image.dirty.first(at: 0) == Extent(0, image.size)
    }

    /// - Returns: who waits for bytes of the base that goes; to be redirected outside the lock.
    mutating func setBase(_ base: ObjectInfo?) -> [VersionReader.Waiter] {
        if let base, let old = self.base, base.isSameVersion(as: old) {
            self.base = base
            return []
        }
        self.base = base
        if let base { storedSize = base.size }
        guard let (waiters, hasDelivered) = reader.take()?.retire() else { return [] }
        if hasDelivered { isSeen = true }
        return waiters
    }

    /// Nothing has changed here, and something is there that could be.
    var isBase: Bool { image == nil && !isDetached && failure == nil && size > 0 && base?.size == size }

    var snapshot: ContentSnapshot {
        ContentSnapshot(
            size: size, image: current, base: base, staged: staged, stream: stream,
            stagedVersion: staged?.memoryVersion, bytesVersion: bytesVersion, generation: generation,
            isStreamed: stream != nil)
    }

    // MARK: What the kernel believes

    /// The file goes on with `info`, if nobody can have seen a byte of the version before. Until `kernelIsTold`, reads wait.
    mutating func switchUnread(to info: ObjectInfo) -> Bool {
        guard image == nil, !isSeen, !isDetached else { return false }
        if let reader {
            guard let waiters = reader.retireUnread() else { return false }
            held += waiters.map(\.call)
        }
        // Of a longer one the kernel asks again before it ends a read at the size that it knows.
        lag = KernelLag(believesInMore: info.size < size, before: lag)
        reader = nil
        base = info
        storedSize = info.size
        size = info.size
        holes = Holes()
        switches += 1
        return true
    }

    /// The kernel was told another size of the file when it was opened. Until `kernelIsTold`, reads wait.
    /// - Returns: false when it has been told since.
    mutating func kernelIsBehind() -> Bool {
        guard lag == nil else { return false }
        lag = KernelLag(believesInMore: true, before: nil)
        return true
    }

    /// What the kernel asks for after this, it asks for in the knowledge that the file has changed.
    /// - Returns: who has waited.
    mutating func kernelIsTold() -> [ReadCall] {
        lag?.isTold()
        guard let lag, !lag.isBeingTold else { return [] }
        if !lag.believesInMore { self.lag = nil }
        defer { held = [] }
        return held
    }

    /// Whether a read gets no bytes now: it waits, or is to be refused.
    mutating func delays(_ call: ReadCall) -> View? {
        guard let lag else { return nil }
        if lag.isBeingTold {
            held.append(call)
            return .held
        }
        // Past the page cache nothing is filled up.
        if call.isDirect { return nil }
        return self.lag?.refuses(call.wanted, size: size) ?? false ? .refused : nil
    }

    // MARK: Reading

    enum View: Sendable {
        case empty
        /// Answered later.
        case held
        case refused
        /// Bytes of the base, of which the extent is wanted.
        case recent(RecentBytes.Copy, Extent)
        /// The bytes are staged or zeros.
        case staged([FileImage.Piece], Extent, StagedFile?)
        case stored(VersionReader, Extent, limit: Int, size: Int)
        /// Both.
        case mixed(Extent)
    }

    /// Where the bytes of a read are.
    mutating func view(_ wanted: Extent, _ recent: RecentBytes, _ makeReader: (ObjectInfo) -> VersionReader) -> View {
        let extent = wanted.clipped(to: size)
        if extent.isEmpty {
            isSeen = true
            return .empty
        }
        if let image {
            let pieces = image.pieces(in: extent)
            let stored = pieces.count { if case .base = $0 { true } else { false } }
            if stored == 0 { return .staged(pieces, extent, staged) }
            if stored < pieces.count { return .mixed(extent) }
        }
        guard let base else { return .mixed(extent) }
        if image == nil, base.size == size, let copy = recent.find(base), copy.holds(extent) {
            isSeen = true
            return .recent(copy, extent)
        }
        let reader = self.reader ?? makeReader(base)
        self.reader = reader
        // What is read ahead goes no further than the base: the image's own bytes are on disk.
        return .stored(reader, extent, limit: image?.baseLimit ?? base.size, size: size)
    }
}

import CloudMountPlatform
public import CloudMountStaging
public import CloudMountVFS
import Synchronization

/// One mount's part of the version store.
public final class MountVersions: Sendable {
    private let store: VersionStore
    private let folder: String
    private let lane: String
    /// Bytes that wait to be written.
    private let waiting = Atomic(0)

    /// - Parameters:
    ///   - mount: its name.
    ///   - bucket: what is mounted, so that a name that stands for another bucket later finds nothing of this one.
    ///   - limit: bytes; 0 for no bound but the store's.
    public init(_ store: VersionStore, mount: String, bucket: String, limit: Int) {
        self.store = store
        // Not that of what programs wait for.
        lane = mount + "/versions"
        folder = NamesFolder.name(mount: mount, bucket: bucket)
        store.join(folder, limit: limit)
    }

    deinit { store.leave(folder) }

    /// Bytes of the disk.
    public var used: Int { store.used(by: folder) }

    public func limit(to limit: Int) { store.limit(folder, to: limit) }

    /// What there is of a version, and where more of it goes.
    public func file(_ info: ObjectInfo) -> VersionFile { file(id(info), size: info.size) }

    /// - Parameter size: of the version, in bytes.
    public func file(_ id: VersionID, size: Int) -> VersionFile { store.file(id, size: size) }

    public func id(_ info: ObjectInfo) -> VersionID { VersionID(info, in: folder) }

    /// Bytes that wait to be written to the disk.
    public var pending: Int { waiting.load(ordering: .relaxed) }

    /// Writes bytes of a version to the disk, behind the caller.
    /// - Parameters:
    ///   - most: bytes that may wait; beyond, these are not kept.
    ///   - bytes: called once, later; they stay valid until `end`.
    ///   - end: called once, on the pool for blocking work, or at once when they are not kept.
    public func fill(
        _ file: VersionFile, _ extent: Extent, most: Int, _ bytes: @escaping @Sendable () -> UnsafeRawBufferPointer,
        end: @escaping @Sendable () -> Void
    ) {
        let count = extent.count
        guard waiting.add(count, ordering: .relaxed).newValue <= most else {
            waiting.subtract(count, ordering: .relaxed)
            return end()
        }
        file.fill(extent, lane: lane, bytes) { [weak self] in
            self?.waiting.subtract(count, ordering: .relaxed)
            end()
        }
    }

    /// `staged` holds just the bytes of `info`: when nobody needs it any more it becomes what is kept of that version.
    /// - Parameter version: of the staged file, as it was when it was stored.
    public func adopt(_ staged: StagedFile, _ version: Int, as info: ObjectInfo) {
        staged.leave(version) { self.take($0, as: info) }
    }

    private func take(_ remains: StagedFile.Remains, as info: ObjectInfo) {
        let file = file(info)
        switch remains {
        case .file(let path): file.adopt(path, lane: lane)
        case .memory(let buffer, let count):
            guard count == info.size else { return }
            file.write(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<count]))
        }
    }

    /// The bytes of each are those of another version by now.
    public func relocate(_ moves: [(old: ObjectInfo, new: ObjectInfo)]) {
        store.submit(lane) {
            for (old, new) in moves where old.size == new.size {
                self.store.relocate(self.id(old), to: self.id(new), size: old.size)
            }
        }
    }

    /// Nobody wants the version any more.
    public func discard(_ info: ObjectInfo) {
        let file = store.file(id(info), size: info.size, isKept: false)
        store.submit(lane) { file.remove() }
    }
}

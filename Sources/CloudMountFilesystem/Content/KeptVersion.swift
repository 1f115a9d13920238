import CloudMountCache
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS

/// What the local disk keeps of one version that is being read.
struct KeptVersion: Sendable {
    private let versions: MountVersions
    private let id: VersionID
    private let size: Int

    init(_ versions: MountVersions, _ base: ObjectInfo) {
        (self.versions, size) = (versions, base.size)
        id = versions.id(base)
    }

    /// Looked up at each use: the store keeps as many open as there may be.
    func file() -> VersionFile { versions.file(id, size: size) }

    /// What of `extents` is not there.
    func missing(_ extents: [Extent]) -> [Extent] {
        let file = file()
        return extents.flatMap { file.missing(in: $0) }
    }

    /// The disk is behind: what nobody waits for yet is better not fetched now.
    func isBehind(_ context: MountContext) -> Bool { versions.pending > context.memory.limit / 4 }

    /// Keeps what has been fetched, unless the disk is so far behind that it must have stopped.
    func keep(_ fetch: Fetch, _ context: MountContext) {
        versions.fill(file(), fetch.extent, most: context.memory.limit / 4 * 3) {
            fetch.slice(fetch.extent)
        } end: {
            withExtendedLifetime(fetch) {}
        }
    }
}

extension MountVersions {
    /// The store has `stored`, made of `snapshot`. What was staged becomes what is kept of it, where it is all of it.
    /// - Parameter staged: the file, if it is not needed any more.
    func note(_ snapshot: ContentSnapshot, _ staged: StagedFile?, as stored: ObjectInfo) {
        if let base = snapshot.base, base.key == stored.key, base.etag != stored.etag { discard(base) }
        guard let staged, staged === snapshot.staged, let version = snapshot.bytesVersion, stored.size > 0,
            stored.size == snapshot.size, snapshot.image.dirty.first(at: 0) == Extent(0, snapshot.size)
        else { return }
        adopt(staged, version, as: stored)
    }
}

import CloudMountVFS
import Synchronization

/// What the bytes of a file need to know of the rest of the mount.
struct ContentHooks: Sendable {
    /// Returns when nothing that this mount does works with the file's object.
    var whenFree: @Sendable (InodeID) async -> Void
    /// The version that the file reads is not in the store any more, and not by this mount's doing.
    /// - Returns: whether the file goes on with another version.
    var gone: @Sendable (InodeID, ObjectInfo) async -> Bool
    /// Bytes are about to be taken away that a record of the journal may name. Blocks.
    /// - Returns: false when there is no record that does without them.
    var cuts: @Sendable (InodeID) throws(VFSError) -> Bool
    /// A reader that has the bytes of a version already, or will soon.
    var ahead: @Sendable (ObjectInfo) -> VersionReader?
}

/// What contents ask of rooms that are made after the one that makes them.
final class LateHooks: Sendable {
    private let rooms = Mutex<(tree: Weak<Tree>, revalidator: Weak<Revalidator>, commits: Weak<Commits>)?>(nil)
    private let filesAhead = Mutex(Weak<FilesAhead>())

    private struct Weak<Room: AnyObject & Sendable>: Sendable { weak var room: Room? }

    func set(_ tree: Tree, _ revalidator: Revalidator, _ commits: Commits, _ filesAhead: FilesAhead) {
        rooms.withLock { $0 = (Weak(room: tree), Weak(room: revalidator), Weak(room: commits)) }
        self.filesAhead.withLock { $0.room = filesAhead }
    }

    func ahead(_ base: ObjectInfo) -> VersionReader? { filesAhead.withLock { $0.room }?.take(base) }

    func cuts(_ inode: InodeID) throws(VFSError) -> Bool {
        try rooms.withLock { $0?.commits.room }?.cuts(inode) ?? false
    }

    func whenFree(_ inode: InodeID) async { await rooms.withLock { $0?.tree.room }?.whenFree(inode) }

    func gone(_ inode: InodeID, _ base: ObjectInfo) async -> Bool {
        let rooms = rooms.withLock { ($0?.revalidator.room, $0?.commits.room) }
        if await rooms.1?.isBaseOurs(inode, base) ?? false { return true }
        return await rooms.0?.versionIsGone(inode, base) ?? false
    }
}

public import CloudMountVFS

/// One mounted file system as the kernel asks it: every operation of the low-level FUSE protocol, without FUSE.
///
/// Each call returns at once (it answers from memory or local disk, or hands the reply to a task that waits for the
/// network) and may be made from any thread. Raw pointers are valid during the call only. Inode 1 is the root.
public protocol FileOperations: Sendable {
    func lookup(parent: InodeID, name: FileName, reply: consuming Reply<Entry>)
    func forget(_ inode: InodeID, count: UInt64)
    /// An entry that was made for the kernel has not reached it: it has not been looked up, and its size is not known.
    func untold(_ inode: InodeID)
    func getattr(_ inode: InodeID, handle: HandleID?, reply: consuming Reply<AttributeReply>)
    func setattr(
        _ inode: InodeID, handle: HandleID?, changes: AttributeChanges, caller: Caller,
        reply: consuming Reply<AttributeReply>)
    func access(_ inode: InodeID, mask: Int32, caller: Caller, reply: consuming Reply<Void>)
    func readlink(_ inode: InodeID, reply: consuming Reply<String>)
    /// `mode` holds type and permissions as `mknod(2)` has them, before the umask.
    func mknod(
        parent: InodeID, name: FileName, mode: UInt32, device: UInt32, caller: Caller, reply: consuming Reply<Entry>)
    func mkdir(parent: InodeID, name: FileName, mode: UInt32, caller: Caller, reply: consuming Reply<Entry>)
    func unlink(parent: InodeID, name: FileName, reply: consuming Reply<Void>)
    func rmdir(parent: InodeID, name: FileName, reply: consuming Reply<Void>)
    func symlink(target: String, parent: InodeID, name: FileName, caller: Caller, reply: consuming Reply<Entry>)
    func rename(
        parent: InodeID, name: FileName, newParent: InodeID, newName: FileName, flags: RenameFlags,
        reply: consuming Reply<Void>)

    /// `flags` are those of `open(2)`.
    func open(_ inode: InodeID, flags: Int32, caller: Caller, reply: consuming Reply<OpenReply>)
    func create(
        parent: InodeID, name: FileName, mode: UInt32, flags: Int32, caller: Caller, reply: consuming Reply<CreateReply>
    )
    func read(_ inode: InodeID, handle: HandleID, offset: Int, count: Int, reply: consuming Reply<ReadSlices>)
    /// `clearSetID`: the kernel asks for set-user-id and set-group-id to be dropped (FUSE_HANDLE_KILLPRIV_V2).
    func write(
        _ inode: InodeID, handle: HandleID, offset: Int, bytes: UnsafeRawBufferPointer, clearSetID: Bool,
        reply: consuming Reply<Int>)
    func flush(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>)
    func release(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>)
    func fsync(_ inode: InodeID, handle: HandleID, dataOnly: Bool, reply: consuming Reply<Void>)
    /// `mode` is that of `fallocate(2)`.
    func fallocate(
        _ inode: InodeID, handle: HandleID, mode: Int32, offset: Int, count: Int, reply: consuming Reply<Void>)
    /// `whence` is SEEK_DATA or SEEK_HOLE.
    func lseek(_ inode: InodeID, handle: HandleID, offset: Int, whence: Int32, reply: consuming Reply<Int>)
    func copyFileRange(
        from: InodeID, fromHandle: HandleID, fromOffset: Int, to: InodeID, toHandle: HandleID, toOffset: Int,
        count: Int,
        reply: consuming Reply<Int>)

    func opendir(_ inode: InodeID, reply: consuming Reply<OpenReply>)
    /// Gives entries from `offset` on (0, or the `nextOffset` of an entry given before) to `packer` until it is full or
    /// there are no more, then answers. `plus`: each entry but `.` and `..` that is given with attributes counts as a lookup.
    func readdir(
        _ inode: InodeID, handle: HandleID, offset: Int, plus: Bool, packer: any DirectoryPacker,
        reply: consuming Reply<Void>)
    func releasedir(_ inode: InodeID, handle: HandleID, reply: consuming Reply<Void>)
    func fsyncdir(_ inode: InodeID, handle: HandleID, dataOnly: Bool, reply: consuming Reply<Void>)
    func statfs(reply: consuming Reply<FileSystemStatistics>)

    func setxattr(_ inode: InodeID, name: String, value: [UInt8], flags: Int32, reply: consuming Reply<Void>)
    func getxattr(_ inode: InodeID, name: String, reply: consuming Reply<[UInt8]>)
    func listxattr(_ inode: InodeID, reply: consuming Reply<[String]>)
    func removexattr(_ inode: InodeID, name: String, reply: consuming Reply<Void>)
}

/// Takes the entries of one `readdir` answer.
public protocol DirectoryPacker: AnyObject, Sendable {
    /// False when there is no room for it: it was not taken, and no more should be offered.
    func add(_ entry: DirectoryEntry) -> Bool
}

/// What the file system tells the kernel on its own account. Never called with a lock held; returns at once.
public protocol KernelNotifier: Sendable {
    func invalidateEntry(parent: InodeID, name: FileName)
    /// Drops cached attributes and, when `extent` is given, the cached pages in it.
    func invalidateInode(_ inode: InodeID, extent: Extent?)
    /// The kernel asks again when the name is next used; what is open, or somebody's working directory, stays.
    func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool)
    /// Drops cached attributes before it returns, so that an answer that follows is not taken together with them.
    func expireAttributes(_ inode: InodeID)
}

extension FileOperations {
    public func untold(_ inode: InodeID) { forget(inode, count: 1) }
}

package import CloudMountFilesystem
package import CloudMountVFS
import Synchronization

/// What a `readdir` answer brought.
package struct ListedEntry: Sendable {
    package var name: String
    package var inode: InodeID
    package var kind: FileKind?
    package var next: Int
    package var attributes: FileAttributes?
}

/// Every operation as a call that waits for its reply.
extension FileOperations {
    /// - Parameter start: makes the call with the reply that it is given.
    package func ask<Value, Result: Sendable>(
        _ convert: @escaping @Sendable (Value) -> Result, _ start: (consuming Reply<Value>) -> Void
    ) async throws(VFSError) -> Result {
        let result: Swift.Result<Result, VFSError> = await withCheckedContinuation { continuation in
            let once = Watchdog.shared.watch(continuation)
            let interrupt = Interrupt.current
            start(Reply(onInterrupt: interrupt.map { $0.register }) { once($0.map(convert)) })
        }
        return try result.get()
    }

    package func ask<Value: Sendable>(
        _ start: (consuming Reply<Value>) -> Void
    ) async throws(VFSError) -> Value {
        try await ask({ $0 }, start)
    }

    /// Nil: the name is known to be absent.
    package func lookup(_ parent: InodeID, _ name: String) async throws(VFSError) -> FileAttributes? {
        try await entry(parent, name).attributes
    }

    package func entry(_ parent: InodeID, _ name: String) async throws(VFSError) -> Entry {
        let name = try FileName(validating: name.utf8)
        return try await ask { lookup(parent: parent, name: name, reply: $0) }
    }

    package func getattr(_ inode: InodeID) async throws(VFSError) -> FileAttributes {
        let reply: AttributeReply = try await ask { getattr(inode, handle: nil, reply: $0) }
        return reply.attributes
    }

    @discardableResult
    package func setattr(_ inode: InodeID, _ change: (inout AttributeChanges) -> Void) async throws(VFSError)
        -> FileAttributes
    {
        var changes = AttributeChanges()
        change(&changes)
        let reply: AttributeReply = try await ask {
            setattr(inode, handle: nil, changes: changes, caller: Mount.caller, reply: $0)
        }
        return reply.attributes
    }

    @discardableResult
    package func create(
        _ parent: InodeID, _ name: String, mode: UInt32 = 0o644, flags: Int32 = 2
    ) async throws(VFSError) -> (inode: InodeID, handle: HandleID) {
        let name = try FileName(validating: name.utf8)
        let reply: CreateReply = try await ask {
            create(parent: parent, name: name, mode: mode, flags: flags, caller: Mount.caller, reply: $0)
        }
        return (reply.entry.attributes?.inode ?? 0, reply.open.handle)
    }

    package func open(_ inode: InodeID, flags: Int32 = 0) async throws(VFSError) -> HandleID {
        let reply: OpenReply = try await ask { open(inode, flags: flags, caller: Mount.caller, reply: $0) }
        return reply.handle
    }

    package func read(_ inode: InodeID, _ handle: HandleID, _ offset: Int, _ count: Int) async throws(VFSError)
        -> [UInt8]
    {
        try await ask({ (slices: ReadSlices) in slices.slices.flatMap { Array($0) } }) {
            read(inode, handle: handle, offset: offset, count: count, reply: $0)
        }
    }

    @discardableResult
    package func write(_ inode: InodeID, _ handle: HandleID, _ offset: Int, _ bytes: [UInt8]) async throws(VFSError)
        -> Int
    {
        try await ask { (reply: consuming Reply<Int>) in
            let box = ReplyBox(reply)
            bytes.withUnsafeBytes { buffer in
                guard let reply = box.take() else { return }
                write(inode, handle: handle, offset: offset, bytes: buffer, clearSetID: false, reply: reply)
            }
        }
    }

    package func flush(_ inode: InodeID, _ handle: HandleID) async throws(VFSError) {
        try await ask { flush(inode, handle: handle, reply: $0) }
    }

    package func fsync(_ inode: InodeID, _ handle: HandleID) async throws(VFSError) {
        try await ask { fsync(inode, handle: handle, dataOnly: false, reply: $0) }
    }

    package func release(_ inode: InodeID, _ handle: HandleID) async throws(VFSError) {
        try await ask { release(inode, handle: handle, reply: $0) }
    }

    /// As close(2) does: FLUSH, whose error is the caller's, then RELEASE.
    package func close(_ inode: InodeID, _ handle: HandleID) async throws(VFSError) {
        let flushed: Result<Void, VFSError> = await outcome { () async throws(VFSError) in
            try await flush(inode, handle)
        }
        try await release(inode, handle)
        try flushed.get()
    }

    package func fallocate(
        _ inode: InodeID, _ handle: HandleID, mode: Int32, _ offset: Int, _ count: Int
    ) async throws(VFSError) {
        try await ask { fallocate(inode, handle: handle, mode: mode, offset: offset, count: count, reply: $0) }
    }

    package func lseek(_ inode: InodeID, _ handle: HandleID, _ offset: Int, whence: Int32) async throws(VFSError) -> Int
    {
        try await ask { lseek(inode, handle: handle, offset: offset, whence: whence, reply: $0) }
    }

    package func copyFileRange(
        _ from: (inode: InodeID, handle: HandleID), _ fromOffset: Int, _ to: (inode: InodeID, handle: HandleID),
        _ toOffset: Int, _ count: Int
    ) async throws(VFSError) -> Int {
        try await ask {
            copyFileRange(
                from: from.inode, fromHandle: from.handle, fromOffset: fromOffset, to: to.inode, toHandle: to.handle,
                toOffset: toOffset, count: count, reply: $0)
        }
    }

    @discardableResult
    package func mkdir(_ parent: InodeID, _ name: String, mode: UInt32 = 0o755) async throws(VFSError) -> InodeID {
        let name = try FileName(validating: name.utf8)
        let entry: Entry = try await ask {
            mkdir(parent: parent, name: name, mode: mode, caller: Mount.caller, reply: $0)
        }
        return entry.attributes?.inode ?? 0
    }

    @discardableResult
    package func symlink(_ target: String, _ parent: InodeID, _ name: String) async throws(VFSError) -> InodeID {
        let name = try FileName(validating: name.utf8)
        let entry: Entry = try await ask {
            symlink(target: target, parent: parent, name: name, caller: Mount.caller, reply: $0)
        }
        return entry.attributes?.inode ?? 0
    }

    @discardableResult
    package func mknod(_ parent: InodeID, _ name: String, mode: UInt32) async throws(VFSError) -> InodeID {
        let name = try FileName(validating: name.utf8)
        let entry: Entry = try await ask {
            mknod(parent: parent, name: name, mode: mode, device: 0, caller: Mount.caller, reply: $0)
        }
        return entry.attributes?.inode ?? 0
    }

    package func readlink(_ inode: InodeID) async throws(VFSError) -> String {
        try await ask { readlink(inode, reply: $0) }
    }

    package func unlink(_ parent: InodeID, _ name: String) async throws(VFSError) {
        let name = try FileName(validating: name.utf8)
        try await ask { unlink(parent: parent, name: name, reply: $0) }
    }

    package func rmdir(_ parent: InodeID, _ name: String) async throws(VFSError) {
        let name = try FileName(validating: name.utf8)
        try await ask { rmdir(parent: parent, name: name, reply: $0) }
    }

    package func rename(
        _ parent: InodeID, _ name: String, _ newParent: InodeID, _ newName: String, flags: RenameFlags = []
    ) async throws(VFSError) {
        let name = try FileName(validating: name.utf8)
        let newName = try FileName(validating: newName.utf8)
        try await ask {
            rename(parent: parent, name: name, newParent: newParent, newName: newName, flags: flags, reply: $0)
        }
    }

    package func setxattr(_ inode: InodeID, _ name: String, _ value: [UInt8], flags: Int32 = 0) async throws(VFSError) {
        try await ask { setxattr(inode, name: name, value: value, flags: flags, reply: $0) }
    }

    package func getxattr(_ inode: InodeID, _ name: String) async throws(VFSError) -> [UInt8] {
        try await ask { getxattr(inode, name: name, reply: $0) }
    }

    package func listxattr(_ inode: InodeID) async throws(VFSError) -> [String] {
        try await ask { listxattr(inode, reply: $0) }
    }

    package func removexattr(_ inode: InodeID, _ name: String) async throws(VFSError) {
        try await ask { removexattr(inode, name: name, reply: $0) }
    }

    package func opendir(_ inode: InodeID) async throws(VFSError) -> HandleID {
        let reply: OpenReply = try await ask { opendir(inode, reply: $0) }
        return reply.handle
    }

    package func releasedir(_ inode: InodeID, _ handle: HandleID) async throws(VFSError) {
        try await ask { releasedir(inode, handle: handle, reply: $0) }
    }

    /// One answer of at most `capacity` entries.
    package func readdir(
        _ inode: InodeID, _ handle: HandleID, from offset: Int, capacity: Int = 100, plus: Bool = true
    ) async throws(VFSError) -> [ListedEntry] {
        let packer = Collector(capacity: capacity)
        try await ask { readdir(inode, handle: handle, offset: offset, plus: plus, packer: packer, reply: $0) }
        return packer.entries
    }

    /// All entries but `.` and `..`, as `ls` reads them; what readdirplus counted is forgotten again.
    package func list(_ inode: InodeID, plus: Bool = true, capacity: Int = 100) async throws(VFSError) -> [ListedEntry]
    {
        let handle = try await opendir(inode)
        var entries: [ListedEntry] = []
        var offset = 0
        do throws(VFSError) {
            while true {
                let some = try await readdir(inode, handle, from: offset, capacity: capacity, plus: plus)
                guard let last = some.last else { break }
                offset = last.next
                entries += some
            }
        } catch {
            try await releasedir(inode, handle)
            throw error
        }
        try await releasedir(inode, handle)
        for entry in entries where entry.attributes != nil { forget(entry.inode, count: 1) }
        return entries.filter { $0.name != "." && $0.name != ".." }
    }
}

/// A signal for who waits for the calls that are made while it is `current`.
package final class Interrupt: Sendable {
    @TaskLocal package static var current: Interrupt?

    private let state = Mutex<(isRaised: Bool, actions: [@Sendable () -> Void])>((false, []))

    package init() {}

    package func raise() {
        let actions = state.withLock { state in
            defer { state = (true, []) }
            return state.actions
        }
        for action in actions { action() }
    }

    @Sendable func register(_ action: @escaping @Sendable () -> Void) {
        let isRaised = state.withLock { state in
            if !state.isRaised { state.actions.append(action) }
            return state.isRaised
        }
        if isRaised { action() }
    }
}

/// A call whose error is a value.
package func outcome<Value>(_ work: () async throws(VFSError) -> Value) async -> Result<Value, VFSError> {
    do throws(VFSError) { return .success(try await work()) } catch { return .failure(error) }
}

/// The code that `work` fails with; nil when it does not.
package func failure<Value>(_ work: () async throws(VFSError) -> Value) async -> VFSError.Code? {
    do throws(VFSError) {
        _ = try await work()
        return nil
    } catch {
        return error.code
    }
}

/// Waits for something that follows by itself, such as the end of a transfer that was given up.
package func settled(_ condition: () -> Bool) async {
    for _ in 0..<2000 where !condition() { try? await Task.sleep(for: .milliseconds(5)) }
}

/// Takes up to `capacity` entries.
final class Collector: DirectoryPacker {
    private let capacity: Int
    private let taken = Mutex<[ListedEntry]>([])

    init(capacity: Int) { self.capacity = capacity }

    var entries: [ListedEntry] { taken.withLock { $0 } }

    func add(_ entry: DirectoryEntry) -> Bool {
        taken.withLock { taken in
            guard taken.count < capacity else { return false }
            taken.append(
                ListedEntry(
                    name: entry.name, inode: entry.inode, kind: entry.kind, next: entry.nextOffset,
                    attributes: entry.entry?.attributes))
            return true
        }
    }
}

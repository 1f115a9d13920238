import CloudMountPlatform
package import CloudMountVFS
import Synchronization

/// What is acknowledged and not stored yet: rows that outlive the process, in `DIRECTORY/state.sqlite`.
///
/// What a row means is its owner's affair: the payload is opaque here. `docs/decisions/010` says what is on the disk and how
/// damage is found. The caller holds the directory's lock (`StagingArea`); a second process is refused all the same.
package final class Journal: Sendable {
    package struct Record: Sendable, Equatable {
        /// Given by `newID`.
        package var id: Int64
        package var mount: String
        package var key: ObjectKey
        /// Name of the file in the staging area that has the bytes; nil: there are none.
        package var staged: String?
        package var payload: [UInt8]

        package init(id: Int64, mount: String, key: ObjectKey, staged: String?, payload: [UInt8]) {
            self.id = id
            self.mount = mount
            self.key = key
            self.staged = staged
            self.payload = payload
        }
    }

    package enum Change: Sendable {
        /// Inserts the record, or puts it in the place of the one with its id.
        case put(Record)
        /// Of an id that is not there: nothing.
        case remove(Int64)
    }

    /// What was found damaged at the start, and moved aside with all its bytes.
    package struct Damage: Sendable, Equatable {
        /// Where it lies now, `DIRECTORY/state.sqlite.damaged-TIME`; nil when the files had gone.
        package var path: String?
        /// One clause for the log.
        package var reason: String
        /// Records that could be read and were carried over.
        package var carried: Int
    }

    package struct Counts: Sendable, Equatable {
        package var transactions = 0
        /// Those that succeeded.
        package var commits = 0
        /// Commits that were asked for.
        package var asked = 0
    }

    /// Bytes of one record, all its fields together.
    package static let mostBytes = 16 << 20

    /// For the log and `status`; nil when all was well.
    package let damage: Damage?
    let database: JournalDatabase
    private let writer: JournalWriter
    private let lastID: Atomic<Int64>
    private let leavings = Atomic(0)
    /// Records that somebody of this process answers for.
    private let claimed = Mutex<Set<Int64>>([])

    /// Reads every record once, to see that it is what was written: that costs what the journal holds, whatever else the
    /// directory does.
    /// - Parameter directory: made when missing, with mode 0700.
    /// - Throws: `notSupported` for the file of a newer version, which is left as it is; `busy` when another process has it;
    ///   `permissionDenied`, also for what is somebody else's or a symbolic link; `noSpace`; `io`.
    package convenience init(directory: String) throws(VFSError) {
        try self.init(directory: directory, schema: .current)
    }

    init(directory: String, schema: JournalSchema) throws(VFSError) {
        try makeDirectories(directory)
        try requireOwn(directory)
        let opened = try JournalOpening(directory: directory, schema: schema).open()
        database = opened.database
        damage = opened.damage
        lastID = Atomic(opened.firstID)
        writer = JournalWriter(database)
        guard NamedThread.start("cm-journal", writer.run) else {
            database.close()
            throw VFSError(.io, "the system gives the journal no thread")
        }
    }

    /// What was asked for is still carried out; nothing waits for that.
    deinit { writer.close() }

    /// Another id, above all that were given before, by earlier processes too (should `state.mark` be lost: above all that were put).
    /// No I/O.
    package func newID() -> Int64 { lastID.wrappingAdd(1, ordering: .relaxed).newValue }

    /// Whoever answers for a record says so: nobody else of this process takes it up meanwhile.
    /// - Returns: false when somebody does already.
    package func claim(_ id: Int64) -> Bool { claimed.withLock { $0.insert(id).inserted } }

    /// Whether somebody of this process answers for it, or is about to.
    package func isClaimed(_ id: Int64) -> Bool { claimed.withLock { $0.contains(id) } }

    package func unclaim(_ ids: [Int64]) { claimed.withLock { $0.subtract(ids) } }

    /// Whoever answered for records goes, and leaves them.
    package func leave(_ ids: [Int64]) {
        if ids.isEmpty { return }
        unclaim(ids)
        leavings.add(1, ordering: .releasing)
    }

    /// Another number whenever somebody has left records.
    package var left: Int { leavings.load(ordering: .acquiring) }

    /// All or nothing; durable when it returns, and not in doubt when it throws unless the code is `io`. What others ask for meanwhile
    /// goes into one transaction with it.
    /// - Throws: `invalidArgument` for an id that `newID` has not given; `tooLarge`; `noSpace`; `io`, also after `close`. The
    ///   next one may succeed.
    package func commit(_ changes: [Change]) async throws(VFSError) { try await submit(changes).done() }

    /// The same for a thread that may block.
    package func commitNow(_ changes: [Change]) throws(VFSError) { try submit(changes).wait() }

    /// Asks for a commit, which comes after those that were asked for before it, and waits for nothing.
    /// - Throws: what is known without asking the disk.
    package func submit(_ changes: [Change]) throws(VFSError) -> PendingCommit {
        try check(changes)
        let pending = PendingCommit()
        writer.submit(changes, answer: pending.end)
        return pending
    }

    /// In order of id. Blocks.
    /// - Throws: `io`, also after `close` and for a record that is not what was written.
    package func records(of mount: String) throws(VFSError) -> [Record] { try database.records(of: mount) }

    /// The ids of a mount's records, in order. Blocks.
    package func ids(of mount: String) throws(VFSError) -> [Int64] { try database.ids(of: mount) }

    /// Nil when it is there no more. Blocks.
    /// - Throws: as `records(of:)`.
    package func record(_ id: Int64) throws(VFSError) -> Record? { try database.record(id) }

    /// The files in the staging area that records name, of all mounts. Blocks.
    /// - Returns: also how many records are not what was written: what those name is not known.
    /// - Throws: `io`, also after `close`.
    package func staged() throws(VFSError) -> (names: Set<String>, unreadable: Int) { try database.staged() }

    /// How many records each mount has, also of mounts that no configuration names any more. Blocks.
    package func mounts() throws(VFSError) -> [String: Int] { try database.mounts() }

    /// Since the start.
    package var counts: Counts { writer.counts }

    /// What was asked for is carried out, all is brought into the one file. Blocks; later calls throw `io`. May be called
    /// again.
    package func close() {
        writer.close()
        writer.waitUntilClosed()
    }

    private func check(_ changes: [Change]) throws(VFSError) {
        let last = lastID.load(ordering: .relaxed)
        for case .put(let record) in changes {
            guard record.id > 0, record.id <= last else {
                throw VFSError(.invalidArgument, "the journal has not given the id \(record.id)")
            }
            guard record.byteCount <= Self.mostBytes else {
                throw VFSError(.tooLarge, "a record of \(record.byteCount) bytes is too large for the journal")
            }
        }
    }
}

extension Journal.Record {
    var byteCount: Int { mount.utf8.count + key.byteCount + (staged?.utf8.count ?? 0) + payload.count }
}

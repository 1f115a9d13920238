import CloudMountPlatform
import CloudMountVFS
import GRDB
import Glibc
import Synchronization

/// The open journal: its connection, what its records come to, and the mark beside it.
final class JournalDatabase: Sendable {
    private struct State {
        var tally: JournalTally
        var mark: JournalMark
    }

    static let isClosed = VFSError(.io, "the journal is closed")

    let connection: JournalConnection
    /// Holds the lock that keeps others out, until `close`.
    private let markFile: Descriptor
    private let reserve: JournalReserve
    /// Changed by the writer alone.
    private let state: Mutex<State>

    init(
        _ connection: JournalConnection, _ tally: JournalTally, _ mark: JournalMark, _ markFile: Descriptor,
        _ reserve: JournalReserve
    ) {
        self.connection = connection
        self.markFile = markFile
        self.reserve = reserve
        state = Mutex(State(tally: tally, mark: mark))
    }

    /// All of them or none. For the writer's thread.
    func apply(_ changes: [Journal.Change]) throws(VFSError) {
        do {
            try attempt(changes)
        } catch let error as DatabaseError where error.resultCode.primaryResultCode == .SQLITE_FULL {
            regainRoom()
            if changes.allSatisfy(\.isRemoval) { reserve.release() }
            do {
                try attempt(changes)
            } catch {
                regainRoom()
                throw VFSError(error, of: connection.path)
            }
        } catch {
            if let error = error as? DatabaseError, JournalOpening.isDamage(error) { suspect() }
            throw VFSError(error, of: connection.path)
        }
    }

    /// The log of what did not fit has taken all there was, perhaps; it cannot go before what it has else is in the file.
    private func regainRoom() {
        reserve.release()
        try? connection.checkpoint()
        reserve.hold()
    }

    private func attempt(_ changes: [Journal.Change]) throws {
        var (tally, mark) = state.withLock { ($0.tally, $0.mark) }
        tally.sequence &+= 1
        try connection.transaction { db in
            for change in changes { try JournalRows.apply(change, &tally, db) }
            try JournalRows.store(tally, db)
        }
        mark.sequence = tally.sequence
        mark.write(to: markFile)
        reserve.hold()
        state.withLock { [tally, mark] state in (state.tally, state.mark) = (tally, mark) }
    }

    /// The next start sets it right.
    private func suspect() {
        let mark = state.withLock { state in
            state.mark.isSuspect = true
            return state.mark
        }
        mark.write(to: markFile)
    }

    func records(of mount: String) throws(VFSError) -> [Journal.Record] {
        try read { db in
            var records: [Journal.Record] = []
            try JournalRows.scan(mount: mount, db) { record in
                guard let record else {
                    throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "a record is not what was written")
                }
                records.append(record)
            }
            return records
        }
    }

    func staged() throws(VFSError) -> (names: Set<String>, unreadable: Int) {
        try read { db in
            var (names, unreadable): (Set<String>, Int) = ([], 0)
            try JournalRows.scan(db) { record in
                guard let record else { return unreadable += 1 }
                if let staged = record.staged { names.insert(staged) }
            }
            return (names, unreadable)
        }
    }

    func ids(of mount: String) throws(VFSError) -> [Int64] { try read { db in try JournalRows.ids(mount: mount, db) } }

    func record(_ id: Int64) throws(VFSError) -> Journal.Record? { try read { db in try JournalRows.record(id, db) } }

    func mounts() throws(VFSError) -> [String: Int] { try read(JournalRows.mounts) }

    private func read<Value>(_ body: (Database) throws -> Value) throws(VFSError) -> Value {
        do { return try connection.read(body) } catch { throw VFSError(error, of: connection.path) }
    }

    /// What the log has is brought into the file, and the log goes; where that fails, it stays and is read at the next start.
    func close() {
        try? connection.close()
        flock(markFile.raw, LOCK_UN)
    }
}

extension Journal.Change {
    fileprivate var isRemoval: Bool { if case .remove = self { true } else { false } }
}

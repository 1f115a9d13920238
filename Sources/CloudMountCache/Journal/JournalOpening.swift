import CloudMountPlatform
import CloudMountVFS
import GRDB
import Glibc

/// Opens the file, sees that it is what was written, and sets it right when it is not.
///
/// A damaged file is never written to: what can be read of it goes into a new one, which has its name `rebuilt` when it is
/// whole. From then on the new one counts: the old one is moved aside, and a start that finds `rebuilt` goes on with that.
struct JournalOpening {
    private struct Damaged: Error {
        let reason: String
    }

    private enum Finding {
        case sound(JournalConnection, JournalTally)
        case damaged(JournalConnection?, String)
    }

    let path: String
    private let directory: String
    private let schema: JournalSchema

    private var building: String { path + ".building" }
    private var rebuilt: String { path + ".rebuilt" }
    /// A second name of the log while it is not known whether all is well: SQLite removes the first one.
    private var keptLog: String { path + "-wal.kept" }
    private static let companions = ["-wal", "-shm", "-journal"]

    init(directory: String, schema: JournalSchema) {
        self.directory = directory
        self.schema = schema
        path = directory + "/state.sqlite"
    }

    func open() throws(VFSError) -> (database: JournalDatabase, damage: Journal.Damage?, firstID: Int64) {
        let markFile = try openOwnFile(directory + "/state.mark")
        guard flock(markFile.raw, LOCK_EX | LOCK_NB) == 0 else {
            throw VFSError(.busy, "the journal \(path) is in use by another process")
        }
        for suffix in Self.companions { try requireOwnFile(path + suffix) }
        var mark = JournalMark(markFile)
        var damage: Journal.Damage?
        if exists(rebuilt) {
            let aside = try putInPlace(closing: nil)
            mark?.isSuspect = false
            damage = Journal.Damage(path: aside, reason: "an earlier start found it damaged", carried: 0)
        }
        let connection: JournalConnection
        let tally: JournalTally
        switch try examine(mark) {
        case .sound(let found, let counted):
            (connection, tally) = (found, counted)
            damage?.carried = Int(counted.records)
        case .damaged(let old, let reason):
            let found = try rebuild(old, reason, mark)
            damage = found.damage
            (connection, tally) = (found.connection, found.tally)
        }
        unlink(keptLog)
        let reserve = try JournalReserve(directory + "/state.reserve")
        let run = max(mark?.run ?? 0, tally.highest >> 32) &+ 1
        guard (1..<1 << 30).contains(run) else {
            throw VFSError(.corrupted, "\(path) has ids that no journal gives")
        }
        mark = JournalMark()
        mark?.sequence = tally.sequence
        mark?.run = run
        mark?.write(to: markFile)
        fdatasync(markFile.raw)
        let database = JournalDatabase(connection, tally, mark ?? JournalMark(), markFile, reserve)
        return (database, damage, run << 32)
    }

    // MARK: Examination

    private func examine(_ mark: JournalMark?) throws(VFSError) -> Finding {
        let header = try readHeader()
        let log = size(path + "-wal")
        if header.isEmpty {
            syncDirectory()
            // SQLite would remove the log of an empty file.
            if log > 0 { return .damaged(nil, "the file is empty or gone, and its log is not") }
            if let mark, mark.sequence > 0 { return .damaged(nil, "the file is empty or gone") }
        } else {
            let version = header.count < 100 ? 0 : header[60..<64].reduce(0) { $0 << 8 | Int($1) }
            if header.starts(with: Array("SQLite format 3\0".utf8)), version > schema.version {
                throw VFSError(
                    .notSupported,
                    "the journal \(path) is of version \(version), and this program knows none above \(schema.version)")
            }
            // SQLite would write to none of a higher number.
            if header.count < 100 || header[18] > 2 || header[19] > 2 { return .damaged(nil, "its head is damaged") }
        }
        if log > 0 {
            unlink(keptLog)
            link(path + "-wal", keptLog)
        }
        var connection: JournalConnection?
        do {
            let opened = try JournalConnection(path)
            connection = opened
            try opened.migrate(to: schema)
            return .sound(opened, try verify(opened, mark))
        } catch let error as Damaged {
            return .damaged(connection, error.reason)
        } catch let error as DatabaseError where Self.isDamage(error) {
            return .damaged(connection, error.message ?? "SQLite cannot read it")
        } catch {
            throw VFSError(error, of: path)
        }
    }

    /// Whether it speaks of what is in the file, not of the disk below it or of who else uses it.
    static func isDamage(_ error: DatabaseError) -> Bool {
        switch error.resultCode.primaryResultCode {
        case .SQLITE_IOERR, .SQLITE_FULL, .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_BUSY, .SQLITE_LOCKED, .SQLITE_NOMEM,
            .SQLITE_AUTH, .SQLITE_READONLY, .SQLITE_INTERRUPT, .SQLITE_NOLFS, .SQLITE_MISUSE:
            false
        default: true
        }
    }

    /// Reads all once or twice: the file holds the journal and nothing else.
    private func verify(_ connection: JournalConnection, _ mark: JournalMark?) throws -> JournalTally {
        try connection.read { db in
            if mark?.isSuspect ?? false { throw Damaged(reason: "a write found it damaged") }
            let check = try String.fetchOne(db, sql: "PRAGMA quick_check(1)")
            guard check == "ok" else { throw Damaged(reason: check ?? "the check of the file says nothing") }
            guard let tally = try JournalRows.tally(db) else { throw Damaged(reason: "its tally is damaged") }
            var counted = JournalTally()
            try JournalRows.scan(db) { record in
                guard let record else { throw Damaged(reason: "a record is not what was written") }
                counted.count(record.digest)
            }
            guard counted.records == tally.records, counted.sum == tally.sum else {
                throw Damaged(reason: "it has \(counted.records) records and was left with \(tally.records) others")
            }
            if let mark, mark.sequence > tally.sequence {
                throw Damaged(
                    reason: "\(mark.sequence &- tally.sequence) transactions that were acknowledged are missing")
            }
            return tally
        }
    }

    // MARK: Setting right

    private func rebuild(
        _ old: JournalConnection?, _ reason: String, _ mark: JournalMark?
    ) throws(VFSError) -> (connection: JournalConnection, tally: JournalTally, damage: Journal.Damage) {
        let records = salvage(old)
        var tally = JournalTally()
        let known = old.flatMap { old in try? old.read(JournalRows.tally) }
        tally.sequence = max(known?.sequence ?? 0, mark?.sequence ?? 0)
        tally.highest = known?.highest ?? 0
        do {
            for suffix in [""] + Self.companions { unlink(building + suffix) }
            _ = try openOwnFile(building)
            let new = try JournalConnection(building)
            try new.migrate(to: schema)
            try new.transaction { db in
                for record in records { try JournalRows.insert(record, &tally, db) }
                try JournalRows.store(tally, db)
            }
            try new.checkpoint()
            try new.close()
            guard size(building + "-wal") == 0 else { throw VFSError(.io, "\(building) cannot be brought to its end") }
            guard rename(building, rebuilt) == 0 else { throw localError("\(rebuilt) cannot be made") }
            syncDirectory()
            let aside = try putInPlace(closing: old)
            let connection = try JournalConnection(path)
            return (connection, tally, Journal.Damage(path: aside, reason: reason, carried: records.count))
        } catch {
            throw VFSError(error, of: path)
        }
    }

    /// What can be read from the front, and where that ends early, from the back.
    private func salvage(_ old: JournalConnection?) -> [Journal.Record] {
        var found: [Int64: Journal.Record] = [:]
        for backwards in [false, true] {
            do {
                try old?.read { db in
                    try JournalRows.scan(backwards: backwards, db) { record in
                        if let record, record.id > 0 { found[record.id] = record }
                    }
                }
                break
            } catch {
                continue
            }
        }
        return found.values.sorted { $0.id < $1.id }
    }

    /// Moves what has the journal's names aside, and gives them to what was rebuilt. May be done again from any point of it.
    /// - Returns: the path of the old file; nil when there was none.
    private func putInPlace(closing old: JournalConnection?) throws(VFSError) -> String? {
        let aside = freeName()
        var isMoved = false
        func move(_ from: String, _ to: String) throws(VFSError) {
            if rename(from, to) == 0 {
                isMoved = true
            } else if errno != ENOENT {
                throw localError("\(from) cannot be moved aside")
            }
        }
        // The log first: without it the file would pass for an older state that is whole.
        if exists(keptLog) {
            try move(keptLog, aside + "-wal")
            unlink(path + "-wal")
        }
        for suffix in Self.companions { try move(path + suffix, aside + suffix) }
        try move(path, aside)
        // Not before: it would take the log with it.
        try? old?.close()
        syncDirectory()
        guard rename(rebuilt, path) == 0 else { throw localError("\(rebuilt) cannot be put in place") }
        syncDirectory()
        return isMoved ? aside : nil
    }

    private func freeName() -> String {
        var (seconds, time) = (time_t(SystemClock.now().seconds), tm())
        var text = [CChar](repeating: 0, count: 32)
        gmtime_r(&seconds, &time)
        strftime(&text, text.count, "%Y%m%dT%H%M%SZ", &time)
        let name =
            path + ".damaged-" + String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var (free, count) = (name, 1)
        while exists(free) || exists(free + "-wal") {
            count += 1
            free = "\(name)-\(count)"
        }
        return free
    }

    // MARK: Files

    /// Makes the file when it is missing. It is closed again when this returns: the end of any descriptor ends the locks that SQLite
    /// has by another (fcntl(2)).
    private func readHeader() throws(VFSError) -> [UInt8] {
        let file = try openOwnFile(path)
        var bytes = [UInt8](repeating: 0, count: 100)
        let count = pread(file.raw, &bytes, bytes.count, 0)
        guard count >= 0 else { throw localError("\(path) cannot be read") }
        return Array(bytes[..<count])
    }

    private func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    private func size(_ path: String) -> Int {
        var status = stat()
        return lstat(path, &status) == 0 ? Int(status.st_size) : 0
    }

    private func requireOwnFile(_ path: String) throws(VFSError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid() else {
            throw VFSError(.permissionDenied, "\(path) is no file of this user")
        }
    }

    private func syncDirectory() {
        let raw = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { return }
        fsync(raw)
        close(raw)
    }
}

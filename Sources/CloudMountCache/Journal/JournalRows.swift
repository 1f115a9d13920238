import CloudMountVFS
import FoundationEssentials
import GRDB

/// The statements over the two tables. They are compiled once per connection.
enum JournalRows {
    private static let columns = "id, mount, key, staged, digest, payload"

    static func apply(_ change: Journal.Change, _ tally: inout JournalTally, _ db: Database) throws {
        switch change {
        case .put(let record):
            if record.id <= tally.highest { try remove(record.id, &tally, db) }
            try insert(record, &tally, db)
        case .remove(let id): try remove(id, &tally, db)
        }
    }

    static func insert(_ record: Journal.Record, _ tally: inout JournalTally, _ db: Database) throws {
        let digest = record.digest
        try db.cachedStatement(sql: "INSERT INTO record (\(columns)) VALUES (?, ?, ?, ?, ?, ?)").execute(
            arguments: [
                record.id, Data(record.mount.utf8), Data(record.key.utf8), record.staged.map { Data($0.utf8) },
                Int64(bitPattern: digest), Data(record.payload),
            ])
        tally.count(digest)
        tally.highest = max(tally.highest, record.id)
    }

    private static func remove(_ id: Int64, _ tally: inout JournalTally, _ db: Database) throws {
        let old = try db.cachedStatement(sql: "SELECT digest FROM record WHERE id = ?")
        guard let row = try Row.fetchOne(old, arguments: [id]) else { return }
        try db.cachedStatement(sql: "DELETE FROM record WHERE id = ?").execute(arguments: [id])
        // Of a value that is no number nothing is known; the next start misses it.
        tally.discount(UInt64(bitPattern: integer(row, 0) ?? 0))
    }

    static func store(_ tally: JournalTally, _ db: Database) throws {
        let statement = try db.cachedStatement(
            sql: "UPDATE tally SET sequence = ?, records = ?, sum = ?, highest = ?, digest = ? WHERE only = 1")
        try statement.execute(
            arguments: [
                tally.sequence, tally.records, Int64(bitPattern: tally.sum), tally.highest,
                Int64(bitPattern: tally.digest),
            ])
        guard db.changesCount == 1 else { throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "no tally") }
    }

    /// Nil when it is not what was written.
    static func tally(_ db: Database) throws -> JournalTally? {
        let sql = "SELECT sequence, records, sum, highest, digest FROM tally WHERE only = 1"
        guard let row = try Row.fetchOne(db, sql: sql), let sequence = integer(row, 0), let records = integer(row, 1),
            let sum = integer(row, 2), let highest = integer(row, 3), let digest = integer(row, 4)
        else { return nil }
        let tally = JournalTally(sequence: sequence, records: records, sum: UInt64(bitPattern: sum), highest: highest)
        return tally.digest == UInt64(bitPattern: digest) ? tally : nil
    }

    /// - Parameters:
    ///   - mount: nil: all.
    ///   - body: gets nil for a record that is not what was written.
    static func scan(
        mount: String? = nil, backwards: Bool = false, _ db: Database, _ body: (Journal.Record?) throws -> Void
    ) throws {
        let condition = mount == nil ? "" : "WHERE mount = ?"
        let statement = try db.cachedStatement(
            sql: "SELECT \(columns) FROM record \(condition) ORDER BY id \(backwards ? "DESC" : "ASC")")
        let cursor = try Row.fetchCursor(
            statement, arguments: mount.map { StatementArguments([Data($0.utf8)]) } ?? StatementArguments())
        while let row = try cursor.next() { try body(record(row)) }
    }

    static func ids(mount: String, _ db: Database) throws -> [Int64] {
        let statement = try db.cachedStatement(sql: "SELECT id FROM record WHERE mount = ? ORDER BY id")
        let cursor = try Row.fetchCursor(statement, arguments: [Data(mount.utf8)])
        var ids: [Int64] = []
        while let row = try cursor.next() { if let id = integer(row, 0) { ids.append(id) } }
        return ids
    }

    static func record(_ id: Int64, _ db: Database) throws -> Journal.Record? {
        let statement = try db.cachedStatement(sql: "SELECT \(columns) FROM record WHERE id = ?")
        guard let row = try Row.fetchOne(statement, arguments: [id]) else { return nil }
        guard let record = record(row) else {
            throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "a record is not what was written")
        }
        return record
    }

    static func mounts(_ db: Database) throws -> [String: Int] {
        let statement = try db.cachedStatement(sql: "SELECT mount, COUNT(*) FROM record GROUP BY mount")
        let cursor = try Row.fetchCursor(statement)
        var counts: [String: Int] = [:]
        while let row = try cursor.next() {
            guard let mount = bytes(row, 0), let count = integer(row, 1) else { continue }
            counts[String(decoding: mount, as: UTF8.self), default: 0] += Int(count)
        }
        return counts
    }

    private static func record(_ row: Row) -> Journal.Record? {
        guard let id = integer(row, 0), let mount = bytes(row, 1), let mount = String(validating: mount, as: UTF8.self),
            let key = bytes(row, 2), let key = ObjectKey(validating: key), let digest = integer(row, 4),
            let payload = bytes(row, 5)
        else { return nil }
        let staged = bytes(row, 3).map { String(decoding: $0, as: UTF8.self) }
        let record = Journal.Record(id: id, mount: mount, key: key, staged: staged, payload: [UInt8](payload))
        return record.digest == UInt64(bitPattern: digest) ? record : nil
    }

    // A value of another type than was written would be a trap in GRDB's conversions.

    private static func integer(_ row: Row, _ index: Int) -> Int64? {
        let value: DatabaseValue = row[index]
        guard case .int64(let number) = value.storage else { return nil }
        return number
    }

    private static func bytes(_ row: Row, _ index: Int) -> Data? {
        let value: DatabaseValue = row[index]
        guard case .blob(let data) = value.storage else { return nil }
        return data
    }
}

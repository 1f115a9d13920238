import CloudMountVFS
import GRDB

/// The connection to one file, which nobody else may have open.
struct JournalConnection: Sendable {
    let path: String
    private let queue: DatabaseQueue

    /// - Throws: what SQLite says, a `DatabaseError`.
    init(_ path: String) throws {
        self.path = path
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        // Else GRDB would trap when SQLite cannot end a transaction; `transaction` ends it before the next one.
        configuration.allowsUnsafeTransactions = true
        configuration.prepareDatabase { db in
            // Before the log is first read: then its index is in memory, and no third file is mapped that a full disk could
            // make fail under us.
            try db.execute(sql: "PRAGMA locking_mode = EXCLUSIVE")
            try db.execute(sql: "PRAGMA trusted_schema = OFF")
            try db.execute(sql: "PRAGMA cell_size_check = ON")
            try db.execute(sql: "PRAGMA temp_store = MEMORY")
            guard try String.fetchOne(db, sql: "PRAGMA journal_mode = WAL") == "wal" else {
                throw DatabaseError(resultCode: .SQLITE_CANTOPEN, message: "no write-ahead log can be had there")
            }
            try db.execute(sql: "PRAGMA synchronous = FULL")
        }
        queue = try DatabaseQueue(path: path, configuration: configuration)
    }

    /// - Throws: also after `close`.
    func read<Result>(_ body: (Database) throws -> Result) throws -> Result {
        try queue.writeWithoutTransaction { db in
            guard db.sqliteConnection != nil else {
                throw DatabaseError(resultCode: .SQLITE_MISUSE, message: "the journal is closed")
            }
            return try body(db)
        }
    }

    /// Durable when it returns; undone when it throws.
    func transaction(_ body: (Database) throws -> Void) throws {
        try read { db in
            if db.isInsideTransaction { try db.rollback() }
            try db.inTransaction(.immediate) {
                try body(db)
                return .commit
            }
        }
    }

    /// Brings what the log has into the file, and gives its room back.
    func checkpoint() throws { _ = try read { db in try db.checkpoint(.truncate) } }

    /// Brings the file to the version of `schema`, which is in the file itself, not in its log alone, when this returns: who opens
    /// it later looks there first.
    func migrate(to schema: JournalSchema) throws {
        let version = try read { db in try Int.fetchOne(db, sql: "PRAGMA user_version") } ?? 0
        guard version < schema.version else { return }
        try transaction { db in
            for step in schema.steps[max(0, version)...] { for sql in step { try db.execute(sql: sql) } }
            try db.execute(sql: "PRAGMA user_version = \(schema.version)")
        }
        try checkpoint()
    }

    func close() throws { try queue.close() }
}

extension VFSError {
    /// - Parameter error: of GRDB.
    init(_ error: any Error, of path: String) {
        if let error = error as? VFSError {
            self = error
            return
        }
        let code: Code =
            switch (error as? DatabaseError)?.resultCode.primaryResultCode {
            case .SQLITE_FULL?: .noSpace
            case .SQLITE_PERM?, .SQLITE_READONLY?, .SQLITE_AUTH?: .permissionDenied
            case .SQLITE_BUSY?, .SQLITE_LOCKED?: .busy
            case .SQLITE_TOOBIG?: .tooLarge
            default: .io
            }
        let reason = (error as? DatabaseError)?.message ?? "\(error)"
        self.init(code, "the journal \(path): \(reason)")
    }
}

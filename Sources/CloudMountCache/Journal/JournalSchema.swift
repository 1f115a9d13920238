/// What is in the file, as the steps from an empty one: step N brings version N to N + 1. A step that has been released is never
/// changed. The version is the file's `user_version`.
struct JournalSchema: Sendable {
    var steps: [[String]]

    var version: Int { steps.count }

    static let current = JournalSchema(steps: [
        [
            // Bytes, for SQLite's texts end at a NUL. No index: a second place that can be damaged, and a page more in every commit;
            // the records of a mount are found by reading the first bytes of all.
            """
            CREATE TABLE record (
                id INTEGER PRIMARY KEY, mount BLOB NOT NULL, key BLOB NOT NULL, staged BLOB, digest INTEGER NOT NULL,
                payload BLOB NOT NULL) STRICT
            """,
            // How many records there are and the sum of their digests: one that has vanished is missed.
            """
            CREATE TABLE tally (
                only INTEGER PRIMARY KEY CHECK (only = 1), sequence INTEGER NOT NULL, records INTEGER NOT NULL,
                sum INTEGER NOT NULL, highest INTEGER NOT NULL, digest INTEGER NOT NULL) STRICT
            """,
            JournalTally().insertion,
        ]
    ])
}

/// What the records together must come to.
struct JournalTally: Equatable {
    /// Transactions so far, over all starts.
    var sequence: Int64 = 0
    var records: Int64 = 0
    var sum: UInt64 = 0
    /// The highest id that was ever put.
    var highest: Int64 = 0

    var digest: UInt64 {
        var digest = Digest()
        for word in [sequence, records, highest] { digest.add(UInt64(bitPattern: word)) }
        digest.add(sum)
        return digest.value
    }

    mutating func count(_ digest: UInt64) {
        records &+= 1
        sum &+= digest
    }

    mutating func discount(_ digest: UInt64) {
        records &-= 1
        sum &-= digest
    }

    fileprivate var insertion: String {
        """
        INSERT INTO tally VALUES (1, \(sequence), \(records), \(Int64(bitPattern: sum)), \(highest), \
        \(Int64(bitPattern: digest)))
        """
    }
}

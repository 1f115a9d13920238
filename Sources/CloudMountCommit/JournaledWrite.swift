package import CloudMountVFS

/// A write that is not stored, as the journal keeps it: with it another process can go on where this one was.
package struct JournaledWrite: Sendable, Equatable, Codable {
    package var write: SealedWrite
    /// Earlier attempts whose end is not known: what of them is found in the store is this file's.
    package var marks: [WriteMark]
    /// Those of them that were made over the base that the write still has: one that is found in the store has, where the write has bytes of its
    /// base, the same.
    package var kin: [WriteMark]
    package var since: Timestamp
    /// Why it could not be stored; nil: its turn has not come.
    package var error: String?
    /// It will never be: the bytes are kept for a person.
    package var isFinal: Bool

    package init(
        write: SealedWrite, marks: [WriteMark], kin: [WriteMark], since: Timestamp, error: String?,
        isFinal: Bool = false
    ) {
        (self.write, self.marks, self.kin) = (write, marks, kin)
        (self.since, self.error) = (since, error)
        self.isFinal = isFinal
    }
}

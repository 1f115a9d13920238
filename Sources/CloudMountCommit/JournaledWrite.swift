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
    /// Somebody has been told that it is kept; nil: nobody knows, so that it may be.
    package var isPromised: Bool?
    /// What the attributes of the write lack, so that the store is to be asked for it before they replace anything.
    package var unseen: Unseen?

    package init(
        write: SealedWrite, marks: [WriteMark], kin: [WriteMark], since: Timestamp, error: String?,
        unseen: Unseen?, isPromised: Bool = false, isFinal: Bool = false
    ) {
        (self.write, self.marks, self.kin) = (write, marks, kin)
        (self.since, self.error) = (since, error)
        (self.unseen, self.isPromised, self.isFinal) = (unseen, isPromised, isFinal)
    }
}

/// What of the metadata of a version is not known here.
package enum Unseen: String, Sendable, Codable {
    /// What stat(2) does not show.
    case details
    /// All: modes and owners are the mount's defaults.
    case all
}

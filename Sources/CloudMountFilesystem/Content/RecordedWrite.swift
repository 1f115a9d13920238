package import CloudMountCache
import CloudMountCommit
import CloudMountStaging
package import CloudMountVFS
import FoundationEssentials

/// A record of the journal, as who looks at it from outside may know it.
package struct RecordedWrite: Sendable {
    package let id: Int64
    package let mount: String
    package let key: ObjectKey
    /// Name of the file in the staging area that has the bytes; nil: there are none.
    package let staged: String?
    /// `corrupted` for what is none.
    package let told: Result<Told, VFSError>

    /// What it says of the file.
    package struct Told: Sendable {
        /// Bytes of the file as it was written.
        package let size: Int
        /// Those of `staged` that are the file's.
        package let ranges: [Extent]
        /// Beside these, only zeros.
        package let isWhole: Bool
        package let since: Timestamp
        /// Why it could not be stored; nil: its turn has not come.
        package let error: String?
        /// It will never be.
        package let isFinal: Bool
    }

    package init(_ record: Journal.Record) {
        (id, mount, key, staged) = (record.id, record.mount, record.key, record.staged)
        told = attemptNow { () throws(VFSError) in
            let write = try Payload(record.payload).write
            let image = write.write.layers.image
            return Told(
                size: image.size, ranges: image.dirty.extents, isWhole: !image.needsBase, since: write.since,
                error: write.error, isFinal: write.isFinal)
        }
    }
}

/// What a record of the journal says.
struct Payload: Codable {
    var store: String
    var write: JournaledWrite

    init(store: String, write: JournaledWrite) { (self.store, self.write) = (store, write) }

    /// - Throws: `io` for what cannot be said.
    func encoded() throws(VFSError) -> [UInt8] {
        do {
            return Array(try JSONEncoder().encode(self))
        } catch {
            throw VFSError(.io, "a write of \(write.write.key) cannot be put into words: \(error)")
        }
    }

    /// - Throws: `corrupted` for what is none.
    init(_ bytes: [UInt8]) throws(VFSError) {
        do {
            self = try JSONDecoder().decode(Payload.self, from: Data(bytes))
        } catch {
            throw VFSError(.corrupted, "a record of the journal is no write: \(error)")
        }
    }
}

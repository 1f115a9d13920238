import CloudMountConfig
import CloudMountVFS
import FoundationEssentials

/// What the store of a mount could do when it was last reached: with it the mount starts while the store cannot be reached.
struct KnownStore: Sendable {
    private struct Record: Codable {
        var format: String
        var subject: String
        var capabilities: Capabilities
    }

    private static let format = "cloudmount store 1"
    private let memory: any ProviderMemory
    /// All that it holds for.
    private let subject: String

    init(_ mount: Configuration.Mount, endpoint: String, in memory: any ProviderMemory) {
        self.memory = memory
        subject = [
            mount.name, endpoint, "\(mount.context.bucket)/\(mount.context.prefix)", mount.readOnly ? "ro" : "rw",
        ].joined(separator: "\n")
    }

    /// Nil for a mount that was never reached as it is now.
    func recall() async -> Capabilities? {
        guard let bytes = await memory.recall(name),
            let record = try? JSONDecoder().decode(Record.self, from: Data(bytes)),
            record.format == Self.format, record.subject == subject
        else { return nil }
        return record.capabilities
    }

    func keep(_ capabilities: Capabilities) async {
        let record = Record(format: Self.format, subject: subject, capabilities: capabilities)
        guard let bytes = try? JSONEncoder().encode(record) else { return }
        await memory.keep(Array(bytes), as: name)
    }

    /// Of the file: FNV-1a of the subject, which is in the file whole.
    private var name: String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in subject.utf8 { hash = (hash ^ UInt64(truncatingIfNeeded: byte)) &* 0x100_0000_01b3 }
        return "store" + String(hash, radix: 36)
    }
}

extension Capabilities {
    /// Whether what a mount knows of names and versions means the same with these: then it may go on with a store that by now does more
    /// or less of what it is asked for.
    func showsTheSame(as other: Capabilities) -> Bool {
        distinctTags == other.distinctTags && metadata == other.metadata && sortedListing == other.sortedListing
            && listingCarriesMetadata == other.listingCarriesMetadata && realFolders == other.realFolders
            && folderObjects == other.folderObjects && emptyFolders == other.emptyFolders
            && filesBesideFolders == other.filesBesideFolders && oddSegments == other.oddSegments
            && readsOldVersions == other.readsOldVersions && partTagsAreOfBytes == other.partTagsAreOfBytes
            && conditionalCreate == other.conditionalCreate && conditionalReplace == other.conditionalReplace
            && conditionalCopy == other.conditionalCopy && conditionalDelete == other.conditionalDelete
            && deleteKeepsVersion == other.deleteKeepsVersion && visibleFolders == other.visibleFolders
            && completeSetsMetadata == other.completeSetsMetadata && equalParts == other.equalParts
            && multipart == other.multipart && (readOnlyReason == nil) == (other.readOnlyReason == nil)
    }
}

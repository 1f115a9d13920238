import CloudMountFUSE
public import CloudMountVFS

/// What a command has named: a mount, or a path in one.
public struct ControlTarget: Codable, Sendable, Equatable {
    /// As the user has named it.
    public var word: String
    /// `MAJOR:MINOR` of the mounted file system that the path is in; nil: `word` is a mount's name or path.
    public var device: String?
    /// From the root of the mount on, without a slash at its ends; empty: all of it.
    public var path = ""

    /// The name of the mount that a path is in; nil when it is in none of ours. No file system is asked.
    public static func mountName(at path: String) -> String? {
        guard let source = FUSEMount.source(containing: path), source.hasPrefix("cloudmount:") else { return nil }
        return String(source.dropFirst("cloudmount:".count))
    }

    /// A word without a slash (`.` and `..` excepted) is the name of a mount; anything else is a path, which is followed wherever links lead.
    /// Blocks: who serves the mount is asked for the path.
    /// - Throws: `notFound`, also for what is in no mount of cloudmount; what the lookup says.
    public init(_ word: String) throws(VFSError) {
        self.word = word
        guard word.utf8.contains(UInt8(ascii: "/")) || word == "." || word == ".." else { return }
        let place = try FUSEMount.locate(word)
        (device, path) = (place.device, place.path)
    }
}

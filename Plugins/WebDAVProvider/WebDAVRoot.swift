import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// The folder that is the bucket: from keys to URLs, and from the hrefs of answers to keys.
struct WebDAVRoot: Sendable {
    let url: WebURL
    /// Of its path, with escapes undone.
    let segments: [[UInt8]]

    /// Nil when the path has a malformed escape.
    init?(_ url: WebURL) {
        guard let segments = Self.segments(url.path) else { return nil }
        self.url = url
        self.segments = segments
    }

    /// Whether its path means the same to every server.
    var isPlain: Bool { segments.allSatisfy(Self.isName) }

    private static func isName(_ segment: [UInt8]) -> Bool {
        !segment.isEmpty && !segment.elementsEqual(".".utf8) && !segment.elementsEqual("..".utf8)
    }

    /// The pieces of an escaped path between its slashes, without the empty ones at its ends; two slashes are one for servers.
    private static func segments(_ path: some StringProtocol) -> [[UInt8]]? {
        var segments: [[UInt8]] = []
        for piece in ObjectKey(String(path)).names {
            guard let bytes = PercentEncoding.decodeBytes(piece, plusIsSpace: false) else { return nil }
            segments.append(bytes)
        }
        return segments
    }

    /// Whether two escaped paths name the same, apart from a slash at their ends.
    static func areSame(_ one: String, _ other: String) -> Bool {
        guard let first = segments(one), let second = segments(other) else { return false }
        return first == second
    }

    /// Of the object, or of the folder without the slash at its end: what it is, is seen by its answer.
    func path(_ key: ObjectKey) -> String {
        let text = key.withoutSlash.string
        if text.isEmpty { return url.path + "/" }
        return "\(url.path)/\(PercentEncoding.encode(text, keepSlash: true))"
    }

    /// Of a folder, as servers want it that tell folders by their slash.
    func folderPath(_ key: ObjectKey) -> String {
        let path = path(key)
        return path.utf8.last == UInt8(ascii: "/") ? path : path + "/"
    }

    /// What an href names.
    enum Place: Equatable {
        /// Without a slash at its end; empty for the root.
        case key(ObjectKey)
        /// A name that no key can say: no UTF-8, or a slash in it.
        case nameless
        case outside
    }

    /// - Parameter href: a path, or a URL whose host says nothing: servers behind others do not know their own.
    func place(_ href: String) -> Place {
        var path = href[...]
        for scheme in ["http://", "https://"] where path.hasPrefix(scheme) {
            path = Substring(path.utf8.dropFirst(scheme.utf8.count).drop { $0 != UInt8(ascii: "/") })
        }
        guard path.isEmpty || path.utf8.first == UInt8(ascii: "/"), let found = Self.segments(path),
            found.starts(with: segments)
        else {
            return .outside
        }
        let names = found.dropFirst(segments.count)
        guard names.allSatisfy(Self.isName) else { return .outside }
        guard !names.contains(where: { $0.contains(UInt8(ascii: "/")) }),
            let key = ObjectKey(validating: Array(names.joined(separator: [UInt8(ascii: "/")])))
        else { return .nameless }
        return .key(key)
    }

    /// Where Nextcloud takes the parts of uploads, an escaped path without a slash at its end: a mount of
    /// `/remote.php/dav/files/USER/…` has it beside its files.
    var uploads: String? {
        let pieces = url.path.split(separator: "/", omittingEmptySubsequences: false)
        guard let dav = pieces.firstIndex(of: "remote.php"), dav + 3 < pieces.count, pieces[dav + 1] == "dav",
            pieces[dav + 2] == "files", !pieces[dav + 3].isEmpty
        else { return nil }
        return (pieces[...(dav + 1)] + ["uploads", pieces[dav + 3]]).joined(separator: "/")
    }

    // MARK: Keys

    static let maxKeyBytes = 1024
    static let maxNameBytes = 255

    /// - Throws: `invalidName`, `nameTooLong`.
    static func check(_ key: ObjectKey) throws(VFSError) {
        guard !key.isEmpty else { throw VFSError(.invalidName, "an object must have a key") }
        guard key.byteCount <= maxKeyBytes else {
            throw VFSError(.nameTooLong, "a key has at most \(maxKeyBytes) bytes")
        }
        var names = key.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        if key.endsWithSlash { names.removeLast() }
        for name in names {
            guard name.count <= maxNameBytes else {
                throw VFSError(.nameTooLong, "a name has at most \(maxNameBytes) bytes")
            }
            guard isName(Array(name)), !name.contains(0) else {
                throw VFSError(.invalidName, "“\(key)” names no file in a folder")
            }
        }
    }

    /// The folder that a key lies in, with its slash; empty at the top.
    static func parent(_ key: ObjectKey) -> ObjectKey {
        let bytes = key.endsWithSlash ? key.utf8.dropLast() : key.utf8[...]
        guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else { return "" }
        return ObjectKey(String(Substring(key.utf8[...slash])))
    }
}

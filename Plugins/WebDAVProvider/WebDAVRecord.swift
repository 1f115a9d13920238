import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// An object's metadata as the text of one property: `name=value;…`, both escaped, so that it is printable ASCII and survives what servers
/// do to white space, case and other alphabets.
struct WebDAVRecord: Sendable, Equatable {
    /// The server's tag of the content that the metadata belongs to. Servers keep properties when others replace the content.
    var tag: String
    var metadata: ObjectMetadata

    init(tag: String, metadata: ObjectMetadata) {
        self.tag = tag
        self.metadata = metadata
    }

    private static func escape(_ text: String) -> String { PercentEncoding.encode(text, keepSlash: false) }

    var text: String {
        var fields = ["v=" + Self.escape(tag)]
        if let type = metadata.contentType { fields.append("t=" + Self.escape(type)) }
        if let time = metadata.modified { fields.append("m=" + time.decimalSeconds) }
        if let nonce = metadata.nonce { fields.append("n=" + Self.escape(nonce)) }
        for (name, value) in metadata.user.sorted(by: { $0.key < $1.key }) {
            fields.append("u.\(Self.escape(name))=\(Self.escape(value))")
        }
        for (name, value) in metadata.headers.sorted(by: { $0.key < $1.key }) {
            fields.append("h.\(Self.escape(name))=\(Self.escape(value))")
        }
        return fields.joined(separator: ";")
    }

    /// Nil when the text is something else, or more than is ever written: others may write to the property too.
    init?(_ text: String) {
        var tag: String?
        metadata = ObjectMetadata()
        for field in text.split(separator: ";") {
            guard let equals = field.firstIndex(of: "="),
                let value = PercentEncoding.decode(String(field[field.index(after: equals)...]), plusIsSpace: false)
            else { return nil }
            switch field[..<equals] {
            case "v": tag = value
            case "t": metadata.contentType = value
            case "m":
                guard let time = Timestamp(decimalSeconds: value) else { return nil }
                metadata.modified = time
            case "n":
                guard ObjectMetadata.isNonce(value) else { return nil }
                metadata.nonce = value
            default:
                let kind = field.prefix(2)
                let rest = field[..<equals].dropFirst(2)
                guard let name = PercentEncoding.decode(String(rest), plusIsSpace: false) else { return nil }
                guard metadata.entries < Self.mostEntries else { return nil }
                if kind == "u." { metadata.user[name] = value }
                if kind == "h." { metadata.headers[name] = value }
            }
        }
        guard let tag, (try? Self.check(metadata)) != nil else { return nil }
        self.tag = tag
    }
}

/// The version of an object: the server's tag, or its time and size, and the nonce of the write where the metadata beside it is of that tag.
///
/// Tags made of size and time are the same for two writes in the same tick of the server's clock (seen with Apache); the nonce tells them
/// apart. `ETag.value` is the tag, or `NONCE TAG`; no nonce holds a space.
struct WebDAVVersion: Sendable, Equatable {
    var tag: String
    var nonce: String?

    init(tag: String, nonce: String? = nil) {
        self.tag = tag
        self.nonce = nonce
    }

    init(_ etag: ETag) {
        let parts = etag.value.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        tag = parts.last ?? ""
        nonce = parts.count == 2 && !parts[0].isEmpty ? parts[0] : nil
    }

    var etag: ETag { ETag(nonce != nil || tag.contains(" ") ? "\(nonce ?? "") \(tag)" : tag) }

    /// Of a server that has no tags: whole seconds and the size. Two writes of as many bytes within a second look the same.
    static func tag(modified: Timestamp?, size: Int) -> String {
        "m\(modified.map { "\($0.seconds)" } ?? "?")-\(size)"
    }
}

/// What lies under a URL.
struct WebDAVEntry: Sendable, Equatable {
    /// Without a slash at its end.
    var key: ObjectKey
    var isFolder: Bool
    /// 0 for a folder.
    var size: Int
    /// Without quotes and mark; empty for a folder.
    var tag: String
    /// A tag that the server calls weak, or that is made here of time and size: it may be that of other bytes as well.
    var isWeak: Bool
    var modified: Timestamp
    /// Nil where there is none that belongs to this content.
    var metadata: ObjectMetadata?

    /// The key by which listings have it: a folder's with its slash.
    var ordered: ObjectKey { isFolder ? ObjectKey(key.string + "/") : key }

    /// A place in a dictionary, half of whose places may be empty.
    private static let place = 96

    /// Bytes of memory, about.
    var weight: Int {
        256 + key.byteCount + tag.utf8.count
            + (metadata.map { Self.place * $0.entries + $0.userBytes + $0.otherBytes } ?? 0)
    }

    var version: WebDAVVersion { WebDAVVersion(tag: tag, nonce: metadata?.nonce) }

    /// Folders have no version of their own.
    static let folderTag = ETag("folder")

    /// - Parameter keepsMetadata: no metadata then means that there is none, not that it is unknown.
    func info() -> ObjectInfo {
        guard isFolder else {
            return ObjectInfo(
                key: key, size: size, etag: version.etag, stored: modified, metadata: metadata ?? ObjectMetadata())
        }
        return ObjectInfo(
            key: ObjectKey(key.string + "/"), size: 0, etag: Self.folderTag, stored: modified,
            metadata: ObjectMetadata())
    }
}

extension WebDAVEntry {
    /// Nil when the answer does not say what a file or folder must have: a file its size.
    init?(_ response: WebDAVResponse, key: ObjectKey) {
        let isFolder = response.isFolder ?? (response.size == nil && response.href.utf8.last == UInt8(ascii: "/"))
        self.key = key
        self.isFolder = isFolder
        modified = response.modified ?? Timestamp(seconds: 0)
        size = 0
        tag = ""
        isWeak = false
        metadata = nil
        if isFolder { return }
        guard let size = response.size, size <= ObjectInfo.sizeLimit else { return nil }
        self.size = size
        if let etag = response.tag.flatMap(ETag.init(header:)) {
            tag = etag.value
            isWeak = response.tag?.hasPrefix("W/") ?? false
        } else {
            tag = WebDAVVersion.tag(modified: response.modified, size: size)
            isWeak = true
        }
        if let record = response.record.flatMap(WebDAVRecord.init), record.tag == tag { metadata = record.metadata }
    }
}

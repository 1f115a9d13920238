import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// Object metadata as B2's file information, and back.
///
/// The modification time is `src_last_modified_millis`, as all of B2's tools have it; what milliseconds cannot say is
/// repeated in `mtime`, seconds with nine decimals. Standard headers are B2's `b2-…` entries.
enum B2FileInfo {
    static let millis = "src_last_modified_millis"
    static let exactTime = "mtime"
    /// Marks unfinished large files with the process that began them; see `B2Leftovers`.
    static let session = "cm_session"
    /// Holds `ObjectMetadata.nonce`.
    static let nonce = "cm_nonce"
    /// Holds the entries that are more than B2 takes: `name=value`, each percent-encoded, joined by `&`.
    static let more = "cm_more"
    static let headers = ["cache-control", "content-disposition", "content-encoding", "content-language", "expires"]

    private static let headerPrefix = "x-bz-info-"
    private static let maxNameBytes = 50
    private static let maxEntries = 10
    /// Entries that share one.
    private static let maxPacked = 256
    /// The file's name and its information, as headers; less where the file is encrypted or the bucket locks files.
    private static let maxHeaderBytes = 7000
    private static let maxHeaderBytesProtected = 2048

    /// Names and values of `ObjectMetadata.user` together: what leaves room for a long name, times and standard headers.
    static func limit(isProtected: Bool) -> Int { isProtected ? 1150 : 5450 }

    // MARK: To the wire

    /// - Parameter isProtected: encryption or Object Lock is on.
    /// - Throws: `invalidArgument` for a name that B2 does not take, `tooLarge`.
    static func entries(
        _ metadata: ObjectMetadata, name: String, isProtected: Bool, session: String? = nil
    ) throws(VFSError) -> [(name: String, value: String)] {
        var entries: [(name: String, value: String)] = []
        if let modified = metadata.modified {
            if modified.seconds >= 0 { entries.append((millis, "\(modified.milliseconds)")) }
            if modified.seconds < 0 || modified.nanoseconds % 1_000_000 != 0 {
                entries.append((exactTime, modified.decimalSeconds))
            }
        }
        if let nonce = metadata.nonce {
            guard ObjectMetadata.isNonce(nonce) else { throw VFSError(.invalidArgument, "“\(nonce)” is no nonce") }
            entries.append((Self.nonce, nonce))
        }
        if let session { entries.append((self.session, session)) }
        for header in headers {
            if let value = metadata.headers[header] { entries.append(("b2-" + header, value)) }
        }
        var given = 0
        for (name, value) in metadata.user.sorted(by: { $0.key < $1.key }) {
            if name == Self.nonce || metadata.modified != nil && isOurs(name) { continue }
            guard isLegal(name) else {
                throw VFSError(.invalidArgument, "metadata name '\(name)' cannot be stored on B2")
            }
            given += name.utf8.count + value.utf8.count
            entries.append((name, value))
        }
        guard given <= limit(isProtected: isProtected) else { throw tooLarge(isProtected) }
        guard entries.count <= maxPacked else { throw tooLarge(isProtected) }
        entries = packed(entries)
        let size = entries.reduce(encode(name).utf8.count) {
            $0 + headerPrefix.utf8.count + $1.name.utf8.count + encode($1.value).utf8.count
        }
        guard size <= (isProtected ? maxHeaderBytesProtected : maxHeaderBytes) else { throw tooLarge(isProtected) }
        return entries
    }

    private static func tooLarge(_ isProtected: Bool) -> VFSError {
        VFSError(.tooLarge, "B2 keeps at most \(isProtected ? 2 : 7) KB of name and metadata with such a file")
    }

    private static func isOurs(_ name: String) -> Bool { name == exactTime || name == millis }

    private static func isLegal(_ name: String) -> Bool {
        let bytes = name.utf8
        return 1...maxNameBytes ~= bytes.count && !bytes.starts(with: "b2-".utf8)
            && bytes.allSatisfy {
                0x61...0x7A ~= $0 || 0x30...0x39 ~= $0 || "-_.`~!#$%^&*'|+".utf8.contains($0)
            }
    }

    /// Ten entries at most: the last ones share one where there are more.
    private static func packed(_ entries: [(name: String, value: String)]) -> [(name: String, value: String)] {
        guard entries.count > maxEntries else { return entries }
        let rest = entries[(maxEntries - 1)...].map {
            PercentEncoding.encode($0.name, keepSlash: true) + "="
                + PercentEncoding.encode($0.value, keepSlash: true)
        }
        return Array(entries[..<(maxEntries - 1)]) + [(more, rest.joined(separator: "&"))]
    }

    /// As B2 wants names and values in headers.
    static func encode(_ text: String) -> String { PercentEncoding.encode(text, keepSlash: true) }

    static func decode(_ text: String) -> String { PercentEncoding.decode(text, plusIsSpace: true) ?? text }

    static func addHeaders(_ entries: [(name: String, value: String)], to headers: inout HTTPHeaders) {
        for (name, value) in entries { headers.append("X-Bz-Info-" + name, encode(value)) }
    }

    static func json(_ entries: [(name: String, value: String)]) -> JSONObject {
        var object = JSONObject()
        for (name, value) in entries { object.add(name, value) }
        return object
    }

    // MARK: From the wire

    static func metadata(_ info: [String: String], contentType: String?) -> ObjectMetadata {
        var metadata = ObjectMetadata(contentType: contentType)
        var info = info
        // One that holds more is not ours, and stays what it is.
        if let text = info[more], case let entries = text.split(separator: "&", maxSplits: maxPacked),
            entries.count <= maxPacked
        {
            info[more] = nil
            for entry in entries {
                let parts = entry.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard parts.count == 2 else { continue }
                info[decode(String(parts[0]))] = decode(String(parts[1]))
            }
        }
        info[session] = nil
        metadata.nonce = info.removeValue(forKey: nonce).flatMap { ObjectMetadata.isNonce($0) ? $0 : nil }
        let rough = info[millis].flatMap { Int($0) }
        let exact = info[exactTime].flatMap { Timestamp(decimalSeconds: $0) }
        if let rough {
            // Another tool that sets the time sets the milliseconds alone.
            metadata.modified =
                exact.flatMap { $0.milliseconds == rough ? $0 : nil } ?? Timestamp(milliseconds: rough)
            info[millis] = nil
            info[exactTime] = nil
        } else if let exact {
            metadata.modified = exact
            info[exactTime] = nil
        }
        for (name, value) in info {
            if name.utf8.starts(with: "b2-".utf8) {
                let header = String(name.dropFirst(3))
                if headers.contains(header) { metadata.headers[header] = value }
            } else {
                metadata.user[name] = value
            }
        }
        return metadata
    }

    /// What B2 says of every private file, whatever was stored with it.
    private static func isDefault(_ field: HTTPHeaders.Field) -> Bool {
        field.value.utf8.elementsEqual("max-age=0, no-cache, no-store".utf8)
    }

    /// Of a download's answer.
    static func metadata(_ fields: HTTPHeaders) -> ObjectMetadata {
        var info: [String: String] = [:]
        for field in fields.fields {
            let name = field.name.lowercased()
            if name.utf8.starts(with: headerPrefix.utf8) {
                info[String(name.dropFirst(headerPrefix.utf8.count))] = decode(field.value)
            } else if headers.contains(name), info["b2-" + name] == nil, !isDefault(field) {
                info["b2-" + name] = field.value
            }
        }
        return metadata(info, contentType: fields["content-type"])
    }
}

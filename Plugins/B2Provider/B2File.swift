import CloudMountKit
import CloudMountVFS

/// One version of a file as B2's JSON describes it.
struct B2File: Sendable {
    enum Action: Sendable {
        /// Bytes are there; copies count as well.
        case upload
        /// A large file that is not finished.
        case start
        /// A marker that hides what is below it.
        case hide
        /// Stands for all names that go on after a slash.
        case folder
        case other
    }

    var action = Action.other
    var id = ""
    var name = ""
    var size = 0
    var contentType: String?
    /// Forty digits, of the whole content; nil where B2 has none or vouches for none.
    var sha1: String?
    /// Milliseconds since 1970.
    var uploaded = 0
    var info: [String: String] = [:]
    /// `SSE-B2` or `SSE-C`; nil where there is none.
    var encryption: String?

    /// - Parameter listed: a listing has ten thousand of them, and nobody looks at their SHA-1.
    /// - Returns: nil when a field is missing that every file has.
    static func read(_ reader: inout JSONReader, listed: Bool = false) throws(JSONError) -> B2File? {
        var file = B2File()
        var hasName = false
        try reader.object { reader, name throws(JSONError) in
            switch name {
            case "action": file.action = Self.action(try reader.optionalString())
            case "fileId": file.id = try reader.optionalString() ?? ""
            case "fileName":
                file.name = try reader.string()
                hasName = true
            case "contentLength": file.size = ObjectInfo.possible(try reader.optionalInteger() ?? 0)
            case "contentType": file.contentType = try reader.optionalString()
            case "contentSha1" where !listed: file.sha1 = Self.sha1(try reader.optionalString())
            case "uploadTimestamp": file.uploaded = try reader.optionalInteger() ?? 0
            case "fileInfo": if try !reader.null() { file.info = try reader.strings() }
            case "serverSideEncryption": if try !reader.null() { file.encryption = try Self.mode(&reader) }
            default: try reader.skip()
            }
        }
        return hasName && (!file.id.isEmpty || file.action == .folder) ? file : nil
    }

    private static func mode(_ reader: inout JSONReader) throws(JSONError) -> String? {
        var mode: String?
        try reader.object { reader, name throws(JSONError) in
            switch name {
            case "mode": mode = try reader.optionalString()
            default: try reader.skip()
            }
        }
        return mode == "none" ? nil : mode
    }

    private static func action(_ text: String?) -> Action {
        switch text {
        case "upload", "copy": .upload
        case "start": .start
        case "hide": .hide
        case "folder": .folder
        default: .other
        }
    }

    /// Nil for `none`, and for `unverified:…`, which is what the writer said and B2 never checked.
    static func sha1(_ text: String?) -> String? {
        guard let text, text.utf8.count == 40,
            text.utf8.allSatisfy({ 0x30...0x39 ~= $0 || 0x61...0x66 ~= $0 || 0x41...0x46 ~= $0 })
        else { return nil }
        return text.lowercased()
    }

    func object(_ key: ObjectKey) -> ObjectInfo {
        ObjectInfo(
            key: key, size: size, etag: ETag(id), stored: Timestamp(milliseconds: uploaded),
            encryption: encryption, metadata: B2FileInfo.metadata(info, contentType: contentType))
    }
}

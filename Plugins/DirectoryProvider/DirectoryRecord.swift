import CloudMountPlatform
import CloudMountVFS
import Glibc

/// What is kept beside a file that was written through this provider: an extended attribute, or a file of the hidden area
/// where the file system has no room for one.
struct DirectoryRecord: Sendable, Equatable {
    static let attribute = "user.cloudmount.object"

    /// Drawn anew for each write, so that two versions never share an ETag, whatever inode numbers and clocks do.
    var nonce: String
    /// A directory made only because keys below it needed one; it is no object and goes with the last of them.
    var isImplicit = false
    var metadata = ObjectMetadata()
    /// The file's own mtime after the write. When it differs, another program has changed the file since.
    var fileModified: Timestamp?

    static func newNonce() -> String {
        var generator = SystemRandomNumberGenerator()
        return String(generator.next(), radix: 36) + String(generator.next(), radix: 36)
    }

    /// One field a line: a letter and its values, escaped.
    var encoded: [UInt8] {
        func escaped(_ text: String) -> String { DirectoryPaths.escape(text, all: false) }
        func time(_ time: Timestamp) -> String { "\(time.seconds) \(time.nanoseconds)" }
        var lines = ["v \(nonce)"]
        if isImplicit { lines.append("i") }
        if let type = metadata.contentType { lines.append("t \(escaped(type))") }
        if let modified = metadata.modified { lines.append("m \(time(modified))") }
        if let nonce = metadata.nonce { lines.append("n \(escaped(nonce))") }
        if let fileModified { lines.append("f \(time(fileModified))") }
        for (name, value) in metadata.user { lines.append("u \(escaped(name)) \(escaped(value))") }
        for (name, value) in metadata.headers { lines.append("h \(escaped(name)) \(escaped(value))") }
        return Array(lines.joined(separator: "\n").utf8)
    }

    init(nonce: String = newNonce(), metadata: ObjectMetadata = ObjectMetadata(), isImplicit: Bool = false) {
        self.nonce = nonce
        self.metadata = metadata
        self.isImplicit = isImplicit
    }

    /// Bytes of names and values of metadata that are ever written, and as many again of types and headers.
    static let mostBytes = 32 << 10
    /// Names of metadata and of headers.
    static let mostEntries = 256
    /// Of a whole record. Escaped, a byte is three.
    private static let mostEncoded = 8 * mostBytes

    /// - Throws: `tooLarge`, and `invalidArgument` for a nonce that is none.
    static func check(_ metadata: ObjectMetadata) throws(VFSError) {
        let count = max(metadata.userBytes, metadata.otherBytes)
        guard count <= mostBytes else { throw VFSError(.tooLarge, "\(count) bytes of metadata are too many") }
        guard metadata.entries <= mostEntries else {
            throw VFSError(.tooLarge, "\(metadata.entries) names of metadata, at most \(mostEntries) are kept")
        }
        if let nonce = metadata.nonce, !ObjectMetadata.isNonce(nonce) {
            throw VFSError(.invalidArgument, "“\(nonce)” is no nonce")
        }
    }

    /// Nil when `bytes` are not of this form, or more than is ever written: others may write to the folder too. Unknown fields are left aside.
    init?(_ bytes: [UInt8]) {
        guard bytes.count <= Self.mostEncoded else { return nil }
        nonce = ""
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            let fields = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            let values = fields.dropFirst().map { DirectoryPaths.unescape($0) }
            let first = values.first ?? nil
            let second = values.count > 1 ? values[1] : nil
            guard metadata.entries <= Self.mostEntries else { return nil }
            switch fields.first?.first {
            case UInt8(ascii: "v"): nonce = first ?? ""
            case UInt8(ascii: "i"): isImplicit = true
            case UInt8(ascii: "t"): metadata.contentType = first
            case UInt8(ascii: "m"): metadata.modified = Self.time(first, second)
            case UInt8(ascii: "n"): metadata.nonce = first
            case UInt8(ascii: "f"): fileModified = Self.time(first, second)
            case UInt8(ascii: "u"): if let first { metadata.user[first] = second ?? "" }
            case UInt8(ascii: "h"): if let first { metadata.headers[first] = second ?? "" }
            default: break
            }
        }
        if nonce.isEmpty || (try? Self.check(metadata)) == nil { return nil }
    }

    private static func time(_ seconds: String?, _ nanoseconds: String?) -> Timestamp? {
        guard let seconds = seconds.flatMap({ Int($0) }), let nanoseconds = nanoseconds.flatMap({ Int($0) }) else {
            return nil
        }
        return Timestamp(seconds: seconds, nanoseconds: nanoseconds)
    }
}

/// The records of the folder's files and directories: an extended attribute, or else a small file of our own area.
struct DirectoryRecords: Sendable {
    let folder: Folder

    func read(of file: Descriptor, _ status: stat) throws(SystemError) -> DirectoryRecord? {
        if let bytes = try file.attribute(DirectoryRecord.attribute) { return DirectoryRecord(bytes) }
        guard let bytes = try folder.contents(of: recordPath(status)) else { return nil }
        let record = DirectoryRecord(bytes)
        // An inode number lives on in another file; that one has another mtime.
        if let written = record?.fileModified, status.kind == S_IFREG, written != status.modified { return nil }
        return record
    }

    func write(_ record: DirectoryRecord, of file: Descriptor) throws(SystemError) {
        let bytes = record.encoded
        do throws(SystemError) {
            return try file.setAttribute(DirectoryRecord.attribute, bytes)
        } catch {
            guard [ENOTSUP, ENOSPC, E2BIG, ERANGE, EDQUOT].contains(error.code) else { throw error }
            // An older one that had room would be believed.
            try? file.removeAttribute(DirectoryRecord.attribute)
        }
        // Made whole before it takes its name.
        let (staging, records) = try (folder.own(folder.staging), folder.own(folder.recordArea))
        let temporary = "r" + DirectoryRecord.newNonce()
        let sidecar = try staging.open(temporary, for: .creating)
        try bytes.withUnsafeBytes { bytes in Result { () throws(SystemError) in try sidecar.write(bytes, at: 0) } }
            .get()
        if folder.isDurable { try SystemError.check { fsync(sidecar.raw) } }
        let target = try String(file.status().st_ino)
        try SystemError.check { renameat(staging.raw, temporary, records.raw, target) }
    }

    /// A file or directory that is about to go. Its number is given to no other while this is held.
    struct Leaving {
        fileprivate let itself: Descriptor
        let status: stat
    }

    func leaving(_ name: String, in directory: Descriptor) throws(SystemError) -> Leaving {
        let itself = try directory.open(name, for: .itself)
        return Leaving(itself: itself, status: try itself.status())
    }

    /// Of what has gone just now.
    func remove(_ gone: Leaving) {
        withExtendedLifetime(gone.itself) {
            if let records = folder.recordArea { unlinkat(records.raw, String(gone.status.st_ino), 0) }
        }
    }

    private func recordPath(_ status: stat) -> String { DirectoryPaths.records + "/\(status.st_ino)" }
}

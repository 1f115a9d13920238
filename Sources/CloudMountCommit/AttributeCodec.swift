public import CloudMountVFS

/// What an object's metadata says of the file that it is. Nil and empty mean that nothing was said: the mount's
/// settings then decide, never zeros.
public struct StoredAttributes: Sendable, Equatable, Codable {
    public var kind: FileKind?
    /// The lower twelve bits of the mode.
    public var permissions: UInt32?
    public var uid: UInt32?
    public var gid: UInt32?
    /// Of character and block devices, as FUSE numbers them.
    public var device: UInt32?
    public var modified: Timestamp?
    public var accessed: Timestamp?
    public var changed: Timestamp?
    public var born: Timestamp?
    /// Where the link leads, when the metadata says so.
    public var symlinkTarget: String?
    /// The link's target is the object's body.
    public var symlinkTargetInBody = false
    /// Extended attributes by full name (`user.…`).
    public var xattrs: [String: [UInt8]] = [:]
    /// User metadata that means nothing to us, to be carried through rewrites.
    public var foreign: [String: String] = [:]
    public var contentType: String?
    /// `ObjectMetadata.headers`.
    public var headers: [String: String] = [:]

    public init() {}

    /// Drops what other tools have noted of the old content's bytes. To be called when the content is about to change.
    public mutating func contentWillChange() {
        for name in AttributeCodec.checksumNames { foreign[name] = nil }
    }
}

/// POSIX attributes as object metadata.
///
/// Reads what s3fs, rclone, geesefs, gcsfuse, gsutil, AWS DataSync, blobfuse and s3sync write. Writes what most of them
/// read: times as s3fs (rclone reads its `mtime`), symbolic links as s3fs (the target is the body), extended attributes
/// as s3fs, `btime` as rclone.
///
/// `mode` is written in octal with its type and a leading zero, `0100644`: s3fs and geesefs, which write decimal,
/// take a leading zero for octal, and rclone takes everything for octal. It is the one form that all of them read
/// alike.
public enum AttributeCodec {
    /// Checksums beside an object's bytes: rclone's, s3cmd's (among other things) and b2sdk's.
    static let checksumNames = ["md5chksum", "s3cmd-attrs", "large_file_sha1"]
    package static let directoryType = "application/x-directory"

    /// Never fails: what cannot be understood is left out, or kept as `foreign`.
    public static func decode(_ metadata: ObjectMetadata, key: ObjectKey) -> StoredAttributes {
        var stored = StoredAttributes()
        stored.contentType = metadata.contentType
        stored.headers = metadata.headers
        stored.modified = metadata.modified
        stored.foreign = metadata.user
        if !metadata.user.isEmpty { decodeUser(metadata, &stored) }
        if stored.kind == nil, metadata.contentType.map(isDirectoryType) ?? false { stored.kind = .directory }
        if stored.kind == nil, key.utf8.suffix(11).elementsEqual(".rclonelink".utf8) { stored.kind = .symbolicLink }
        if key.endsWithSlash { stored.kind = .directory }
        stored.symlinkTargetInBody = stored.kind == .symbolicLink && stored.symlinkTarget == nil
        return stored
    }

    /// Whether an object whose key has no slash stands for a directory, as those of old tools do.
    package static func isDirectory(_ info: ObjectInfo) -> Bool {
        info.metadata.map { decode($0, key: info.key).kind == .directory } ?? false
    }

    private static func decodeUser(_ metadata: ObjectMetadata, _ stored: inout StoredAttributes) {
        /// The first of `names` that has a meaning; it is not foreign then.
        func take<Value>(_ names: [String], _ parse: (String) -> Value?) -> Value? {
            var found: Value?
            for name in names {
                guard let value = metadata.user[name].flatMap(parse) else { continue }
                stored.foreign[name] = nil
                found = found ?? value
            }
            return found
        }

        let spoken = take(["mtime", "goog-reserved-file-mtime", "file-mtime", "gcsfuse_mtime"], parseTime)
        stored.modified = metadata.modified ?? spoken
        stored.accessed = take(["atime", "goog-reserved-file-atime", "file-atime"], parseTime)
        stored.changed = take(["ctime"], parseTime)
        stored.born = take(["btime"], parseTime)
        stored.uid = take(["uid", "file-owner", "owner", "goog-reserved-posix-uid"], parseOwner)
        stored.gid = take(["gid", "file-group", "group", "goog-reserved-posix-gid"], parseOwner)
        let ours = take(["mode", "permissions"], parseMode)
        let octal = take(["file-permissions", "goog-reserved-posix-mode"]) { saneMode($0, radix: 8) }
        let mode = ours ?? octal
        stored.permissions = mode.map { $0 & 0o7777 }
        stored.device = take(["rdev"], parseDevice)
        if let xattrs = take(["xattr"], parseXattrs) { stored.xattrs = xattrs }
        stored.kind = mode.flatMap { FileKind(rawValue: $0 & 0o170000) } ?? kind(metadata)
        if let target = take(["--symlink-target"], percentDecoded) ?? metadata.user["gcsfuse_symlink_target"] {
            stored.kind = .symbolicLink
            stored.symlinkTarget = target
        }
    }

    /// 4294967295 is nobody: chown(2) means "leave it" by it, and the kernel takes no write to such a file.
    private static func parseOwner(_ text: String) -> UInt32? { UInt32(text).flatMap { $0 == .max ? nil : $0 } }

    /// What is said elsewhere than in a mode. These marks stay foreign, so that a rewrite keeps them for their tools.
    private static func kind(_ metadata: ObjectMetadata) -> FileKind? {
        func isTrue(_ name: String) -> Bool { metadata.user[name].map { lowercased($0) == "true" } ?? false }
        if isTrue("goog-reserved-file-is-symlink") || isTrue("is_symlink") { return .symbolicLink }
        return isTrue("hdi_isfolder") ? .directory : nil
    }

    /// Whatever its parameters.
    private static func isDirectoryType(_ text: String) -> Bool {
        func begins(with type: String) -> Bool {
            var rest = text.utf8[...]
            for expected in type.utf8 {
                guard let byte = rest.popFirst() else { return false }
                guard (0x41...0x5A ~= byte ? byte | 0x20 : byte) == expected else { return false }
            }
            return rest.first.map { $0 == UInt8(ascii: ";") } ?? true
        }
        return begins(with: directoryType) || begins(with: "httpd/unix-directory")
    }

    /// - Parameter limit: `Capabilities.maxMetadataBytes`.
    /// - Throws: `noSpace` when names and values together are longer than that.
    public static func encode(_ attributes: StoredAttributes, limit: Int) throws(VFSError) -> ObjectMetadata {
        var metadata = ObjectMetadata(
            contentType: attributes.contentType, modified: attributes.modified, user: attributes.foreign,
            headers: attributes.headers)
        let kind = attributes.kind ?? .regular
        if kind == .directory { metadata.contentType = directoryType }
        if let permissions = attributes.permissions {
            metadata.user["mode"] = "0" + String(kind.rawValue | (permissions & 0o7777), radix: 8)
        } else if kind != .regular, kind != .directory {
            let permissions: UInt32 = kind == .symbolicLink ? 0o777 : 0o644
            metadata.user["mode"] = "0" + String(kind.rawValue | permissions, radix: 8)
        }
        if let uid = attributes.uid { metadata.user["uid"] = String(uid) }
        if let gid = attributes.gid { metadata.user["gid"] = String(gid) }
        if kind == .characterDevice || kind == .blockDevice, let device = attributes.device {
            metadata.user["rdev"] = "0x" + String(device, radix: 16)
        }
        if attributes.modified != nil { metadata.user["mtime"] = nil }
        if let time = worthSaying(attributes.accessed, attributes.modified) {
            metadata.user["atime"] = decimalText(time)
        }
        if let time = worthSaying(attributes.changed, attributes.modified) {
            metadata.user["ctime"] = decimalText(time)
        }
        if let time = worthSaying(attributes.born, attributes.modified) { metadata.user["btime"] = rfc3339Text(time) }
        if kind == .symbolicLink, let target = attributes.symlinkTarget {
            metadata.user["--symlink-target"] = percentEncoded(target.utf8, keeping: isPlainInTarget)
        }
        if !attributes.xattrs.isEmpty { metadata.user["xattr"] = xattrText(attributes.xattrs) }

        var size = attributes.modified == nil ? 0 : "mtime".utf8.count + 20
        for (name, value) in metadata.user { size += name.utf8.count + value.utf8.count }
        // A long one is in the body alone, where most tools look for it.
        if size > limit, attributes.symlinkTargetInBody,
            let target = metadata.user.removeValue(forKey: "--symlink-target")
        {
            size -= "--symlink-target".utf8.count + target.utf8.count
        }
        guard size <= limit else {
            throw VFSError(.noSpace, "the attributes take \(size) bytes, and the store keeps \(limit) beside an object")
        }
        return metadata
    }

    /// As `encode`, without those of our own attributes for which the metadata of others leaves no room: times first, then owner,
    /// mode and the time of the last change. What users have set by name is never left out.
    /// - Parameter reserve: `Capabilities.reservedMetadataBytes`, for a write that can do without its nonce.
    /// - Returns: also what was left out; with `nonce`, none has room.
    /// - Throws: `noSpace` when not even the rest has room.
    package static func encodeWhatFits(
        _ attributes: StoredAttributes, limit: Int, reserve: Int = 0
    ) throws(VFSError) -> (metadata: ObjectMetadata, left: [String]) {
        var attributes = attributes
        var left: [String] = []
        let least: [(String, (inout StoredAttributes) -> Void)] = [
            ("btime", { $0.born = nil }), ("ctime", { $0.changed = nil }), ("atime", { $0.accessed = nil }),
            ("gid", { $0.gid = nil }), ("uid", { $0.uid = nil }), ("mode", { $0.permissions = nil }),
            ("mtime", { $0.modified = nil }),
        ]
        for (name, leaveOut) in least {
            do throws(VFSError) {
                return (try encode(attributes, limit: limit), left)
            } catch {
                if error.code != .noSpace { throw error }
            }
            leaveOut(&attributes)
            left.append(name)
        }
        do throws(VFSError) {
            return (try encode(attributes, limit: limit), left)
        } catch {
            if error.code != .noSpace || reserve == 0 { throw error }
        }
        return (try encode(attributes, limit: limit + reserve), left + ["nonce"])
    }

    /// `time`, unless who reads no such time takes the modification's and is less than a second wrong.
    private static func worthSaying(_ time: Timestamp?, _ modified: Timestamp?) -> Timestamp? {
        guard let time, let modified else { return time }
        let later = max(time, modified)
        let earlier = min(time, modified)
        let isClose = Timestamp(seconds: earlier.seconds + 1, nanoseconds: earlier.nanoseconds) > later
        return isClose ? nil : time
    }

    static func lowercased(_ text: some StringProtocol) -> String {
        String(decoding: text.utf8.map { (0x41...0x5A).contains($0) ? $0 + 0x20 : $0 }, as: UTF8.self)
    }
}

extension StoredAttributes {
    /// As they are known before the last byte is written.
    package var withoutTimes: StoredAttributes {
        var attributes = self
        attributes.modified = nil
        attributes.changed = nil
        attributes.accessed = nil
        return attributes
    }
}

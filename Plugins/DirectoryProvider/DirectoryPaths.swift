import CloudMountVFS

/// Where the object of a key lives, relative to the root.
///
/// A key whose segments are all possible file names lives at the path of the same bytes, as any program would expect. Any
/// other key, and one whose path is taken (`x` while `x/y` exists), lives in the hidden area under its escaped name.
enum DirectoryPaths {
    /// Everything of ours in the folder.
    static let area = ".cloudmount"
    static let keys = area + "/keys"
    static let staging = area + "/staging"
    /// Metadata of files on file systems without extended attributes, by inode number.
    static let records = area + "/records"
    static let lock = area + "/lock"

    /// The path of the same bytes, without a trailing slash; nil when there is no such path.
    static func plain(_ key: ObjectKey) -> String? {
        var segments = key.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        if segments.last?.isEmpty == true { segments.removeLast() }
        guard let first = segments.first, !first.elementsEqual(area.utf8) else { return nil }
        for segment in segments {
            if segment.isEmpty || segment.count > 255 || segment.contains(0) { return nil }
            if segment.elementsEqual(".".utf8) || segment.elementsEqual("..".utf8) { return nil }
        }
        return key.endsWithSlash ? String(decoding: key.utf8.dropLast(), as: UTF8.self) : key.string
    }

    /// The key escaped, in pieces that are file names; all but the last are directories and end in `+`, which an escaped
    /// key never holds.
    static func hidden(_ key: ObjectKey) -> String {
        let escaped = Array(escape(key.string, all: true).utf8)
        var path = keys
        var start = 0
        while start < escaped.count {
            let end = min(start + 240, escaped.count)
            path += "/" + String(decoding: escaped[start..<end], as: UTF8.self) + (end < escaped.count ? "+" : "")
            start = end
        }
        return path
    }

    /// Splits at the last slash; the parent of a name at the root is `.`.
    static func split(_ path: String) -> (parent: String, name: String) {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
        return (String(path[..<slash]), String(path[path.utf8.index(after: slash)...]))
    }

    /// Percent-encodes what would end a line or a field; with `all`, everything but letters, digits, `-`, `_`, `~` and what
    /// is not ASCII, so that the result is a file name and neither `.` nor `..`.
    static func escape(_ text: String, all: Bool) -> String {
        var result: [UInt8] = []
        for byte in text.utf8 {
            let kept =
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "~"),
                    0x80...:
                    true
                case 0...0x20, 0x7F, UInt8(ascii: "%"): false
                default: !all
                }
            if kept {
                result.append(byte)
            } else {
                let digits = Array("0123456789ABCDEF".utf8)
                result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Undoes `escape`; nil for what `escape` cannot have made.
    static func unescape(_ text: some Collection<UInt8>) -> String? {
        var result: [UInt8] = []
        var rest = text[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard let high = rest.popFirst(), let low = rest.popFirst(),
                    let value = UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16)
                else { return nil }
                result.append(value)
            } else {
                result.append(byte)
            }
        }
        return String(validating: result, as: UTF8.self)
    }
}

extension ObjectKey {
    /// For a key that ends in `/`: the least key above all that begin with it (`0` is the character after `/`).
    var afterAllWithin: ObjectKey { ObjectKey(String(string.unicodeScalars.dropLast()) + "0") }

    /// The key up to and with the next `/` after its first `count` bytes; nil when there is none.
    func commonPrefix(after count: Int) -> ObjectKey? {
        guard let slash = utf8.dropFirst(count).firstIndex(of: UInt8(ascii: "/")) else { return nil }
        return ObjectKey(String(Substring(utf8[...slash])))
    }
}

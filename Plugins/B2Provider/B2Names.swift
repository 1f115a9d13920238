import CloudMountVFS

/// Object keys and the file names that stand for them.
///
/// B2 knows no empty folder. Backblaze's own web page keeps one by a file `.bzEmpty` in it, so that is how the key of a
/// folder object, `name/`, is kept: as the file `name/.bzEmpty`. Files whose own name ends in `/`, which other tools may
/// have made, are folder objects too.
enum B2Names {
    static let marker = ".bzEmpty"
    private static let markerCount = marker.utf8.count

    static let maxBytes = 1024
    static let maxSegmentBytes = 250

    /// The key that a file stands for; nil for the marker of the bucket's own top, which has no key.
    static func key(_ name: String) -> ObjectKey? {
        let bytes = name.utf8
        guard bytes.last == UInt8(ascii: "y"), bytes.count >= markerCount,
            bytes.suffix(markerCount).elementsEqual(marker.utf8)
        else {
            return ObjectKey(name)
        }
        let rest = bytes.dropLast(markerCount)
        guard let last = rest.last else { return nil }
        return last == UInt8(ascii: "/") ? ObjectKey(String(Substring(rest))) : ObjectKey(name)
    }

    /// The name under which a key is written.
    static func name(_ key: ObjectKey) -> String { key.endsWithSlash ? key.string + marker : key.string }

    /// The names under which a key may be found, the likelier first; none when no file can stand for it.
    static func names(_ key: ObjectKey) -> [String] {
        if key.endsWithSlash { return [key.string + marker, key.string] }
        return B2Names.key(key.string) == key ? [key.string] : []
    }

    /// - Throws: `invalidName`, `nameTooLong` for a key that B2 does not take.
    static func check(_ key: ObjectKey) throws(VFSError) {
        guard !key.isEmpty else { throw VFSError(.invalidName, "an object must have a key") }
        guard !names(key).isEmpty else {
            throw VFSError(.invalidName, "the name \(marker) is kept for the marks of empty folders")
        }
        let name = name(key).utf8
        guard name.count <= maxBytes else { throw VFSError(.nameTooLong, "B2 file names have at most 1,024 bytes") }
        var segment = 0
        for byte in name {
            guard byte >= 0x20, byte != 0x7F else {
                throw VFSError(.invalidName, "B2 file names hold no control characters")
            }
            segment = byte == UInt8(ascii: "/") ? 0 : segment + 1
            guard segment <= maxSegmentBytes else {
                throw VFSError(.nameTooLong, "B2 file names have at most 250 bytes between slashes")
            }
        }
    }
}

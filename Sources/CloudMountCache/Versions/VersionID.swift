import CloudMountCrypto
import CloudMountVFS

/// Names one version of one object of one mount: 128 bits of SHA-256, since keys and tags may be anybody's.
public struct VersionID: Hashable, Sendable {
    /// The mount's folder in the store.
    let folder: String
    let high: UInt64
    let low: UInt64

    init(_ info: ObjectInfo, in folder: String) {
        var hash = SHA256()
        // Neither has a NUL.
        hash.update(Array("\(info.key.string)\0\(info.etag.value)\0\(info.size)".utf8))
        let digest = hash.finish()
        self.folder = folder
        high = digest[..<8].reduce(0) { $0 << 8 | UInt64($1) }
        low = digest[8..<16].reduce(0) { $0 << 8 | UInt64($1) }
    }

    private init(_ folder: String, _ high: UInt64, _ low: UInt64) {
        (self.folder, self.high, self.low) = (folder, high, low)
    }

    /// Of the file `name`; nil for one that is none of the store's.
    init?(name: String, in folder: String) {
        guard name.utf8.count == 32, let high = UInt64(name.prefix(16), radix: 16),
            let low = UInt64(name.dropFirst(16), radix: 16)
        else { return nil }
        self.init(folder, high, low)
        guard self.name == name else { return nil }
    }

    var name: String { hex(high) + hex(low) }
    /// The folder of the file, in the mount's.
    var shard: Int { Int(high >> 56) }

    private func hex(_ word: UInt64) -> String {
        let digits = String(word, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

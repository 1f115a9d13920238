import CloudMountCrypto
import CloudMountPlatform

/// What a probe has found, in the form in which it is kept on this machine, for a day.
///
/// It is believed for the same bucket, prefix and access key of an endpoint that still calls itself the same, by a program that asks the
/// same of it. What else may have become of a store in that time it does not say: hence no longer than a day.
struct S3Findings {
    static let lifetime = 86_400
    private static let format = "cloudmount s3 findings 1"

    private static let flags: [any WritableKeyPath<S3Features, Bool> & Sendable] = [
        \.sortedListing, \.folderObjects, \.emptyFolders, \.putAbsent, \.putMatch, \.completeAbsent, \.completeMatch,
        \.copyAbsent, \.copyMatch, \.deleteMatch, \.deleteManyMatch, \.serverCopy, \.pinnedCopy, \.rangeCopy,
        \.multipart,
        \.rangedRead,
    ]

    private let known: S3Features
    /// All that they hold for, in one line; a digest, as it names a key.
    private let subject: String

    /// - Parameter known: what is believed without a probe.
    init(_ client: S3Client, _ known: S3Features, server: String?, accessKey: String?) {
        self.known = known
        let options = client.options
        let parts = [
            client.route.endpoint.url, client.route.endpoint.basePath, options.bucket, options.prefix,
            client.profile.name,
            server ?? "", accessKey ?? "", Self.digits(known),
        ]
        var hash = SHA256()
        for part in parts {
            hash.update(Array(part.utf8))
            hash.update([0])
        }
        subject = Hex.string(hash.finish())
    }

    /// Of the file.
    var name: String { String(subject.prefix(32)) }

    private static func digits(_ features: S3Features) -> String {
        String(flags.map { features[keyPath: $0] ? "1" : "0" })
    }

    func text(_ features: S3Features, now: Int) -> [UInt8] {
        Array("\(Self.format)\n\(subject)\n\(now)\n\(Self.digits(features))\n".utf8)
    }

    /// Nil when `text` is of something else, too old, or nothing that can be read.
    func features(_ text: [UInt8], now: Int) -> S3Features? {
        let lines = String(decoding: text, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count == 5, lines[0] == Self.format, lines[1] == subject, let time = Int(lines[2]),
            time <= now, time > now - Self.lifetime, lines[3].utf8.count == Self.flags.count,
            lines[3].utf8.allSatisfy({ $0 == UInt8(ascii: "0") || $0 == UInt8(ascii: "1") })
        else { return nil }
        var features = known
        for (flag, digit) in zip(Self.flags, lines[3].utf8) { features[keyPath: flag] = digit == UInt8(ascii: "1") }
        return features
    }
}

/// A store, written as one URL, such as `s3://bucket/prefix`.
public struct StoreURL: Sendable, Equatable {
    /// In lower case.
    public let scheme: String
    /// What follows `://`.
    public let rest: String

    /// Nil when the text is no URL: a scheme, `://` and something behind it.
    public init?(_ text: String) {
        guard let cut = text.firstRange(of: "://"), cut.upperBound < text.endIndex else { return nil }
        let scheme = text[..<cut.lowerBound]
        guard let first = scheme.unicodeScalars.first, first.isASCII, first.properties.isAlphabetic,
            scheme.unicodeScalars.allSatisfy({
                $0.isASCII
                    && ($0.properties.isAlphabetic || ("0"..."9").contains($0) || "+-.".unicodeScalars.contains($0))
            })
        else { return nil }
        self.scheme = scheme.lowercased()
        rest = String(text[cut.upperBound...])
    }

    public var text: String { "\(scheme)://\(rest)" }

    /// A URL as a message may show it, also one that is none: without user and password, and without what follows `?` or `#`.
    public static func shown(_ text: String) -> String {
        guard let cut = text.firstRange(of: "//") else {
            guard let user = text.lastIndex(of: "@") else { return text }
            return "…" + text[user...]
        }
        let rest = text[cut.upperBound...]
        let authority = rest.drop { $0 == "/" }.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        var shown = rest
        if let user = authority.lastIndex(of: "@") {
            shown = rest[rest.index(after: user)...]
        } else if authority.contains(":"), let user = rest.lastIndex(of: "@") {
            // A password with a slash in it.
            shown = rest[rest.index(after: user)...]
        }
        // A bucket's prefix may have both.
        let isWeb = text[..<cut.lowerBound].lowercased().hasPrefix("http")
        let plain = isWeb ? shown.prefix { $0 != "?" && $0 != "#" } : shown
        return text[..<cut.upperBound] + plain + (plain.endIndex < shown.endIndex ? "…" : "")
    }
}

/// What a URL says of a mount.
public struct StorePlace: Sendable, Equatable {
    /// As `bucket:` in `mounts.yaml`.
    public var bucket: String
    /// As `prefix:`; empty: none.
    public var prefix: String

    public init(bucket: String, prefix: String = "") {
        self.bucket = bucket
        self.prefix = prefix
    }
}

/// How a provider's stores are written as URLs.
public struct StoreURLForm: Sendable {
    /// In lower case, such as `s3`; no two providers of a program share one.
    public var schemes: [String]
    /// For a person.
    public var example: String
    /// What a URL with one of the schemes means; nil when it is not of the form.
    public var place: @Sendable (StoreURL) -> StorePlace?

    public init(schemes: [String], example: String, place: @escaping @Sendable (StoreURL) -> StorePlace?) {
        self.schemes = schemes
        self.example = example
        self.place = place
    }

    /// `SCHEME://BUCKET/PREFIX`.
    public static func bucket(_ scheme: String) -> StoreURLForm {
        StoreURLForm(schemes: [scheme], example: "\(scheme)://bucket/prefix") { url in
            let parts = url.rest.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            guard let bucket = parts.first, !bucket.isEmpty else { return nil }
            return StorePlace(bucket: String(bucket), prefix: parts.count > 1 ? String(parts[1]) : "")
        }
    }

    /// `SCHEME:///PATH`, percent-encoded as RFC 8089 has it: the bucket is an absolute path.
    public static func path(_ scheme: String) -> StoreURLForm {
        StoreURLForm(schemes: [scheme], example: "\(scheme):///srv/folder") { url in
            let path = url.rest.hasPrefix("localhost/") ? String(url.rest.dropFirst("localhost".count)) : url.rest
            guard path.hasPrefix("/"), let decoded = decoded(path) else { return nil }
            return StorePlace(bucket: decoded)
        }
    }

    private static func decoded(_ text: String) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            guard digits.utf8.count == 2, digits.utf8.first != UInt8(ascii: "+"),
                digits.utf8.first != UInt8(ascii: "-"), let value = UInt8(digits, radix: 16), value != 0
            else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

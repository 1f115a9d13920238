import CloudMountHTTP
import CloudMountVFS

/// A URL of `http` or `https`, as far as a store's address has any: `http(s)://host[:port][/path]`.
public struct WebURL: Sendable, Hashable {
    public var isTLS: Bool
    /// In lower case; a literal of IPv6 with its brackets.
    public var host: String
    /// Nil: the scheme's own, 80 or 443.
    public var port: Int?
    /// Escaped as it was given, without a slash at its end; empty for the host itself.
    public var path: String

    public init(isTLS: Bool, host: String, port: Int? = nil, path: String = "") {
        self.isTLS = isTLS
        self.host = host
        self.port = port
        self.path = path
    }

    /// The address of a store, as a person writes it.
    /// - Returns: nil when it is none, or has a user, a query, a fragment, an escape, or a character that a URL cannot have.
    public init?(_ text: String) {
        self.init(text, to: text.endIndex)
        guard text.utf8.allSatisfy({ 0x21...0x7E ~= $0 && !"@?#%\\".utf8.contains($0) }) else { return nil }
    }

    /// Of any URL that an answer names: the part before its query or its fragment.
    /// - Returns: nil when it is none, or names a user.
    public init?(answered text: String) {
        self.init(text, to: text.firstIndex { $0 == "?" || $0 == "#" } ?? text.endIndex)
    }

    private init?(_ text: String, to end: String.Index) {
        var rest = text[..<end]
        if rest.hasPrefix("https://") {
            isTLS = true
            rest.removeFirst(8)
        } else if rest.hasPrefix("http://") {
            isTLS = false
            rest.removeFirst(7)
        } else {
            return nil
        }
        guard rest.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else { return nil }
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        var path = rest[slash...]
        while path.last == "/" { path.removeLast() }
        self.path = String(path)
        let authority = rest[..<slash]
        guard !authority.contains("@") else { return nil }
        let bracket = authority.first == "[" ? authority.firstIndex(of: "]") : nil
        guard authority.first != "[" || bracket != nil else { return nil }
        let colon = authority[(bracket ?? authority.startIndex)...].firstIndex(of: ":") ?? authority.endIndex
        host = authority[..<colon].lowercased()
        guard !host.isEmpty, bracket.map({ host.utf8.count > 4 && authority.index(after: $0) == colon }) ?? true else {
            return nil
        }
        if colon < authority.endIndex {
            let digits = authority[authority.index(after: colon)...]
            guard digits.utf8.allSatisfy({ 0x30...0x39 ~= $0 }), let number = Int(digits), 1...65_535 ~= number else {
                return nil
            }
            port = number == (isTLS ? 443 : 80) ? nil : number
        }
    }

    /// Any URL that an answer names, or what stands in its place, as a log may show it: what may be secret in it, user, query and fragment,
    /// is left out, and all beyond 200 characters.
    public static func shown(_ text: String) -> String {
        let bytes = text.utf8
        // What stands before the host's slash, with a scheme or without one.
        var start = bytes.startIndex
        if let slash = bytes.firstIndex(of: UInt8(ascii: "/")), bytes[slash...].starts(with: "//".utf8),
            slash == start || bytes[..<slash].last == UInt8(ascii: ":")
        {
            start = bytes.index(slash, offsetBy: 2)
        }
        let plain = bytes[start...].prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        let authority = plain.prefix { $0 != UInt8(ascii: "/") }
        var rest = plain
        if let user = authority.lastIndex(of: UInt8(ascii: "@")) {
            rest = plain[plain.index(after: user)...]
        } else if authority.count < plain.count || plain.endIndex < bytes.endIndex,
            let user = bytes[start...].lastIndex(of: UInt8(ascii: "@")), !isHost(authority)
        {
            // A password with a slash, a question mark or a hash in it: the host is behind it.
            rest = bytes[bytes.index(after: user)...].prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        }
        // A scheme without slashes stands before the user, and goes with it.
        return (String(decoding: bytes[..<start], as: UTF8.self) + String(decoding: rest, as: UTF8.self))
            .cut(to: 200).printable
    }

    /// With a port that is a number, or none.
    private static func isHost(_ authority: Substring.UTF8View) -> Bool {
        guard let colon = authority.lastIndex(of: UInt8(ascii: ":")) else { return true }
        return authority[authority.index(after: colon)...].allSatisfy { 0x30...0x39 ~= $0 }
            || authority.first == UInt8(ascii: "[")
    }

    /// What the `Host` header says: `host[:port]`.
    public var authority: String { port.map { "\(host):\($0)" } ?? host }

    /// `http(s)://host[:port]`
    public var origin: String { "\(isTLS ? "https" : "http")://\(authority)" }

    public var text: String { origin + path }

    /// What is sent there never leaves this machine.
    public var isLoopback: Bool { Loopback.isHost(host.utf8) }

    /// Whether requests for `other` go to the same place: scheme, host and port.
    public func hasOrigin(of other: WebURL) -> Bool {
        isTLS == other.isTLS && host == other.host && port == other.port
    }
}

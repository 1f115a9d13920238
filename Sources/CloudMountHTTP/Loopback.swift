/// This machine, as URLs name it.
public enum Loopback {
    /// - Parameter host: in lower case, without a port; a literal of IPv6 with its brackets.
    public static func isHost<Bytes: Collection<UInt8>>(_ host: Bytes) -> Bool {
        if host.elementsEqual("localhost".utf8) || host.elementsEqual("[::1]".utf8) { return true }
        // RFC 6761; libcurl asks nobody for their addresses.
        if host.count > 10, host.suffix(10).elementsEqual(".localhost".utf8) { return true }
        return host.starts(with: "127.".utf8) && host.allSatisfy { $0 == 0x2E || 0x30...0x39 ~= $0 }
    }

    /// Whether an `http` or `https` URL without a user has such a host.
    package static func isHost(ofURL url: String) -> Bool {
        let bytes = url.utf8
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")), bytes[colon...].starts(with: "://".utf8) else {
            return false
        }
        let rest = bytes[bytes.index(colon, offsetBy: 3)...]
        let authority = rest.prefix { $0 != 0x2F && $0 != 0x3F }
        if rest.first == 0x5B {
            guard let bracket = authority.firstIndex(of: 0x5D) else { return false }
            return isHost(authority[...bracket])
        }
        return isHost(authority.prefix { $0 != 0x3A })
    }
}

/// A JSON object as the body of a request; members in the order in which they were added.
public struct JSONObject: Sendable {
    /// UTF-8; whole at any time.
    public private(set) var bytes: [UInt8] = Array("{}".utf8)

    public init() {}

    private mutating func member(_ name: String) {
        bytes.removeLast()
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        append(name)
        bytes.append(UInt8(ascii: ":"))
    }

    private mutating func end() { bytes.append(UInt8(ascii: "}")) }

    /// Nil adds nothing.
    public mutating func add(_ name: String, _ value: String?) {
        guard let value else { return }
        member(name)
        append(value)
        end()
    }

    public mutating func add(_ name: String, _ value: Int) {
        member(name)
        bytes += "\(value)".utf8
        end()
    }

    /// Nil adds nothing.
    public mutating func add(_ name: String, _ value: JSONObject?) {
        guard let value else { return }
        member(name)
        bytes += value.bytes
        end()
    }

    public mutating func add(_ name: String, _ values: [String]) {
        member(name)
        bytes.append(UInt8(ascii: "["))
        for (index, value) in values.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            append(value)
        }
        bytes.append(UInt8(ascii: "]"))
        end()
    }

    private mutating func append(_ text: String) {
        bytes.append(0x22)
        for byte in text.utf8 {
            switch byte {
            case 0x22, 0x5C: bytes += [0x5C, byte]
            case ..<0x20: bytes += "\\u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16))".utf8
            default: bytes.append(byte)
            }
        }
        bytes.append(0x22)
    }
}

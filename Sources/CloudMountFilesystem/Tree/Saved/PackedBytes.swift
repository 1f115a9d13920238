import CloudMountVFS

/// Writes numbers and texts one behind the other: numbers in groups of seven bits, the lowest first, texts after their length.
struct PackedWriter {
    private(set) var bytes: [UInt8] = []

    mutating func number(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// - Parameter value: not below zero, else it is written as zero.
    mutating func count(_ value: Int) { number(UInt64(clamping: value)) }

    /// One that may be below zero.
    mutating func signed(_ value: Int) { number(UInt64(bitPattern: Int64((value << 1) ^ (value >> 63)))) }

    mutating func time(_ value: Timestamp) {
        signed(value.seconds)
        count(value.nanoseconds)
    }

    mutating func list(_ values: [UInt8]) {
        count(values.count)
        bytes += values
    }

    mutating func text(_ value: String) {
        count(value.utf8.count)
        bytes += value.utf8
    }

    /// As they are, without their length.
    mutating func raw(_ values: some Sequence<UInt8>) { bytes += values }
}

/// Reads what `PackedWriter` has written, whatever the bytes are.
struct PackedReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    static let damage = VFSError(.io, "what was saved of names is damaged")

    var isAtEnd: Bool { position == bytes.count }

    mutating func number() throws(VFSError) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: 0, to: UInt64.bitWidth, by: 7) {
            guard position < bytes.count else { throw Self.damage }
            let byte = bytes[position]
            position += 1
            guard shift < 63 || byte <= 1 else { throw Self.damage }
            value |= UInt64(byte & 0x7F) << UInt64(shift)
            if byte < 0x80 { return value }
        }
        throw Self.damage
    }

    /// - Parameter most: what it may be.
    mutating func count(most: Int = 1 << 53) throws(VFSError) -> Int {
        guard let value = Int(exactly: try number()), value <= most else { throw Self.damage }
        return value
    }

    mutating func signed() throws(VFSError) -> Int {
        let value = try number()
        return Int(truncatingIfNeeded: value >> 1) ^ -Int(truncatingIfNeeded: value & 1)
    }

    mutating func small() throws(VFSError) -> UInt32 {
        guard let value = UInt32(exactly: try number()) else { throw Self.damage }
        return value
    }

    mutating func time() throws(VFSError) -> Timestamp {
        let seconds = try signed()
        return Timestamp(seconds: seconds, nanoseconds: try count(most: 999_999_999))
    }

    mutating func list() throws(VFSError) -> [UInt8] { Array(try slice(try count())) }

    mutating func text() throws(VFSError) -> String {
        guard let text = String(validating: try slice(try count()), as: UTF8.self) else { throw Self.damage }
        return text
    }

    mutating func slice(_ count: Int) throws(VFSError) -> ArraySlice<UInt8> {
        guard count <= bytes.count - position else { throw Self.damage }
        defer { position += count }
        return bytes[position..<position + count]
    }

    /// - Parameter least: bytes that each takes at least.
    /// - Returns: how many things follow, no more than there is room for.
    mutating func items(least: Int) throws(VFSError) -> Int { try count(most: (bytes.count - position) / least) }
}

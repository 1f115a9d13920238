import CLinux

/// The checksum of RFC 3720, appendix B.4 (Castagnoli's polynomial), which processors compute. Tells damage, not malice.
package struct CRC32C: Sendable {
    private var register: UInt32 = .max

    package init() {}

    /// Of all bytes so far.
    package var value: UInt32 { ~register }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        if Self.isInProcessor, bytes.count >= 8, let start = bytes.baseAddress {
            register = cm_crc32c_words(register, start, bytes.count / 8)
            rest = bytes[(bytes.count / 8 * 8)...]
        }
        for byte in rest {
            register = Self.table[Int((register ^ UInt32(byte)) & 0xFF)] ^ (register >> 8)
        }
    }

    private static let isInProcessor = cm_has_crc32c() != 0

    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 0 ? value >> 1 : value >> 1 ^ 0x82F6_3B78 }
    }
}

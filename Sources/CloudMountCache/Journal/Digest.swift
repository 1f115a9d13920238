import CloudMountVFS

/// FNV-1a of 64 bits: tells damage, and no more than that. Any change of one byte changes it.
struct Digest {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var value = value
        for byte in bytes { value = (value ^ UInt64(truncatingIfNeeded: byte)) &* 0x100_0000_01B3 }
        self.value = value
    }

    mutating func add(_ word: UInt64) {
        for shift in stride(from: 0, to: 64, by: 8) {
            value = (value ^ (word >> shift & 0xFF)) &* 0x100_0000_01B3
        }
    }

    /// With its length, so that no byte can move over to the next text.
    mutating func add(_ text: String) {
        var text = text
        text.withUTF8 { utf8 in
            add(UInt64(truncatingIfNeeded: utf8.count))
            add(UnsafeRawBufferPointer(utf8))
        }
    }
}

extension Journal.Record {
    /// Of all fields, the id too.
    package var digest: UInt64 {
        var digest = Digest()
        digest.add(UInt64(bitPattern: id))
        digest.add(mount)
        digest.add(key.string)
        // A length that no text has stands for nil.
        if let staged { digest.add(staged) } else { digest.add(.max) }
        digest.add(UInt64(truncatingIfNeeded: payload.count))
        payload.withUnsafeBytes { digest.add($0) }
        return digest.value
    }
}

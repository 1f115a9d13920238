/// What every 16 bytes of a written content say: who wrote them, by which write, and where.
struct Block: Hashable {
    /// The other client; programs of the mount count from 1.
    static let foreign: UInt16 = 100
    static let size = 16
    private static let magic: UInt16 = 0xC10D

    var writer: UInt16
    var number: UInt32
    var offset: Int

    /// What a program writes at `offset`, which is a multiple of 16.
    static func bytes(_ writer: UInt16, _ number: UInt32, at offset: Int, count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        for place in stride(from: offset, to: offset + count, by: size) {
            withUnsafeBytes(of: magic.littleEndian) { bytes += $0 }
            withUnsafeBytes(of: writer.littleEndian) { bytes += $0 }
            withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
            withUnsafeBytes(of: UInt64(place).littleEndian) { bytes += $0 }
        }
        return bytes
    }

    /// What a content says of itself.
    struct Content {
        var blocks: [Block] = []
        /// Places whose bytes are nobody's, or somebody's from another place.
        var torn: [Int] = []
        var foreign: Set<UInt32> = []
    }

    /// - Parameter start: where `bytes` begin in the file.
    static func parse(_ bytes: [UInt8], at start: Int = 0) -> Content {
        var content = Content()
        content.blocks.reserveCapacity(bytes.count / size)
        bytes.withUnsafeBytes { raw in
            for place in stride(from: 0, to: raw.count, by: size) {
                guard place + size <= raw.count else {
                    content.torn.append(start + place)
                    return
                }
                let head = raw.loadUnaligned(fromByteOffset: place, as: UInt64.self).littleEndian
                let offset = raw.loadUnaligned(fromByteOffset: place + 8, as: UInt64.self).littleEndian
                if head == 0, offset == 0 { continue }
                guard UInt16(truncatingIfNeeded: head) == magic, offset == UInt64(start + place) else {
                    content.torn.append(start + place)
                    continue
                }
                let block = Block(
                    writer: UInt16(truncatingIfNeeded: head >> 16), number: UInt32(truncatingIfNeeded: head >> 32),
                    offset: start + place)
                content.blocks.append(block)
                if block.writer == foreign { content.foreign.insert(block.number) }
            }
        }
        return content
    }
}

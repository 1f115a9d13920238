import CloudMountPlatform
import CloudMountVFS
import Glibc

/// `DIRECTORY/state.mark`: how far the journal had come, beside it. SQLite takes a log that is cut or damaged for one whose end
/// was never written, and says nothing; the mark, written after the commit it tells of, is never ahead of the journal.
///
/// It is a witness, not the truth: when it is gone or damaged itself, nothing is concluded.
struct JournalMark: Equatable {
    /// Of the last transaction.
    var sequence: Int64 = 0
    /// Which start of the journal this is, from 1: the upper half of the ids that it gives.
    var run: Int64 = 0
    /// A write has found the file damaged.
    var isSuspect = false

    private static let magic: UInt64 = 0x434D_4A4D_4152_4B31  // "CMJMARK1"
    private static let size = 40

    private var bytes: [UInt8] {
        var words = [Self.magic, UInt64(bitPattern: sequence), UInt64(bitPattern: run), isSuspect ? 1 : 0]
        words.append(Self.digest(words))
        return words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
    }

    private static func digest(_ words: [UInt64]) -> UInt64 {
        var digest = Digest()
        for word in words { digest.add(word) }
        return digest.value
    }

    init() {}

    /// Nil when there is none, or none that was written by us.
    init?(_ file: Descriptor) {
        var bytes = [UInt8](repeating: 0, count: Self.size)
        guard pread(file.raw, &bytes, Self.size, 0) == Self.size else { return nil }
        let words = (0..<5).map { index in
            (0..<8).reduce(0 as UInt64) { $0 | UInt64(truncatingIfNeeded: bytes[index * 8 + $1]) << (8 * $1) }
        }
        guard words[0] == Self.magic, words[4] == Self.digest(Array(words[..<4])) else { return nil }
        (sequence, run) = (Int64(bitPattern: words[1]), Int64(bitPattern: words[2]))
        isSuspect = words[3] != 0
    }

    /// A failure is of no consequence: the witness then knows less.
    func write(to file: Descriptor) {
        let bytes = bytes
        _ = pwrite(file.raw, bytes, bytes.count, 0)
    }
}

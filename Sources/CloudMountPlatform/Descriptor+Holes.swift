import CLinux
import Glibc

extension Descriptor {
    /// Gives the extent's space back to the file system; its bytes then read as zeros and the size stays.
    /// - Returns: false when the file system cannot (fallocate(2), FALLOC_FL_PUNCH_HOLE).
    public func punchHole(offset: Int, count: Int) -> Bool {
        while count > 0, cm_fallocate(raw, 3, offset, count) != 0 { if errno != EINTR { return false } }
        return true
    }

    /// The next bytes of a file from `offset` on, and before `end`, that are not known to be a hole; nil when there are none.
    public func data(from offset: Int, before end: Int) -> Range<Int>? {
        guard offset < end else { return nil }
        // SEEK_DATA and SEEK_HOLE of lseek(2). Where the file system knows no holes, all is data.
        let start = lseek(raw, offset, 3)
        if start < 0 { return errno == ENXIO ? nil : offset..<end }
        guard start < end else { return nil }
        let hole = lseek(raw, start, 4)
        return Int(start)..<(hole > start ? min(end, Int(hole)) : end)
    }

    /// `ftruncate(2)`.
    public func setSize(_ size: Int) throws(SystemError) { try SystemError.check { ftruncate(raw, size) } }
}

extension UnsafeRawBufferPointer {
    /// Whether all bytes are zero. Stops at the first that is not.
    public var isZero: Bool {
        guard let first, first == 0, let start = baseAddress else { return isEmpty }
        return memcmp(start, start + 1, count - 1) == 0
    }
}

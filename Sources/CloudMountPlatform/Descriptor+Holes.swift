import CLinux
import Glibc

extension Descriptor {
    /// Gives the extent's space back to the file system; its bytes then read as zeros and the size stays.
    /// - Returns: false when the file system cannot (fallocate(2), FALLOC_FL_PUNCH_HOLE).
    public func punchHole(offset: Int, count: Int) -> Bool {
        while count > 0, cm_fallocate(raw, 3, offset, count) != 0 { if errno != EINTR { return false } }
        return true
    }
}

import CLinux
import Glibc

extension Descriptor {
    /// Reads at `offset` what the kernel has in its page cache, without waiting for a disk (preadv2(2), RWF_NOWAIT).
    /// - Returns: the number of bytes, 0 at the end; nil when the disk, or a file system that cannot tell, would have to be
    ///   asked.
    public func readNow(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        while true {
            let count = cm_read_now(raw, buffer.baseAddress, buffer.count, offset)
            if count >= 0 { return count }
            if errno != EINTR { return nil }
        }
    }
}

/// Whether what lies in the directory `path` is in memory, on no disk (tmpfs), so that no read of it waits for one.
public func isInMemory(directory path: String) -> Bool { cm_is_on_tmpfs(path) != 0 }

import CLinux
import Glibc

extension Descriptor {
    public enum Purpose: Sendable {
        case reading
        case directory
        /// The name itself, a symbolic link too: neither read nor written, only held.
        case itself
        /// A new file for reading and writing; EEXIST when there is one.
        case creating
    }

    /// Opens `path` relative to this directory. No symbolic link is followed, and nothing outside is ever reached,
    /// whatever `path` says and whoever changes the tree meanwhile (openat2(2), Linux 5.6).
    public func open(_ path: String, for purpose: Purpose) throws(SystemError) -> Descriptor {
        let flags =
            switch purpose {
            // Non-blocking, since a fifo would hold the thread; without effect on files.
            case .reading: O_RDONLY | O_NONBLOCK
            case .directory: O_RDONLY | O_DIRECTORY
            case .itself: 0o10000000 | O_NOFOLLOW  // O_PATH
            case .creating: O_RDWR | O_CREAT | O_EXCL
            }
        return Descriptor(owning: try SystemError.check { cm_open_beneath(raw, path, flags, 0o666) })
    }

    /// Gives what has `name` in this directory the name `newName` in `target`, which nothing may have (renameat2(2) with RENAME_NOREPLACE).
    /// - Throws: EEXIST; EINVAL where the file system cannot do it in one step.
    public func rename(_ name: String, to newName: String, in target: Descriptor) throws(SystemError) {
        try SystemError.check { cm_rename_new(raw, name, target.raw, newName) }
    }

    /// Copies bytes from this file to `target`: in the kernel where the file systems agree to it, without moving them where
    /// they can share them (copy_file_range(2)).
    public func copy(from offset: Int, count: Int, to target: Descriptor, at targetOffset: Int) throws(SystemError) {
        var from = off_t(offset)
        var to = off_t(targetOffset)
        let end = offset + count
        while from < end {
            let copied = cm_copy_file_range(raw, &from, target.raw, &to, end - Int(from))
            if copied > 0 { continue }
            switch copied == 0 ? EIO : errno {
            case EINTR: continue
            case EXDEV, ENOSYS, EOPNOTSUPP, EINVAL:
                return try copyThroughMemory(from: Int(from), to: target, at: Int(to), count: end - Int(from))
            case let code: throw SystemError(code)
            }
        }
    }

    private func copyThroughMemory(
        from offset: Int, to target: Descriptor, at targetOffset: Int, count: Int
    ) throws(SystemError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(count, 1 << 20), alignment: 4096)
        defer { buffer.deallocate() }
        var done = 0
        while done < count {
            let got = try SystemError.check {
                pread(raw, buffer.baseAddress, min(buffer.count, count - done), offset + done)
            }
            if got == 0 { throw SystemError(EIO) }
            try target.write(UnsafeRawBufferPointer(rebasing: buffer[..<got]), at: targetOffset + done)
            done += got
        }
    }

    /// Writes all of `bytes` (pwrite(2)).
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = try SystemError.check {
                pwrite(raw, bytes.baseAddress.map { $0 + done }, bytes.count - done, offset + done)
            }
            // Not to be expected, and not to be repeated for ever.
            if count == 0 { throw SystemError(EIO) }
            done += count
        }
    }
}

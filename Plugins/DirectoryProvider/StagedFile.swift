import CloudMountPlatform
import CloudMountVFS
import Glibc

/// A file under construction in the staging folder; removed unless it is given its place.
final class StagedFile {
    let file: Descriptor
    let name = "p" + DirectoryRecord.newNonce()
    private(set) var count = 0
    private let folder: Folder
    private let records: DirectoryRecords
    private let directory: Descriptor
    private var isPlaced = false
    /// What the umask, or the folder's default ACL, leaves of a file that everybody may read and write.
    private let mostPermissions: mode_t

    /// - Parameter directory: on the folder's file system; nil: where all is staged.
    init(in records: DirectoryRecords, directory: Descriptor? = nil) throws(VFSError) {
        let folder = records.folder
        guard folder.writable else {
            throw VFSError(.readOnly, "the folder \(folder.path) was opened for reading only")
        }
        self.folder = folder
        self.records = records
        let name = name
        let given = directory ?? folder.staging
        (self.directory, file, mostPermissions) = try system("staging in \(folder.path)") { () throws(SystemError) in
            let directory = try folder.own(given)
            let file = try directory.open(name, for: .creating)
            do throws(SystemError) {
                let most = try file.status().st_mode & 0o777
                // Nobody else reads the bytes before it is known who may.
                try file.setPermissions(0o600)
                return (directory, file, most)
            } catch {
                unlinkat(directory.raw, name, 0)
                throw error
            }
        }
    }

    deinit { if !isPlaced { unlinkat(directory.raw, name, 0) } }

    /// Zeros that make up so much become holes: a file may be far larger than its bytes.
    private static let leastHole = 64 << 10

    func fill(from source: any ByteSource) throws(VFSError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(1, min(source.count, 1 << 20)), alignment: 4096)
        defer { buffer.deallocate() }
        var position = 0
        while position < source.count {
            let wanted = min(buffer.count, source.count - position)
            let got = try source.read(at: position, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]))
            guard got > 0 else { throw VFSError(.io, "the bytes to store ended early") }
            try append(UnsafeRawBufferPointer(rebasing: buffer[..<got]), leavingHoles: true)
            position += got
        }
        try setSize()
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(VFSError) { try append(bytes, leavingHoles: false) }

    /// A hole at the end is made by `setSize`.
    private func append(_ bytes: UnsafeRawBufferPointer, leavingHoles: Bool) throws(VFSError) {
        let start = count
        try system("writing to \(folder.path)") { () throws(SystemError) in
            guard leavingHoles else { return try file.write(bytes, at: start) }
            for offset in stride(from: 0, to: bytes.count, by: Self.leastHole) {
                let part = UnsafeRawBufferPointer(
                    rebasing: bytes[offset..<min(bytes.count, offset + Self.leastHole)])
                if part.count == Self.leastHole, part.isZero { continue }
                try file.write(part, at: start + offset)
            }
        }
        count += bytes.count
    }

    func append(_ extent: Extent, of other: Descriptor) throws(VFSError) {
        try system("writing to \(folder.path)") { () throws(SystemError) in
            var position = extent.lowerBound
            while let data = other.data(from: position, before: extent.upperBound) {
                try other.copy(
                    from: data.lowerBound, count: data.count, to: file, at: count + data.lowerBound - extent.lowerBound)
                position = data.upperBound
            }
        }
        count += extent.count
        try setSize()
    }

    /// What ends in a hole is as long as its bytes say.
    private func setSize() throws(VFSError) {
        let count = count
        try system("writing to \(folder.path)") { () throws(SystemError) in try file.setSize(count) }
    }

    /// Gives the file its mtime, its record, and of the permissions that it has in the mount those that files are given here.
    func describe(_ metadata: ObjectMetadata) throws(VFSError) {
        // Its owner goes on reading it, and may write beside it what it is.
        let mode = mostPermissions & (Self.permissions(metadata) | 0o600)
        try system("writing to \(folder.path)") { () throws(SystemError) in
            try file.setPermissions(mode)
            if let modified = metadata.modified {
                var times = [timespec(), timespec()]
                // The access time stays: UTIME_OMIT of utimensat(2).
                times[0].tv_nsec = (1 << 30) - 2
                times[1] = timespec(tv_sec: modified.seconds, tv_nsec: modified.nanoseconds)
                try SystemError.check { futimens(file.raw, times) }
            }
            var record = DirectoryRecord(metadata: metadata)
            record.fileModified = try file.status().modified
            try records.write(record, of: file)
        }
    }

    /// Those of `st_mode` as the metadata has it, octal with a zero before it, else decimal; all where it says nothing.
    private static func permissions(_ metadata: ObjectMetadata) -> mode_t {
        guard let text = metadata.user["mode"], let mode = UInt32(text, radix: text.hasPrefix("0") ? 8 : 10) else {
            return 0o777
        }
        return mode & 0o777
    }

    /// Moves the file to `name` in `directory`, in the place of whatever file is there.
    /// - Returns: false when a directory, a fifo, a socket or a device is in the way, or no file can have that name.
    func place(_ name: String, in directory: Descriptor) throws(VFSError) -> Bool {
        let replaced = try? records.leaving(name, in: directory)
        // It is no object, and so not ours to replace.
        if let replaced, ![S_IFREG, S_IFLNK].contains(replaced.status.kind) { return false }
        if renameat(self.directory.raw, self.name, directory.raw, name) != 0 {
            let error = SystemError(errno)
            if [EISDIR, ENOTEMPTY, EEXIST, ENAMETOOLONG, EINVAL, EILSEQ].contains(error.code) { return false }
            throw DirectoryErrors.map(error, "storing “\(name)” in \(folder.path)")
        }
        isPlaced = true
        if let replaced { records.remove(replaced) }
        return true
    }

    func placed() { isPlaced = true }
}

extension Descriptor {
    /// Where the file system has any.
    fileprivate func setPermissions(_ mode: mode_t) throws(SystemError) {
        do throws(SystemError) {
            try SystemError.check { fchmod(raw, mode) }
        } catch {
            guard [EPERM, ENOTSUP, ENOSYS].contains(error.code) else { throw error }
        }
    }
}

import CloudMountPlatform
public import CloudMountVFS
import Glibc

/// What is kept of a file that is never stored by itself, as `cloudmount recover --json` prints it. Members are added to it, never
/// renamed or taken away.
public struct KeptFile: Codable, Sendable, Equatable {
    /// By which it is asked for; of this cache directory.
    public var name: String
    /// Of bytes that no record names, what their name says.
    public var mount: String
    /// From the root of the mount on; nil: nobody knows.
    public var key: String?
    /// Bytes of the file as it was written; nil: nobody knows.
    public var size: Int?
    /// That are kept, on disk.
    public var bytes: Int
    /// Seconds since 1970.
    public var since: Int
    /// Why it is not stored.
    public var reason: String
    /// The file that has the bytes; empty: there is none.
    public var place: String
    /// All bytes of the file are kept; nil: nobody knows.
    public var isWhole: Bool?
    /// Offset and count of each range that is kept, one after the other. Told of one that was asked for by name; nil: all that is in `place`.
    public var ranges: [Int]?

    /// `since` for a person, in UTC.
    public var sinceText: String { TerminalLog.utc(Timestamp(seconds: since)) }

    /// What `copy` has done.
    public struct Copied: Sendable, Equatable {
        /// Of the new file.
        public var size: Int
        /// That are the file's; what is between them is zeros.
        public var ranges: [Extent]
    }

    /// Copies the bytes that are kept to a new file of this user's, where they belong. Blocks.
    /// - Throws: `alreadyExists`; `noData` when nothing is kept; `io`, also when the bytes are not all there any more, and `noSpace`: no file
    ///   is left then.
    public func copy(to path: String) throws(VFSError) -> Copied {
        guard !place.isEmpty else { throw VFSError(.noData, "no bytes of \(key ?? name) are kept") }
        let raw = open(place, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard raw >= 0 else { throw localError("\(place) cannot be opened") }
        let source = Descriptor(owning: raw)
        var status = stat()
        guard fstat(raw, &status) == 0 else { throw localError("\(place) cannot be read") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw VFSError(.io, "\(place) is no file") }
        let size = size ?? Int(status.st_size)
        var kept: [Extent] = []
        if let ranges {
            for index in stride(from: 0, to: ranges.count - 1, by: 2) {
                let (end, isBeyond) = ranges[index].addingReportingOverflow(ranges[index + 1])
                guard ranges[index] >= 0, ranges[index + 1] >= 0, !isBeyond, end <= size else {
                    throw VFSError(.malformedResponse, "the daemon names bytes that are not in the file")
                }
                kept.append(Extent(ranges[index], end))
            }
        } else {
            var offset = 0
            while let data = source.data(from: offset, before: min(size, Int(status.st_size))) {
                kept.append(Extent(data.lowerBound, data.upperBound))
                offset = data.upperBound
            }
        }
        let target = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard target >= 0 else {
            if errno == EEXIST { throw VFSError(.alreadyExists, "\(path) exists already") }
            throw localError("\(path) cannot be made")
        }
        let copy = Descriptor(owning: target)
        do throws(VFSError) {
            guard ftruncate(target, size) == 0 else { throw localError("\(path) cannot be written") }
            for extent in kept { try Self.copy(extent, from: (source, place), to: (copy, path)) }
            guard fsync(target) == 0 else { throw localError("\(path) cannot be synced") }
        } catch {
            unlink(path)
            throw error
        }
        return Copied(size: size, ranges: kept)
    }

    private static func copy(
        _ extent: Extent, from source: (file: Descriptor, path: String), to target: (file: Descriptor, path: String)
    ) throws(VFSError) {
        var buffer = [UInt8](repeating: 0, count: min(extent.count, 1 << 20))
        var offset = extent.lowerBound
        while offset < extent.upperBound {
            let wanted = min(buffer.count, extent.upperBound - offset)
            let count = pread(source.file.raw, &buffer, wanted, offset)
            if count < 0, errno == EINTR { continue }
            if count < 0 { throw localError("\(source.path) cannot be read") }
            if count == 0 { throw VFSError(.io, "bytes of \(source.path) are gone") }
            var done = 0
            while done < count {
                let written = buffer[done..<count].withUnsafeBytes {
                    pwrite(target.file.raw, $0.baseAddress, $0.count, offset + done)
                }
                if written < 0, errno == EINTR { continue }
                guard written > 0 else { throw localError("\(target.path) cannot be written") }
                done += written
            }
            offset += count
        }
    }
}

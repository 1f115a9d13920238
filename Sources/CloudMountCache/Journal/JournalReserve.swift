import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

/// `DIRECTORY/state.reserve`: room on the disk that is given back when there is no other: to bring the log into the file, and for
/// removals. Else what is stored could not be taken out of the journal, nor its bytes off the full disk.
final class JournalReserve: Sendable {
    /// What SQLite lets its log grow to before it brings it into the file, or less where that is not to be had.
    private static let sizes = [4 << 20, 1 << 20, 256 << 10]

    private let file: Descriptor
    private let held = Mutex(0)

    init(_ path: String) throws(VFSError) {
        file = try openOwnFile(path)
        hold()
    }

    /// As far as there is room for it.
    func hold() {
        held.withLock { held in
            for size in Self.sizes where size > held {
                if posix_fallocate(file.raw, 0, size) == 0 { return held = size }
            }
        }
    }

    func release() {
        held.withLock { held in
            held = 0
            ftruncate(file.raw, 0)
        }
    }
}

import CloudMountVFS
import Glibc
import Synchronization

/// What the daemon asks of the system for itself.
enum ProcessLimits {
    /// Connections of the process, all endpoints together.
    static let connections = 1024

    /// How many one of so many endpoints may have: its own part, so that none waits for another's.
    static func connections(endpoints count: Int) -> Int {
        min(96, max(4, min(connections, descriptors() / 4) / max(1, count)))
    }

    /// How many files the process may have open: half of them for mounts, a quarter for connections, the rest for staged
    /// files and for itself.
    static func descriptors() -> Int {
        var files = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 else { return 256 }
        return Int(clamping: files.rlim_cur)
    }

    static func apply() {
        var files = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 {
            files.rlim_cur = min(files.rlim_max, 1 << 20)
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
        }
        // Secrets are in memory. A limit of 1 also stops dumps that are piped to a program, which 0 does not (core(5)).
        var core = rlimit(rlim_cur: 1, rlim_max: 1)
        if setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &core) != 0 {
            core = rlimit(rlim_cur: 0, rlim_max: 0)
            setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &core)
        }
    }
}

/// How many mounts the process has descriptors for, and has.
final class MountPlaces: Sendable {
    /// The connection to the kernel, a folder's own, and one to spare.
    private static let descriptorsPerMount = 3

    private let descriptors: Int
    private let most: Int
    private let taken = Mutex(0)

    init(descriptors: Int = ProcessLimits.descriptors()) {
        self.descriptors = descriptors
        most = max(1, descriptors / 2 / Self.descriptorsPerMount)
    }

    /// One mount's place, for as long as it is kept.
    final class Place: Sendable {
        private let places: MountPlaces
        fileprivate init(_ places: MountPlaces) { self.places = places }
        deinit { places.taken.withLock { $0 -= 1 } }
    }

    func take() throws(VFSError) -> Place {
        let isFree = taken.withLock { taken in
            guard taken < most else { return false }
            taken += 1
            return true
        }
        guard isFree else {
            throw VFSError(
                .noSpace,
                "the process may have \(descriptors) files open, enough for \(most) mounts: raise the limit (ulimit -n, or "
                    + "LimitNOFILE= of systemd)")
        }
        return Place(self)
    }
}

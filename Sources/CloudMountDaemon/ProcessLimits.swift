import Glibc

/// What the daemon asks of the system for itself.
enum ProcessLimits {
    /// Connections of the process, all endpoints together.
    static let connections = 1024

    /// How many one of so many endpoints may have: its own part, so that none waits for another's.
    static func connections(endpoints count: Int) -> Int { min(96, max(4, descriptors() / max(1, count))) }

    /// Connections that the process's descriptors allow: half of them, for the other half is for files.
    private static func descriptors() -> Int {
        var files = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 else { return 128 }
        return min(connections, Int(clamping: files.rlim_cur) / 2)
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

import Glibc

/// Threads of this process that stand in one and the same wait for a local disk: a value, without a clock of its own.
///
/// Such a wait is ended by the disk alone. A process that is killed meanwhile stays until then, with its lock on the cache, and all that was
/// written and not closed is lost.
struct DiskWaits {
    struct Thread: Sendable, Hashable {
        var id: Int
        /// How often it has gone to sleep: the same number says that it is the same sleep.
        var sleeps: Int
    }

    private var since: [Thread: ContinuousClock.Instant] = [:]

    /// - Parameter threads: that wait for a disk now.
    /// - Returns: how long the one has waited, by looks, that has waited longest.
    mutating func look(at now: ContinuousClock.Instant, _ threads: [Thread]) -> Duration {
        let before = since
        since = [:]
        for thread in threads { since[thread] = before[thread] ?? now }
        return since.values.min().map { now - $0 } ?? .zero
    }

    /// Those in state D (proc(5)): neither runs nor can be interrupted.
    static func current() -> [Thread] {
        guard let tasks = opendir("/proc/self/task") else { return [] }
        defer { closedir(tasks) }
        var threads: [Thread] = []
        while let entry = readdir(tasks) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let id = Int(name), let thread = thread(id) else { continue }
            threads.append(thread)
        }
        return threads
    }

    private static func thread(_ id: Int) -> Thread? {
        let descriptor = open("/proc/self/task/\(id)/status", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = read(descriptor, &bytes, bytes.count)
        let lines = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).split(separator: "\n")
        func value(_ key: String) -> Substring? {
            lines.first { $0.hasPrefix(key) }.map { $0.dropFirst(key.count).drop { $0 == "\t" || $0 == " " } }
        }
        guard let state = value("State:"), state.first == "D", let sleeps = value("voluntary_ctxt_switches:"),
            let sleeps = Int(sleeps)
        else { return nil }
        return Thread(id: id, sleeps: sleeps)
    }
}

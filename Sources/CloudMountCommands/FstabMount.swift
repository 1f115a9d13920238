import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Glibc

/// `mount.cloudmount SOURCE PATH [-o OPTIONS]`, as mount(8) calls it for a line of fstab: mounts in the background, or says why not. A
/// source is a mount's name in the file, or a URL.
struct FstabMount {
    struct Fault: Error { var message: String }

    /// What is mount(8)'s own affair, or always so.
    private static let ignored: Set<String> = [
        "ro", "rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev",
        "nosuid", "nodev", "suid", "dev", "exec", "noexec", "symfollow", "nosymfollow", "async", "dirsync", "atime",
        "noatime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "diratime",
        "nodiratime", "silent", "loud", "nomand", "mand", "iversion", "noiversion",
    ]
    /// The same with a value.
    private static let ignoredKeys: Set<String> = ["user", "uhelper", "comment"]

    private let program: MountProgram
    private let isURL: Bool

    init(_ program: MountProgram) {
        self.program = program
        isURL = StoreURL(program.source) != nil
    }

    /// The command that does it.
    func words() throws(Fault) -> [String] {
        guard !program.path.isEmpty, !program.source.isEmpty else {
            throw Fault(message: "mount.cloudmount is called by mount(8): mount.cloudmount NAME|URL PATH [-o OPTIONS]")
        }
        let name =
            program.source.hasPrefix("cloudmount:")
            ? String(program.source.dropFirst("cloudmount:".count)) : program.source
        var words = ["mount"]
        // The same at boot, where there is no home, as by hand: nobody's own file says what root mounts.
        if geteuid() == 0, !program.options.contains(where: { $0.hasPrefix("config=") }) {
            words += ["-f", UserPlaces.systemConfigurationFile]
        }
        for option in program.options where !Self.ignored.contains(option) {
            let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            if parts[0].hasPrefix("x-") || parts.count == 2 && Self.ignoredKeys.contains(parts[0]) { continue }
            guard parts.count == 2 else {
                throw Fault(
                    message: "mount.cloudmount knows no option '\(option)'; what a mount is like stands in mounts.yaml")
            }
            switch parts[0] {
            case "config": words += ["-f", parts[1]]
            case "log_file": words += ["--log-file", parts[1]]
            case "profile", "endpoint", "cache", "credentials",
                "name" where isURL:
                words += ["--" + parts[0], parts[1]]
            case _ where isURL: words += ["--option", option]
            default:
                throw Fault(
                    message:
                        "mount.cloudmount knows no option '\(parts[0])'; what a mount is like stands in mounts.yaml")
            }
        }
        // They are the daemon's from the start: nothing is ever writable that was to be read-only.
        for (on, off) in [("ro", "rw"), ("noexec", "exec"), ("nosymfollow", "symfollow")]
        where isLast(on, before: off) {
            words.append("--" + on)
        }
        words += ["--detach", "--helper"]
        return words + (isURL ? ["--", program.source, program.path] : ["--at", program.path, "--", name])
    }

    /// The last word counts, as for mount(8), which itself adds what `user` stands for.
    private func isLast(_ on: String, before off: String) -> Bool {
        program.options.last { $0 == on || $0 == off } == on
    }
}

import CloudMountDaemon
import CloudMountVFS
import Glibc

/// `mount.cloudmount SOURCE PATH [-o OPTIONS]`, as mount(8) calls it for a line of fstab: mounts in the background, or says why not. A
/// source is a mount's name in the file, or a URL.
struct FstabMount {
    struct Fault: Error { var message: String }

    /// What is mount(8)'s own affair, or always so.
    private static let ignored: Set<String> = [
        "rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "nosuid",
        "nodev",
        "suid", "dev", "exec", "async", "atime", "noatime", "relatime", "norelatime", "strictatime", "lazytime",
        "diratime",
        "nodiratime", "silent", "loud", "nomand", "mand", "iversion", "noiversion",
    ]

    private let program: MountProgram
    let isReadOnly: Bool
    private let isURL: Bool

    init(_ program: MountProgram) {
        self.program = program
        isReadOnly = program.options.last { $0 == "ro" || $0 == "rw" } == "ro"
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
        for option in program.options where !Self.ignored.contains(option) && option != "ro" {
            let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            if parts[0].hasPrefix("x-") || parts[0] == "comment" { continue }
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
        words.append("--detach")
        if isURL {
            if isReadOnly { words.append("--read-only") }
            return words + ["--helper", "--", program.source, program.path]
        }
        return words + ["--helper", "--at", program.path, "--", name]
    }

    /// A mount that the file has writable is made read-only by the kernel and the daemon.
    func finish() -> (status: Int32, message: String?) {
        guard isReadOnly, !isURL else { return (0, nil) }
        let remount = MountProgram(
            arguments: ["mount.fuse.cloudmount", program.source, program.path, "-o", "remount,ro"])
        return remount?.run(environment: ConfigurationFile.environment) ?? (0, nil)
    }
}

import CloudMountConfig
import CloudMountFUSE
import CloudMountVFS
import Glibc

/// What mount(8) calls for the types `cloudmount` and `fuse.cloudmount`: `mount.cloudmount SOURCE PATH [-sfnvN] [-o OPTIONS]`. This
/// serves `mount -o remount,ro PATH` and `remount,rw`: the kernel refuses and allows changes, and the daemon is told.
///
/// The helper makes the system call itself, for the daemon may not be root, or not see the path.
public struct MountProgram {
    private static let usage = "mount.fuse.cloudmount NAME PATH -o remount,ro|rw"

    /// A mount's name, `cloudmount:NAME`, or a URL; empty when none was given.
    public let source: String
    public let path: String
    public let options: [String]
    /// `-f`: nothing is to be done.
    public let isFake: Bool

    /// - Parameter arguments: of the process, its name first.
    /// - Returns: nil when the process was not called as the helper. Without a link of that name, mount(8) calls
    ///   `cloudmount SOURCE PATH -o OPTIONS`, and a source begins with `cloudmount:`.
    public init?(arguments: [String]) {
        guard let program = arguments.first?.split(separator: "/").last, !program.isEmpty else { return nil }
        let isHelper = program == "mount.fuse.cloudmount" || program == "mount.cloudmount"
        guard isHelper || arguments.count >= 2 && arguments[1].hasPrefix("cloudmount:") else { return nil }
        source = arguments.count > 1 ? arguments[1] : ""
        path = arguments.count > 2 ? arguments[2] : ""
        var options: [String] = []
        for (index, word) in arguments.enumerated().dropFirst(3) where arguments[index - 1] == "-o" {
            options += word.split(separator: ",").map(String.init)
        }
        self.options = options
        isFake = arguments.dropFirst(3).contains { word in
            word.hasPrefix("-") && !word.hasPrefix("-o") && word.dropFirst().contains("f")
        }
    }

    public var isRemount: Bool { options.contains("remount") }

    /// Blocks.
    /// - Parameter environment: for where a daemon listens that does not say so itself.
    /// - Returns: the exit status that mount(8) expects, and what to say.
    public func run(environment: [String: String]) -> (status: Int32, message: String?) {
        guard isRemount, !path.isEmpty else { return (1, Self.usage) }
        // The last word counts, as for mount(8).
        let readOnly = options.last { $0 == "ro" || $0 == "rw" } == "ro"
        do throws(VFSError) {
            let target = try FUSEMount.resolve(path)
            let owner = FUSEMount.owner(of: target)
            // The mount says where its daemon listens, and may be a stranger's.
            let socket =
                FUSEMount.controlSocket(of: target) ?? Self.socket(owner: owner, environment: environment)
            let client = ControlClient(socket: socket, owners: owner.map { [$0] })
            let remarks = try ask(client, ControlRequest(.remount, target: target, readOnly: readOnly))
            try FUSEMount.remount(target, options: options, readOnly: readOnly)
            _ = try ask(client, ControlRequest(.remount, target: target, readOnly: readOnly, done: true))
            return (0, remarks.isEmpty ? nil : remarks.joined(separator: "\n"))
        } catch {
            return (32, error.message)
        }
    }

    /// Where the daemon of a mount listens by default: that of another user does not even let root ask its mount, without
    /// allow_other.
    static func socket(owner: UInt32?, environment: [String: String]) -> String {
        guard let owner, owner != geteuid() else { return UserPlaces(environment: environment).controlSocket }
        let places = UserPlaces(environment: ["XDG_RUNTIME_DIR": "/run/user/\(owner)"], uid: owner, gid: 0)
        return places.controlSocket
    }

    private func ask(_ client: ControlClient, _ request: ControlRequest) throws(VFSError) -> [String] {
        let answer = try client.ask(request)
        guard answer.ok else { throw VFSError(.readOnly, answer.error ?? "refused") }
        return answer.remarks ?? []
    }
}

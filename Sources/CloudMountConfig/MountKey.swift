import CloudMountVFS

/// One key of a mount beside those that say which bucket it is; `defaults` may give it for all mounts. `all` is the only list
/// of them: the parser, the JSON Schema, the effective configuration and a reload go by it.
public struct MountKey: Sendable {
    /// As in `mounts.yaml`.
    public var name: String { setting.name }
    let setting: Setting
    /// A change takes effect while the mount is in use; else by a remount.
    public let isLive: Bool
    /// Takes the key's value from a section that has it.
    let read: @Sendable (Fields, inout Configuration.Mount) -> Void
    /// The value as `mounts.yaml` has it; nil when it is unset.
    let text: @Sendable (Configuration.Mount) -> String?
    private let differs: @Sendable (Configuration.Mount, Configuration.Mount) -> Bool
    private let copy: @Sendable (Configuration.Mount, inout Configuration.Mount) -> Void

    /// The keys whose values differ, in the order of `all`.
    public static func differing(
        _ old: Configuration.Mount, _ new: Configuration.Mount, live isLive: Bool
    ) -> [String] {
        all.filter { $0.isLive == isLive && $0.differs(old, new) }.map(\.name)
    }

    /// Gives `mount` what takes effect while it is in use.
    public static func copyLive(from other: Configuration.Mount, to mount: inout Configuration.Mount) {
        for key in all where key.isLive { key.copy(other, &mount) }
    }

    static let all: [MountKey] = [
        boolean("read_only", \.readOnly, "Nothing can be changed through the mount."),
        boolean("allow_other", \.allowOther, "Other users may use the mount."),
        boolean("acl", \.acl, "POSIX ACLs are kept with each file, and enforced by the kernel."),
        id("uid", \.uid, "Owner of what has no owner in the store. Unset: the daemon's user."),
        id("gid", \.gid, "Group of what has no group in the store. Unset: the daemon's group."),
        MountKey(
            "umask", .octal, default: "022", isLive: true, \.umask,
            "Permission bits taken from what has no mode in the store.",
            read: { $0.integer("umask").flatMap { UInt32(exactly: $0) } }, text: octal),
        forced("force_uid", .id, \.forceUID, "Owner that everything is shown with, whatever the store says."),
        forced("force_gid", .id, \.forceGID, "Group that everything is shown with, whatever the store says."),
        forced("file_mode", .octal, \.fileMode, "Permissions that every file is shown with, whatever the store says."),
        forced(
            "dir_mode", .octal, \.directoryMode,
            "Permissions that every directory is shown with, whatever the store says."),
        MountKey(
            "symlinks", .value(.choice(SymlinkRule.allCases.map(\.rawValue))), default: SymlinkRule.follow.rawValue,
            isLive: false, \.symlinks,
            "Symbolic links: follow; hide, they are not there and their names stay taken; refuse, they are seen but cannot "
                + "be read or followed. With hide and refuse none can be made.",
            read: { $0.choice("symlinks") }, text: \.rawValue),
        boolean("exec", \.exec, default: true, "Programs on the mount can be run; false is noexec of mount(8)."),
        boolean(
            "nosymfollow", \.noSymlinkFollow,
            "The kernel follows no symbolic link on the mount (Linux 5.10 or later, mounted by root)."),
    ]
}

extension MountKey {
    private typealias Path<Value> = any WritableKeyPath<Configuration.Mount, Value> & Sendable

    private init<Value: Equatable & Sendable>(
        _ name: String, _ kind: Setting.Kind, default defaultText: String?, isLive: Bool, _ path: Path<Value>,
        _ summary: String, read: @escaping @Sendable (Fields) -> Value?,
        text: @escaping @Sendable (Value) -> String?
    ) {
        setting = Setting(name, kind, summary, default: defaultText)
        self.isLive = isLive
        self.read = { fields, mount in if let value = read(fields) { mount[keyPath: path] = value } }
        self.text = { text($0[keyPath: path]) }
        differs = { $0[keyPath: path] != $1[keyPath: path] }
        copy = { $1[keyPath: path] = $0[keyPath: path] }
    }

    /// All of them need another mount.
    private static func boolean(
        _ name: String, _ path: Path<Bool>, default isSet: Bool = false, _ summary: String
    ) -> MountKey {
        MountKey(
            name, .value(.boolean), default: String(isSet), isLive: false, path, summary,
            read: { $0.boolean(name) }, text: { String($0) })
    }

    private static func id(_ name: String, _ path: Path<UInt32>, _ summary: String) -> MountKey {
        MountKey(
            name, .id, default: nil, isLive: true, path, summary,
            read: { $0.integer(name).flatMap { UInt32(exactly: $0) } }, text: { String($0) })
    }

    private static func forced(
        _ name: String, _ kind: Setting.Kind, _ path: Path<UInt32?>, _ summary: String
    ) -> MountKey {
        let text: @Sendable (UInt32) -> String = if case .octal = kind { octal } else { { String($0) } }
        return MountKey(
            name, kind, default: nil, isLive: true, path, summary,
            read: { $0.integer(name).map { UInt32(exactly: $0) } }, text: { $0.map(text) })
    }

    @Sendable private static func octal(_ bits: UInt32) -> String {
        let digits = String(bits, radix: 8)
        return "\"\(String(repeating: "0", count: max(0, 3 - digits.utf8.count)) + digits)\""
    }
}

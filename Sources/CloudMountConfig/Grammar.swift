import CloudMountVFS

/// Every key of `mounts.yaml`. Keys of providers join by their descriptors.
struct Grammar: Sendable {
    static let version = 1
    /// Top-level keys that begin so are the user's own, for anchors.
    static let freePrefix = "x-"

    let providers: [ProviderDescriptor]

    func provider(named name: String) -> ProviderDescriptor? { providers.first { $0.name == name } }

    var root: Section {
        Section(
            "the file",
            [
                Setting("version", .constant(Self.version), "Version of the file format.", required: true),
                Setting("cache", .section(Self.cache), "The local disk that all mounts share."),
                Setting(
                    "memory", .value(.size), "Most memory for bytes read ahead, all mounts together.",
                    default: "144MiB"),
                Setting("control", .section(Self.control), "How the other commands reach the daemon."),
                Setting("log", .section(Self.log), "What is logged to standard error."),
                Setting("credentials", .table(credentials(inPlace: false)), "Secrets, by names that mounts refer to."),
                Setting("policies", .table(Self.policy), "Cache policies, by names that mounts refer to."),
                Setting("defaults", .section(Self.defaults), "Settings of mounts that do not give their own."),
                Setting("mounts", .list(mount), "The buckets and where they appear.", required: true),
            ])
    }

    static let cache = Section(
        "the cache section",
        [
            Setting(
                "directory", .value(.path),
                "Folder of the daemon's own files, for one daemon at a time; made when missing. Unset: /var/cache/cloudmount "
                    + "for root, $XDG_CACHE_HOME/cloudmount for others."),
            Setting("size", .value(.size), "Most disk space that the daemon takes there.", default: "50GiB"),
            Setting("keep_free", .value(.size), "Disk space that the daemon leaves free.", default: "1GiB"),
        ])

    static let control = Section(
        "the control section",
        [
            Setting(
                "socket", .value(.path),
                "Unix socket of the control protocol. Unset: /run/cloudmount/control.sock for root, "
                    + "$XDG_RUNTIME_DIR/cloudmount/control.sock for others."),
            Setting("http", .later, "Address of the control protocol over HTTP."),
        ])

    static let log = Section(
        "the log section",
        [
            Setting(
                "level", .value(.choice(["trace", "debug", "info", "notice", "warning", "error", "critical"])),
                "Least severe level that is logged.", default: "notice"),
            Setting("format", .value(.choice(["text", "json"])), "How a line of the log looks.", default: "text"),
        ])

    static let policy = Section(
        "a cache policy",
        [
            Setting("extends", .name, "The policy whose settings hold where this one has none.", default: "default")
        ] + PolicyKey.all.map(\.setting))

    /// Settings of a mount that `defaults` may give for all.
    private static let common: [Setting] =
        [
            Setting("cache", .nameOr(policy), "Cache policy: a name, or its settings in place.", default: "default")
        ] + MountKey.all.map(\.setting)

    static let defaults = Section("the defaults section", common)

    var mount: Section {
        Section(
            "a mount",
            [
                Setting("name", .name, "What the mount is called in messages and commands.", required: true),
                Setting(
                    "path", .value(.path), "Where it appears; made when missing, and removed again then.",
                    required: true),
                providerSetting("The kind of store.", required: true),
                Setting(
                    "bucket", .value(.string), "The bucket; for some providers another word for it.", required: true),
                Setting("prefix", .value(.string), "The part of the bucket that is mounted, such as `runs/2024/`."),
                Setting(
                    "credentials", .nameOr(credentials(inPlace: true)),
                    "A name of the credentials section, or the secrets in place.", secret: true),
            ] + Self.common, providerPart: .options)
    }

    func credentials(inPlace: Bool) -> Section {
        Section(
            "credentials", [providerSetting("The kind of store that they are for.", required: !inPlace)],
            providerPart: .credentials)
    }

    private func providerSetting(_ summary: String, required: Bool) -> Setting {
        Setting("provider", .value(.choice(providers.map(\.name))), summary, required: required)
    }
}

import CloudMountVFS
import Testing

@testable import CloudMountConfig
@testable import CloudMountDaemon

@Suite("What another file changes")
struct ConfigurationDiffTests {
    private func diff(_ old: String, _ new: String) throws -> ConfigurationDiff {
        let before = try Fixtures.parse(old)
        return ConfigurationDiff(from: before, mounts: before.mounts, to: try Fixtures.parse(new))
    }

    /// What the settings of one mount, and nothing else, differ in.
    private func mountDiff(_ old: String, _ new: String) throws -> MountDiff {
        func mount(_ settings: String) throws -> Configuration.Mount {
            try Fixtures.parse("mounts: [{name: a, provider: fake, \(settings)}]").mounts[0]
        }
        return MountDiff(from: try mount(old), to: try mount(new))
    }

    @Test("nothing, where only comments and the order of keys differ")
    func nothing() throws {
        let diff = try diff(
            "memory: 64MiB\nmounts: [{name: a, path: /mnt/a, provider: fake, bucket: b}]",
            "mounts: # all\n  - {bucket: b, provider: fake, path: /mnt/a, name: a}\nmemory: 65536KiB".replacing(
                "65536KiB", with: "64MiB"))
        #expect(diff.mounts == [.init(name: "a", step: .keep)])
        #expect(diff.live.isEmpty && diff.restart.isEmpty)
    }

    @Test("mounts are matched by name: new ones come, missing ones go, in whatever order")
    func names() throws {
        let diff = try diff(
            "mounts: [{name: a, path: /mnt/a, provider: fake, bucket: b}, {name: c, path: /mnt/c, provider: fake, bucket: b}]",
            "mounts: [{name: d, path: /mnt/d, provider: fake, bucket: b}, {name: c, path: /mnt/c, provider: fake, bucket: b}]"
        )
        #expect(
            diff.mounts == [
                .init(name: "d", step: .add), .init(name: "c", step: .keep), .init(name: "a", step: .remove),
            ])
    }

    @Test(
        "each setting of a policy takes effect in place",
        arguments: [
            "data: off", "metadata_ttl: 7s", "negative_ttl: 7s", "freshness: open", "prefetch: 1MiB", "deadline: 7s",
            "offline: serve", "on_conflict: fail", "exclusive_create: local", "durable_attributes: false",
        ])
    func policy(_ setting: String) throws {
        let diff = try mountDiff("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: b, cache: {\(setting)}")
        #expect(diff.live == ["cache." + setting.prefix { $0 != ":" }])
        #expect(diff.remount.isEmpty && !diff.rotates && !diff.isOtherStore)
    }

    @Test(
        "what is shown of others' files changes in place; links and the kernel's flags need another mount",
        arguments: [
            ("force_uid: 7", true), ("force_gid: 7", true), ("file_mode: '600'", true), ("dir_mode: '700'", true),
            ("symlinks: hide", false), ("symlinks: refuse", false), ("exec: false", false),
            ("nosymfollow: true", false),
        ])
    func foreign(_ setting: String, _ isLive: Bool) throws {
        let diff = try mountDiff("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: b, \(setting)")
        let key = String(setting.prefix { $0 != ":" })
        #expect(diff.live == (isLive ? [key] : []) && diff.remount == (isLive ? [] : [key]))
        #expect(!diff.rotates && !diff.isOtherStore)
    }

    /// Values of the key that are not its default's.
    private static func others(_ key: PolicyKey) -> [String] {
        let all: [String] =
            switch key.setting.kind {
            case .value(.choice(let choices)): choices
            case .value(.boolean): ["true", "false"]
            case .value(.size): ["3MiB"]
            case .value(.duration): ["1234ms"]
            default: []
            }
        return all.filter { $0 != key.text(CachePolicy()) }
    }

    @Test("every key of the table of policies is compared, and the policy holds nothing else")
    func complete() throws {
        let before = try Fixtures.configuration(["a"]).mounts[0]
        var names: [String] = []
        for key in PolicyKey.all {
            if let value = Self.others(key).first {
                let after = try mountDiff("path: /m, bucket: b", "path: /m, bucket: b, cache: {\(key.name): \(value)}")
                #expect(after.live == ["cache.\(key.name)"])
                names.append(key.name)
            }
        }
        #expect(names.count == Mirror(reflecting: before.policy).children.count)
    }

    @Test("owners and modes take effect in place")
    func defaults() throws {
        let diff = try mountDiff("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: b, uid: 7, gid: 8, umask: '077'")
        #expect(diff.live == ["uid", "gid", "umask"])
        #expect(diff.remount.isEmpty)
    }

    @Test(
        "what names another store or another place needs a remount",
        arguments: [
            ("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: c", "bucket", true),
            ("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: b, prefix: x", "prefix", true),
            ("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: b, endpoint: 'http://x'", "endpoint", true),
            ("path: /mnt/a, bucket: b", "path: /mnt/b, bucket: b", "path", false),
            ("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: b, read_only: true", "read_only", false),
            ("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: b, allow_other: true", "allow_other", false),
            ("path: /mnt/a, bucket: b", "path: /mnt/a, bucket: b, acl: true", "acl", false),
        ])
    func remount(_ old: String, _ new: String, _ setting: String, _ isOtherStore: Bool) throws {
        let diff = try mountDiff(old, new)
        #expect(diff.remount == [setting])
        #expect(diff.isOtherStore == isOtherStore)
        #expect(diff.live.isEmpty)
    }

    @Test("another provider needs a remount")
    func provider() throws {
        var mount = try Fixtures.configuration(["a"]).mounts[0]
        let before = mount
        mount.provider.name = "other"
        #expect(MountDiff(from: before, to: mount).remount == ["provider"])
    }

    @Test("other secrets are a rotation, and are not in any text of it")
    func credentials() throws {
        let diff = try mountDiff(
            "path: /mnt/a, bucket: b, credentials: {key: hunter1}",
            "path: /mnt/a, bucket: b, credentials: {key: hunter2}")
        #expect(diff.rotates)
        #expect(diff.settings == ["credentials"])
        #expect(!"\(diff)".contains("hunter"))
    }

    @Test("limits and the log change at once, the socket and the folder of the cache at the next start")
    func process() throws {
        let mounts = "mounts: [{name: a, path: /mnt/a, provider: fake, bucket: b}]\n"
        let diff = try diff(
            mounts,
            mounts
                + "memory: 99MiB\ncache: {directory: /x, size: 9GiB, keep_free: 2GiB}\ncontrol: {socket: /y}\n"
                + "log: {level: debug, format: json}\n")
        #expect(diff.live == ["memory", "cache.size", "cache.keep_free", "log.level", "log.format"])
        #expect(diff.restart == ["cache.directory", "control.socket"])
    }
}

import CloudMountConfig
import CloudMountVFS

/// What the settings of one mount differ in, by the keys of `mounts.yaml`.
struct MountDiff: Sendable, Equatable {
    /// These take effect while the mount is in use.
    var live: [String] = []
    /// The secrets differ: another provider of the same bucket takes over, while the mount is in use.
    var rotates = false
    /// These need another mount in the place of this one.
    var remount: [String] = []
    /// Among them: another bucket, or another way to it.
    var isOtherStore = false

    var isEmpty: Bool { live.isEmpty && !rotates && remount.isEmpty }
    var settings: [String] { remount + (rotates ? ["credentials"] : []) + live }

    init(from old: Configuration.Mount, to new: Configuration.Mount) {
        func same(_ left: String, _ right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }
        if old.provider.name != new.provider.name { remount.append("provider") }
        if !same(old.context.bucket, new.context.bucket) { remount.append("bucket") }
        if !same(old.context.prefix, new.context.prefix) { remount.append("prefix") }
        let options = Set(old.context.options.names + new.context.options.names).sorted()
        remount += options.filter { old.context.options[$0] != new.context.options[$0] }
        isOtherStore = !remount.isEmpty
        if !same(old.path, new.path) { remount.append("path") }
        remount += MountKey.differing(old, new, live: false)
        rotates = old.context.credentials != new.context.credentials
        live = PolicyKey.differing(old.policy, new.policy).map { "cache.\($0)" }
        live += MountKey.differing(old, new, live: true)
    }
}

extension Configuration.Mount {
    /// This mount with what of `other` takes effect while mounted; with its secrets too when they are in use already.
    func taking(_ other: Configuration.Mount, secrets: Bool) -> Configuration.Mount {
        var mount = self
        mount.policy = other.policy
        mount.policyName = other.policyName
        MountKey.copyLive(from: other, to: &mount)
        if secrets { mount.context.credentials = other.context.credentials }
        return mount
    }
}

/// What becomes of the mounts and settings that are in use when another file takes the place of theirs. A value; mounts are
/// the same by their names.
struct ConfigurationDiff: Sendable, Equatable {
    enum Step: Sendable, Equatable {
        case keep
        case change(MountDiff)
        case add
        case remove
    }

    struct Mount: Sendable, Equatable {
        var name: String
        var step: Step
    }

    /// In the order of the new file, then those that it does not have.
    var mounts: [Mount] = []
    /// Settings of the process that take effect at once.
    var live: [String] = []
    /// Settings that are read when the process starts.
    var restart: [String] = []

    init(from old: Configuration, mounts running: [Configuration.Mount], to new: Configuration) {
        for mount in new.mounts {
            guard let before = running.first(where: { $0.name == mount.name }) else {
                mounts.append(Mount(name: mount.name, step: .add))
                continue
            }
            let diff = MountDiff(from: before, to: mount)
            mounts.append(Mount(name: mount.name, step: diff.isEmpty ? .keep : .change(diff)))
        }
        for mount in running where !new.mounts.contains(where: { $0.name == mount.name }) {
            mounts.append(Mount(name: mount.name, step: .remove))
        }
        if old.memory != new.memory { live.append("memory") }
        if old.cache.size != new.cache.size { live.append("cache.size") }
        if old.cache.keepFree != new.cache.keepFree { live.append("cache.keep_free") }
        if old.log.level != new.log.level { live.append("log.level") }
        if old.log.format != new.log.format { live.append("log.format") }
        if old.cache.directory != new.cache.directory { restart.append("cache.directory") }
        if old.controlSocket != new.controlSocket { restart.append("control.socket") }
    }
}

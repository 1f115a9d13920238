import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Synchronization

/// What one bucket is mounted with that a command line names by its URL.
struct StoreOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Profile of the credentials (S3: of ~/.aws/credentials).", valueName: "name"))
    var profile: String?
    @Option(help: ArgumentHelp("Where the store is, if not at its vendor's.", valueName: "URL"))
    var endpoint: String?
    @Option(
        help: ArgumentHelp(
            "A cache policy: media, small-files, archive, strict, offline, or one of the file.", valueName: "policy"))
    var cache: String?
    @Option(help: ArgumentHelp("An entry of the file's credentials.", valueName: "name"))
    var credentials: String?
    @Option(
        name: .customLong("option"),
        help: ArgumentHelp("Any other key of the mount's store; may be repeated.", valueName: "key=value"))
    var options: [String] = []
    @Flag(help: "Nothing can be changed through the mount.")
    var readOnly = false

    func validate() throws {
        if profile != nil, credentials != nil { throw ValidationError("Give --profile or --credentials, not both.") }
    }

    /// Something of it was given.
    var isGiven: Bool {
        profile != nil || endpoint != nil || cache != nil || credentials != nil || readOnly || !options.isEmpty
    }

    func entry(_ url: String, at path: String, name: String?) throws(MountEntry.Fault) -> MountEntry {
        var entry = try MountEntry(url: url, path: path, name: name, providers: CloudMountProgram.providers)
        func demand(_ key: String, among known: [OptionDescriptor], _ word: String) throws(MountEntry.Fault) {
            guard !known.contains(where: { $0.name == key }) else { return }
            let names = known.map(\.name).joined(separator: ", ")
            throw MountEntry.Fault(
                message: "\(word): the provider '\(entry.provider.name)' has no '\(key)'"
                    + (names.isEmpty ? "" : " (it has \(names))"))
        }
        if let endpoint {
            try demand("endpoint", among: entry.provider.options, "--endpoint")
            entry.options["endpoint"] = endpoint
        }
        for option in options {
            let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2 else {
                throw MountEntry.Fault(message: "'--option \(option)' is not of the form key=value")
            }
            try demand(parts[0], among: entry.provider.options, "--option")
            entry.options[parts[0]] = parts[1]
        }
        if let profile {
            try demand("profile", among: entry.provider.credentials, "--profile")
            entry.credentials = .inPlace(["profile": profile])
        }
        if let credentials { entry.credentials = .named(credentials) }
        entry.cache = cache
        entry.isReadOnly = readOnly
        return entry
    }
}

/// What a line of fstab says of a mount beside where it is: it takes away, and gives nothing that the file does not.
struct MountFlags: Sendable, Equatable {
    var readOnly = false
    var noExec = false
    var noSymlinkFollow = false

    func apply(to mount: inout Configuration.Mount) {
        if readOnly { mount.readOnly = true }
        if noExec { mount.exec = false }
        if noSymlinkFollow { mount.noSymlinkFollow = true }
    }
}

/// Which mounts of which file a daemon serves: all, some by their names, or one that the command line alone names.
final class MountChoice: Sendable {
    private let file: String
    /// Not in the file.
    private let entry: MountEntry?
    /// The one mount has a daemon of its own, beside that of the file.
    private let own: String?
    /// What mount(8) wants of the mounts of the file.
    private let flags: MountFlags
    private let names: Mutex<Set<String>?>

    /// - Parameters:
    ///   - names: empty: all.
    ///   - isOwn: the first of them has a daemon and a cache of its own, as an `entry` has.
    ///   - flags: hold for each, whatever the file says.
    init(
        file: String, names: [String], entry: MountEntry? = nil, isOwn: Bool = false, flags: MountFlags = MountFlags()
    ) {
        self.file = file
        self.flags = flags
        self.entry = entry
        own = entry?.name ?? (isOwn ? names.first : nil)
        self.names = Mutex(names.isEmpty ? nil : Set(names))
    }

    /// Its mounts are those that the file has.
    var isOfFile: Bool { entry == nil }

    /// From now on this one too.
    /// - Returns: takes it back.
    func choose(_ name: String) -> @Sendable () -> Void {
        let isNew = names.withLock { $0?.insert(name).inserted ?? false }
        return { [self] in if isNew { names.withLock { _ = $0?.remove(name) } } }
    }

    /// The file as it is now.
    func load() throws(ConfigurationError) -> Configuration {
        let (providers, environment) = (CloudMountProgram.providers, ConfigurationFile.environment)
        var configuration: Configuration
        if let entry {
            let file = try MountsFile(path: file)
            configuration = try file.adding(entry, providers: providers, environment: environment).configuration
        } else {
            configuration = try Configuration.load(file: file, providers: providers, environment: environment)
        }
        if let own {
            configuration.controlSocket = UserPlaces(environment: environment).controlSocket(ofMount: own)
            configuration.cache.directory += "-\(own)"
        }
        if let names = names.withLock({ $0 }) { configuration.mounts.removeAll { !names.contains($0.name) } }
        for index in configuration.mounts.indices { flags.apply(to: &configuration.mounts[index]) }
        return configuration
    }
}

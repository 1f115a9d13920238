public import CloudMountVFS

extension Configuration {
    static let maxFileSize = 1 << 20

    /// Reads and checks `file`. Nothing on the network.
    /// - Parameters:
    ///   - providers: what may stand after `provider:`.
    ///   - environment: for `${env:…}` and the usual places.
    /// - Throws: everything that is wrong with the file, at once.
    public static func load(
        file: String, providers: [ProviderDescriptor], environment: [String: String]
    ) throws(ConfigurationError) -> Configuration {
        let content: SmallFile
        do throws(SmallFile.Fault) {
            content = try SmallFile(path: file, limit: maxFileSize)
        } catch {
            var problems = Problems(file: file)
            problems.error(nil, "cannot be read: \(error.message)")
            throw problems.error
        }
        return try parse(
            content.bytes, file: file, mode: content.mode, owner: content.owner, providers: providers,
            places: UserPlaces(environment: environment))
    }

    /// The same of bytes in memory.
    /// - Parameters:
    ///   - mode: the file's permission bits; secrets written in a file that everyone can read are warned of.
    ///   - owner: of the file; commands are refused in one that others may write.
    public static func parse(
        _ bytes: [UInt8], file: String, mode: UInt32 = 0o600, owner: UInt32 = 0, providers: [ProviderDescriptor],
        places: UserPlaces
    ) throws(ConfigurationError) -> Configuration {
        var problems = Problems(file: file)
        guard let root = YAMLTree.parse(bytes, problems: &problems), !root.isNull else {
            if problems.errors.isEmpty { problems.error(nil, "is empty; it must have 'version' and 'mounts'") }
            throw problems.error
        }
        let grammar = Grammar(providers: providers)
        let values = ValueReader(
            interpolation: Interpolation(environment: places.environment, user: places.uid), home: places.home)
        var reader = FieldsReader(grammar: grammar, values: values, problems: problems)
        let fields = reader.fields(root, grammar.root)
        var assembly = Assembly(fields: fields, places: places, problems: reader.problems)
        let configuration = assembly.configuration(file: file, mode: mode, owner: owner)
        guard assembly.problems.errors.isEmpty else { throw assembly.problems.error }
        return configuration
    }
}

/// What is right key by key, put together and checked as a whole.
struct Assembly {
    let fields: Fields
    let places: UserPlaces
    var problems: Problems

    mutating func configuration(file: String, mode: UInt32, owner: UInt32) -> Configuration {
        let cache = fields.section("cache")
        let log = fields.section("log")
        let socket = fields.section("control")?.text("socket") ?? places.controlSocket
        if socket.utf8.count > 107 {
            problems.error(
                fields.section("control")?.mark("socket"), "the path of the control socket is longer than 107 bytes")
        }
        let memory = fields.integer("memory") ?? 144 << 20
        if memory < 32 << 20 { problems.error(fields.mark("memory"), "'memory' must be 32MiB or more") }
        var configuration = Configuration(
            file: file,
            cache: Configuration.Cache(
                directory: cache?.text("directory") ?? places.cacheDirectory,
                size: cache?.integer("size") ?? 50 << 30, keepFree: cache?.integer("keep_free") ?? 1 << 30),
            memory: memory, controlSocket: socket,
            log: Configuration.Log(level: log?.text("level") ?? "notice", format: log?.choice("format") ?? .text),
            mounts: mounts(), warnings: [])
        checkPaths(configuration)
        if mode & 0o004 != 0 { warnOfSecrets(mode: mode) }
        refuseCommands(mode: mode, owner: owner)
        configuration.warnings = problems.warnings
        return configuration
    }

    private mutating func mounts() -> [Configuration.Mount] {
        let policies = PolicyTable(fields.table("policies"), problems: &problems)
        let credentials = fields.table("credentials")
        let defaults = fields.section("defaults")
        if let cache = defaults?.section("cache") { _ = policies.inPlace(cache, problems: &problems) }
        var mounts: [Configuration.Mount] = []
        var places: [String: Mark] = [:]
        let list = fields.list("mounts")
        if list.isEmpty {
            problems.warn(fields.mark("mounts"), "there are no mounts; 'cloudmount add' writes one")
        }
        for (index, mount) in list.enumerated() {
            if let name = mount.text("name") {
                if let first = places[name] {
                    problems.error(
                        mount.mark("name"), "two mounts are called '\(name)'; the first is on line \(first.line)")
                }
                places[name] = places[name] ?? mount.mark("name")
            }
            let end = index + 1 < list.count ? list[index + 1].mark : Mark(line: .max, column: 1)
            if let made = self.mount(mount, before: end, defaults, policies, credentials) { mounts.append(made) }
        }
        return mounts
    }

    private mutating func mount(
        _ mount: Fields, before end: Mark, _ defaults: Fields?, _ policies: PolicyTable, _ credentials: [Fields.Entry]
    ) -> Configuration.Mount? {
        let source = mount["cache"] != nil ? mount : defaults
        let policy: CachePolicy
        let policyName: String?
        if let settings = source?.section("cache") {
            policyName = nil
            var known = Problems(file: problems.file)
            // Settings of `defaults` are checked once, not for every mount.
            if source?.mark == mount.mark {
                policy = policies.inPlace(settings, problems: &problems)
            } else {
                policy = policies.inPlace(settings, problems: &known)
            }
        } else {
            policyName = source?.text("cache") ?? "default"
            policy = policies.named(
                policyName ?? "default", at: source?.mark("cache") ?? mount.mark, problems: &problems)
        }
        let options = mount.optionValues(.options)
        let secrets = self.credentials(of: mount, credentials)
        let prefix = self.prefix(of: mount)
        guard let provider = mount.provider, let name = mount.text("name"), let path = mount.text("path"),
            let bucket = mount.text("bucket"), let secrets
        else { return nil }
        let context = ProviderContext(
            mountName: name, bucket: bucket, prefix: prefix, options: options, credentials: secrets.values)
        // With a key wrong already, the provider would only say it again. The next mount may be an alias of what stands above.
        let last = end.line > mount.mark.line ? end.line - 1 : .max
        if !problems.errors.contains(where: { (mount.mark.line...last).contains($0.line) }) {
            for problem in provider.check(context) {
                let mark = mount[problem.option]?.mark ?? secrets.fields?[problem.option]?.mark ?? mount.mark
                problems.error(mark, "'\(problem.option)' \(problem.message)")
            }
        }
        var made = Configuration.Mount(
            name: name, path: path, provider: provider, context: context, policy: policy, policyName: policyName,
            uid: places.uid, gid: places.gid)
        for key in MountKey.all {
            if let source = mount[key.name] != nil ? mount : defaults { key.read(source, &made) }
        }
        if made.acl, made.forcesAttributes {
            let source = mount["acl"] != nil ? mount : defaults
            problems.error(
                source?.mark("acl"),
                "'acl' does not go with force_uid, force_gid, file_mode or dir_mode: what a list "
                    + "allows would not be what is shown")
        }
        return made
    }

    private mutating func prefix(of mount: Fields) -> String {
        guard let prefix = mount.text("prefix"), !prefix.isEmpty else { return "" }
        if prefix.utf8.first == UInt8(ascii: "/") {
            problems.error(mount.mark("prefix"), "'prefix: \(prefix)' begins with '/'; keys do not")
        }
        return prefix.utf8.last == UInt8(ascii: "/") ? prefix : prefix + "/"
    }

    /// The secrets of a mount with the section that holds them, or nil when something is wrong with them.
    private mutating func credentials(
        of mount: Fields, _ table: [Fields.Entry]
    ) -> (values: OptionValues, fields: Fields?)? {
        guard let provider = mount.provider else { return nil }
        guard let field = mount["credentials"] else {
            guard provider.requiresCredentials else { return (OptionValues(), nil) }
            problems.error(mount.mark, "a mount of provider '\(provider.name)' needs 'credentials'")
            return nil
        }
        guard !provider.credentials.isEmpty else {
            problems.error(field.mark, "the provider '\(provider.name)' takes no credentials")
            return nil
        }
        let section: Fields
        if let inPlace = mount.section("credentials") {
            section = inPlace
        } else {
            let name = mount.text("credentials") ?? ""
            guard let entry = table.first(where: { $0.name.utf8.elementsEqual(name.utf8) }) else {
                // A long word may be a secret that stands in the wrong place.
                let shown =
                    name.utf8.count <= 16 ? "there are no credentials '\(name)'" : "there are no such credentials"
                problems.error(field.mark, shown + NearestWord.hint(name, among: table.map(\.name)))
                return nil
            }
            section = entry.fields
        }
        guard let owner = section.provider else { return nil }
        guard owner.name == provider.name else {
            problems.error(
                field.mark, "these credentials are for provider '\(owner.name)', the mount's is '\(provider.name)'")
            return nil
        }
        return (section.optionValues(.credentials), section)
    }
}

extension Fields {
    /// What the section's provider is given.
    func optionValues(_ part: Section.ProviderPart) -> OptionValues {
        var values = OptionValues()
        for setting in provider?.settings(part) ?? [] {
            if case .option(let value)? = self[setting.name]?.value { values[setting.name] = value }
        }
        return values
    }
}

import CloudMountVFS

extension Configuration {
    /// The configuration as it will be used, as YAML; in place of a secret stands `<hidden>`.
    public var effectiveText: String {
        var lines = [
            "version: \(Grammar.version)",
            "cache:",
            "  directory: \(Self.scalar(cache.directory))",
            "  size: \(Units.text(bytes: cache.size))",
            "  keep_free: \(Units.text(bytes: cache.keepFree))",
            "memory: \(Units.text(bytes: memory))",
            "control:",
            "  socket: \(Self.scalar(controlSocket))",
            "log:",
            "  level: \(log.level)",
            "  format: \(log.format.rawValue)",
            "mounts:",
        ]
        for mount in mounts { lines += Self.lines(mount) }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func lines(_ mount: Mount) -> [String] {
        var lines = [
            "  - name: \(scalar(mount.name))",
            "    path: \(scalar(mount.path))",
            "    provider: \(scalar(mount.provider.name))",
            "    bucket: \(scalar(mount.context.bucket))",
        ]
        if !mount.context.prefix.isEmpty { lines.append("    prefix: \(scalar(mount.context.prefix))") }
        lines += Self.lines(mount.provider.options, mount.context.options, indent: "    ")
        if !mount.context.credentials.isEmpty {
            lines += ["    credentials:", "      provider: \(scalar(mount.provider.name))"]
            lines += Self.lines(mount.provider.credentials, mount.context.credentials, indent: "      ")
        }
        lines.append("    cache:" + (mount.policyName.map { " # \($0)" } ?? ""))
        lines += PolicyKey.all.map { "      \($0.name): \($0.text(mount.policy))" }
        lines += MountKey.all.compactMap { key in key.text(mount).map { "    \(key.name): \($0)" } }
        return lines
    }

    private static func lines(_ options: [OptionDescriptor], _ values: OptionValues, indent: String) -> [String] {
        options.compactMap { option in
            guard let value = values[option.name] else { return nil }
            if option.isCommand, case .string(let command) = value {
                return "\(indent)\(option.name): \(scalar(shown(command: command)))"
            }
            return "\(indent)\(option.name): \(option.secret ? "<hidden>" : text(value, option.kind))"
        }
    }

    /// A command without its words, which may be secrets: the name of the program.
    public static func shown(command: String) -> String {
        let name = command.prefix { !$0.isWhitespace && $0 != "=" }
        return name.endIndex < command.endIndex ? "\(name) <hidden>" : String(name)
    }

    private static func text(_ value: OptionValue, _ kind: OptionDescriptor.Kind) -> String {
        switch value {
        case .string(let text): scalar(text)
        case .boolean(let value): String(value)
        case .integer(let value): kind == .size ? Units.text(bytes: value) : String(value)
        case .duration(let value): Units.text(value)
        }
    }

    /// Plain where YAML reads it back as the same text, else in double quotes.
    private static func scalar(_ text: String) -> String {
        let plain = text.unicodeScalars.allSatisfy {
            $0.isASCII
                && ($0.properties.isAlphabetic || ("0"..."9").contains($0) || "/._-:".unicodeScalars.contains($0))
        }
        let startsWell = text.unicodeScalars.first.map { $0.properties.isAlphabetic || $0 == "/" } ?? false
        let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        return plain && startsWell && !text.hasSuffix(":") && !words.contains(text.lowercased())
            ? text : JSONValue.quoted(text)
    }
}

import CloudMountVFS

/// Holds the YAML tree against the grammar: every wrong key and kind is told, what is right comes back as `Fields`.
struct FieldsReader {
    let grammar: Grammar
    let values: ValueReader
    var problems: Problems

    /// - Parameter implied: the provider of a section that need not name it.
    mutating func fields(_ node: Node, _ section: Section, implied: ProviderDescriptor? = nil) -> Fields {
        var fields = Fields(mark: node.mark)
        let pairs: [Node.Pair]
        if case .mapping(let given) = node.content {
            pairs = given
        } else {
            guard node.isNull else {
                problems.error(node.mark, "\(section.title) must be a mapping, found \(node.kindName)")
                return fields
            }
            pairs = []
        }
        var settings = section.settings
        var providerIsKnown = true
        if let part = section.providerPart {
            if let pair = pairs.first(where: { $0.key == "provider" }) {
                fields.provider = provider(pair.value)
                providerIsKnown = fields.provider != nil
            } else {
                fields.provider = implied
                providerIsKnown = implied != nil
            }
            settings += fields.provider?.settings(part) ?? []
        }
        for pair in pairs {
            if let setting = settings.first(where: { $0.name == pair.key }) {
                fields[pair.key] = field(pair, setting, in: fields)
            } else if providerIsKnown || NearestWord.to(pair.key, among: settings.map(\.name)) != nil {
                // Of an unknown provider only a key that is nearly a common one is surely wrong.
                unknown(pair, settings, section, fields.provider)
            }
        }
        for setting in settings where setting.required && !pairs.contains(where: { $0.key == setting.name }) {
            problems.error(node.mark, "\(section.title) has no '\(setting.name)'")
        }
        return fields
    }

    private mutating func unknown(
        _ pair: Node.Pair, _ settings: [Setting], _ section: Section, _ provider: ProviderDescriptor?
    ) {
        if section.title == grammar.root.title, pair.key.hasPrefix(Grammar.freePrefix) { return }
        let elsewhere: String? =
            switch section.providerPart {
            case .options? where provider?.credentials.contains { $0.name == pair.key } == true: "credentials"
            case .credentials? where provider?.options.contains { $0.name == pair.key } == true: "the mount"
            default: nil
            }
        if let elsewhere {
            problems.error(pair.keyMark, "'\(pair.key)' does not belong in \(section.title) but in \(elsewhere)")
        } else {
            let hint = NearestWord.hint(pair.key, among: settings.map(\.name))
            let place = section.providerPart == nil ? "" : provider.map { " of provider '\($0.name)'" } ?? ""
            problems.error(pair.keyMark, "unknown key '\(pair.key)' in \(section.title)\(place)\(hint)")
        }
    }

    private mutating func provider(_ node: Node) -> ProviderDescriptor? {
        guard case .scalar(let scalar) = node.content,
            let name = try? values.interpolation.resolve(scalar.text, for: .plain)
        else { return nil }
        return grammar.provider(named: name)
    }

    private mutating func field(_ pair: Node.Pair, _ setting: Setting, in parent: Fields) -> Fields.Field? {
        let node = pair.value
        func made(_ value: Fields.Value) -> Fields.Field {
            Fields.Field(setting: setting, mark: node.mark, value: value)
        }
        switch setting.kind {
        case .later:
            problems.error(pair.keyMark, "'\(setting.name)' is not supported yet")
            return nil
        case .section(let section):
            return made(.fields(fields(node, section)))
        case .list(let section):
            if node.isNull { return made(.list([])) }
            guard case .sequence(let nodes) = node.content else {
                problems.error(node.mark, "'\(setting.name)' must be a list, found \(node.kindName)")
                return nil
            }
            var list: [Fields] = []
            for node in nodes { list.append(fields(node, section)) }
            return made(.list(list))
        case .table(let section):
            if node.isNull { return made(.table([])) }
            guard case .mapping(let pairs) = node.content else {
                problems.error(node.mark, "'\(setting.name)' must be a mapping of names, found \(node.kindName)")
                return nil
            }
            var entries: [Fields.Entry] = []
            for pair in pairs {
                if let fault = ValueReader.nameFault(pair.key) {
                    problems.error(pair.keyMark, "the name '\(pair.key)' \(fault)")
                }
                let entry = fields(pair.value, section)
                entries.append(Fields.Entry(name: pair.key, mark: pair.keyMark, fields: entry))
            }
            return made(.table(entries))
        case .nameOr(let section):
            if case .mapping = node.content { return made(.fields(fields(node, section, implied: parent.provider))) }
        default: break
        }
        guard case .scalar(let scalar) = node.content else {
            problems.error(node.mark, "'\(setting.name)' must be \(setting.kind.noun), found \(node.kindName)")
            return nil
        }
        guard !node.isNull else {
            problems.error(node.mark, "'\(setting.name)' has no value")
            return nil
        }
        do throws(ValueReader.Fault) {
            var field = made(.option(try values.value(scalar, setting)))
            field.inPlace = !Interpolation.isPresent(in: scalar.text)
            return field
        } catch {
            problems.error(node.mark, error.message)
            return nil
        }
    }
}

extension ProviderDescriptor {
    func settings(_ part: Section.ProviderPart) -> [Setting] {
        switch part {
        case .options: options.map { Setting($0) }
        case .credentials: credentials.map { Setting($0) }
        }
    }
}

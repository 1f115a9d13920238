public import CloudMountVFS

/// The JSON Schema (draft 07) of `mounts.yaml`, made of the declarations that the parser uses.
public enum JSONSchema {
    /// Indented JSON text.
    public static func text(providers: [ProviderDescriptor]) -> String {
        schema(Grammar(providers: providers)).text() + "\n"
    }

    static func schema(_ grammar: Grammar) -> JSONValue {
        var members: [JSONValue.Member] = [
            .init("$schema", .string("http://json-schema.org/draft-07/schema#")),
            .init("title", .string("CloudMount mounts.yaml")),
        ]
        members += section(grammar.root, grammar, isRoot: true)
        members.append(
            .init(
                "definitions",
                .object([
                    .init(
                        "reference",
                        .object([
                            .init("type", .string("string")),
                            .init("pattern", .string("\\$\\{(env|file):")),
                            .init("description", .string("${env:NAME}, ${env:NAME:-fallback} or ${file:PATH}")),
                        ]))
                ])))
        return .object(members)
    }

    private static func section(_ section: Section, _ grammar: Grammar, isRoot: Bool = false) -> [JSONValue.Member] {
        let settings = section.settings.filter { !$0.isLater }
        var members: [JSONValue.Member] = [
            // A section whose keys are all commented out is null.
            .init(
                "type",
                settings.contains(where: \.required) ? .string("object") : .array([.string("object"), .string("null")])),
            .init("properties", properties(settings, grammar)),
        ]
        let required = settings.filter(\.required).map { JSONValue.string($0.name) }
        if !required.isEmpty { members.append(.init("required", .array(required))) }
        if isRoot {
            members.append(.init("patternProperties", .object([.init("^\(Grammar.freePrefix)", .boolean(true))])))
        }
        guard let part = section.providerPart else {
            return members + [.init("additionalProperties", .boolean(false))]
        }
        let cases = grammar.providers.map { branch($0, part, settings, grammar) }
        return members + [.init("allOf", .array(cases))]
    }

    /// With this provider: its own keys too, and no others.
    private static func branch(
        _ provider: ProviderDescriptor, _ part: Section.ProviderPart, _ settings: [Setting], _ grammar: Grammar
    ) -> JSONValue {
        let own = provider.settings(part)
        let condition = JSONValue.object([
            .init("properties", .object([.init("provider", .object([.init("const", .string(provider.name))]))])),
            .init("required", .array([.string("provider")])),
        ])
        var then: [JSONValue.Member] = []
        let shared = settings.map { JSONValue.Member($0.name, .boolean(true)) }
        guard case .object(let members) = properties(own, grammar) else { return condition }
        then.append(.init("properties", .object(shared + members)))
        var required = own.filter(\.required).map { JSONValue.string($0.name) }
        if part == .options, provider.requiresCredentials { required.append(.string("credentials")) }
        if !required.isEmpty { then.append(.init("required", .array(required))) }
        then.append(.init("additionalProperties", .boolean(false)))
        return .object([.init("if", condition), .init("then", .object(then))])
    }

    private static func properties(_ settings: [Setting], _ grammar: Grammar) -> JSONValue {
        .object(
            settings.map { setting in
                var members: [JSONValue.Member] = []
                if let text = setting.defaultText, let value = defaultValue(text, setting.kind) {
                    members += [.init("description", .string(setting.summary)), .init("default", value)]
                } else {
                    let note = setting.defaultText.map { " (default: \($0))" } ?? ""
                    members.append(.init("description", .string(setting.summary + note)))
                }
                members += kind(setting, grammar)
                return .init(setting.name, .object(members))
            })
    }

    /// Nil when the text tells in words what holds without a value.
    private static func defaultValue(_ text: String, _ kind: Setting.Kind) -> JSONValue? {
        switch kind {
        case .value(.boolean): text == "true" || text == "false" ? .boolean(text == "true") : nil
        case .value(.integer): Int(text).map { .integer($0) }
        case .value(.size): (try? Units.size(text)) != nil ? .string(text) : nil
        case .value(.duration): (try? Units.duration(text)) != nil ? .string(text) : nil
        case .value(.choice(let choices)): choices.contains(text) ? .string(text) : nil
        case .octal, .name, .nameOr: .string(text)
        default: nil
        }
    }

    private static func kind(_ setting: Setting, _ grammar: Grammar) -> [JSONValue.Member] {
        switch setting.kind {
        case .section(let section): return self.section(section, grammar)
        case .list(let section):
            return [
                .init("type", .array([.string("array"), .string("null")])),
                .init("items", .object(self.section(section, grammar))),
            ]
        case .table(let section):
            return [
                .init("type", .array([.string("object"), .string("null")])),
                .init("propertyNames", pattern(ValueReader.namePattern)),
                .init("additionalProperties", .object(self.section(section, grammar))),
            ]
        case .nameOr(let section):
            return orReference([.object(scalar(setting)), .object(self.section(section, grammar))])
        case .constant(let number): return orReference([.object([.init("const", .integer(number))])])
        case .later: return []
        case .value, .name, .id, .octal: return orReference([.object(scalar(setting))])
        }
    }

    private static func orReference(_ kinds: [JSONValue]) -> [JSONValue.Member] {
        [.init("anyOf", .array(kinds + [.object([.init("$ref", .string("#/definitions/reference"))])]))]
    }

    private static func pattern(_ pattern: String) -> JSONValue { .object([.init("pattern", .string(pattern))]) }

    private static func text(_ types: [String], _ pattern: String?) -> [JSONValue.Member] {
        let type: JSONValue = types.count == 1 ? .string(types[0]) : .array(types.map { .string($0) })
        return [.init("type", type)] + (pattern.map { [.init("pattern", .string($0))] } ?? [])
    }

    private static func scalar(_ setting: Setting) -> [JSONValue.Member] {
        switch setting.kind {
        case .value(let kind):
            switch kind {
            case .string:
                let members = text(["string", "number", "boolean"], nil)
                return setting.required || setting.secret ? members + [.init("minLength", .integer(1))] : members
            case .boolean: return text(["boolean"], nil)
            case .integer: return text(["integer"], nil) + [.init("minimum", .integer(0))]
            case .url: return text(["string"], ValueReader.urlPattern)
            case .path: return text(["string"], ValueReader.pathPattern)
            case .size: return text(["string", "integer"], Units.sizePattern) + [.init("maximum", .integer(0))]
            case .duration: return text(["string", "integer"], Units.durationPattern) + [.init("maximum", .integer(0))]
            case .choice(let choices):
                // Unquoted, a choice such as 2 is a number to an editor.
                let numbers = choices.compactMap { Int($0) }.map { JSONValue.integer($0) }
                return [.init("enum", .array(choices.map { .string($0) } + numbers))]
            }
        case .id:
            return text(["integer"], nil) + [
                .init("minimum", .integer(0)), .init("maximum", .integer(ValueReader.largestID)),
            ]
        case .octal: return text(["string", "integer"], ValueReader.octalPattern)
        default: return text(["string", "number"], ValueReader.namePattern)
        }
    }
}

extension Setting {
    var isLater: Bool { if case .later = kind { true } else { false } }
}

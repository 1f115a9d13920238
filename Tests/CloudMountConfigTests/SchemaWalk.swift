@testable import CloudMountConfig

/// YAML as a JSON Schema validator sees it: plain scalars typed by the core schema of YAML 1.2.
indirect enum CoreValue {
    case null
    case boolean(Bool)
    case integer(Int)
    case number(Double)
    case string(String)
    case array([CoreValue])
    case object([(name: String, value: CoreValue)])

    init(_ node: Node) {
        switch node.content {
        case .sequence(let nodes): self = .array(nodes.map { CoreValue($0) })
        case .mapping(let pairs): self = .object(pairs.map { ($0.key, CoreValue($0.value)) })
        case .scalar(let scalar):
            if !scalar.plain {
                self = .string(scalar.text)
            } else if node.isNull {
                self = .null
            } else if scalar.text == "true" || scalar.text == "false" {
                self = .boolean(scalar.text == "true")
            } else if let integer = Int(scalar.text) {
                self = .integer(integer)
            } else if scalar.text.first.map({ $0.isNumber || $0 == "-" }) == true, let number = Double(scalar.text) {
                self = .number(number)
            } else {
                self = .string(scalar.text)
            }
        }
    }

    var type: String {
        switch self {
        case .null: "null"
        case .boolean: "boolean"
        case .integer: "integer"
        case .number: "number"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }

    func equals(_ json: JSONValue) -> Bool {
        switch (self, json) {
        case (.string(let a), .string(let b)): a == b
        case (.integer(let a), .integer(let b)): a == b
        case (.boolean(let a), .boolean(let b)): a == b
        default: false
        }
    }
}

/// As much of JSON Schema (draft 07) as our schema uses. An unknown keyword fails, so that none goes unheeded.
struct SchemaWalk {
    let root: JSONValue

    func accepts(_ value: CoreValue, _ schema: JSONValue) -> Bool {
        if case .boolean(let all) = schema { return all }
        guard case .object(let members) = schema else { return false }
        return members.allSatisfy { holds($0.name, $0.value, value, schema) }
    }

    private func holds(_ keyword: String, _ rule: JSONValue, _ value: CoreValue, _ schema: JSONValue) -> Bool {
        switch (keyword, rule) {
        case ("$schema", _), ("title", _), ("description", _), ("default", _), ("definitions", _), ("then", _):
            return true
        case ("$ref", _):
            return root["definitions"]?["reference"].map { accepts(value, $0) } ?? false
        case ("type", .string(let type)): return has(value, type)
        case ("type", .array(let types)):
            return types.contains { if case .string(let type) = $0 { has(value, type) } else { false } }
        case ("const", _): return value.equals(rule)
        case ("enum", .array(let values)): return values.contains { value.equals($0) }
        case ("pattern", .string(let pattern)):
            guard case .string(let text) = value, let regex = try? Regex(pattern) else {
                // Patterns say nothing about numbers.
                if case .string = value { return false } else { return true }
            }
            return text.firstMatch(of: regex) != nil
        case ("minLength", .integer(let count)): return text(value).map { $0.count >= count } ?? true
        case ("minimum", .integer(let least)): return number(value).map { $0 >= Double(least) } ?? true
        case ("maximum", .integer(let most)): return number(value).map { $0 <= Double(most) } ?? true
        case ("items", _):
            if case .array(let items) = value { return items.allSatisfy { accepts($0, rule) } } else { return true }
        case ("anyOf", .array(let schemas)): return schemas.contains { accepts(value, $0) }
        case ("allOf", .array(let schemas)): return schemas.allSatisfy { accepts(value, $0) }
        case ("if", _): return !accepts(value, rule) || schema["then"].map { accepts(value, $0) } ?? true
        default: return holdsObject(keyword, rule, value, schema)
        }
    }

    private func holdsObject(_ keyword: String, _ rule: JSONValue, _ value: CoreValue, _ schema: JSONValue) -> Bool {
        guard case .object(let members) = value else {
            return ["properties", "required", "propertyNames", "patternProperties", "additionalProperties"].contains(
                keyword)
        }
        switch (keyword, rule) {
        case ("properties", _):
            return members.allSatisfy { member in rule[member.name].map { accepts(member.value, $0) } ?? true }
        case ("required", .array(let names)):
            return names.allSatisfy { name in members.contains { JSONValue.string($0.name) == name } }
        case ("propertyNames", _): return members.allSatisfy { accepts(.string($0.name), rule) }
        case ("patternProperties", _): return true
        case ("additionalProperties", _):
            return members.allSatisfy { member in
                let isFree = schema["patternProperties"] != nil && member.name.hasPrefix(Grammar.freePrefix)
                return schema["properties"]?[member.name] != nil || isFree || accepts(member.value, rule)
            }
        default: return false
        }
    }

    private func has(_ value: CoreValue, _ type: String) -> Bool {
        value.type == type || (type == "number" && value.type == "integer")
    }

    private func text(_ value: CoreValue) -> String? { if case .string(let text) = value { text } else { nil } }

    private func number(_ value: CoreValue) -> Double? {
        switch value {
        case .integer(let number): Double(number)
        case .number(let number): number
        default: nil
        }
    }
}

import CloudMountVFS

/// Turns scalars into values. Messages show the text as it is in the file, never what a reference stands for, and never
/// the text of a secret.
struct ValueReader {
    struct Fault: Error { var message: String }

    let interpolation: Interpolation
    /// What `~/` stands for.
    let home: String?

    func value(_ scalar: Node.Scalar, _ setting: Setting) throws(Fault) -> OptionValue {
        let text: String
        do throws(Interpolation.Fault) {
            let use: Interpolation.Use = setting.isCommand ? .command : setting.secret ? .secret : .plain
            text = try interpolation.resolve(scalar.text, for: use)
        } catch {
            throw Fault(message: "'\(setting.name)': \(error.message)")
        }
        let shown = shown(scalar, setting)
        if text.isEmpty, setting.required || setting.secret || !setting.kind.allowsEmpty {
            throw Fault(message: "'\(setting.name)' is empty")
        }
        if text.utf8.contains(0) { throw Fault(message: "\(shown) has a NUL character in it") }
        let bare = scalar.plain || Interpolation.isPresent(in: scalar.text)
        switch setting.kind {
        case .value(let kind):
            return try value(text, kind, bare: bare, shown: shown)
        case .name, .nameOr:
            if let fault = Self.nameFault(text) { throw Fault(message: "\(shown) \(fault)") }
            return .string(text)
        case .id:
            guard case .integer(let number) = try value(text, .integer, bare: bare, shown: shown) else {
                break
            }
            // The last one says "nobody" to chown(2).
            guard number <= Self.largestID else { throw Fault(message: "\(shown) is more than \(Self.largestID)") }
            return .integer(number)
        case .octal:
            guard (1...4).contains(text.utf8.count), let bits = Int(text, radix: 8), bits <= 0o777, text.first != "+",
                text.first != "-"
            else { throw Fault(message: "\(shown) is not an octal number such as \"022\"") }
            return .integer(bits)
        case .constant(let number):
            guard bare, text == String(number) else {
                throw Fault(message: "\(shown) is not supported; this cloudmount reads \(setting.name) \(number)")
            }
            return .integer(number)
        case .section, .table, .list, .later: break
        }
        throw Fault(message: "'\(setting.name)' must be \(setting.kind.noun), found text")
    }

    static let largestID = Int(UInt32.max) - 1

    /// The setting as it is in the file, without its text where that is a secret or may hold one.
    private func shown(_ scalar: Node.Scalar, _ setting: Setting) -> String {
        var text = Self.shortened(scalar.text)
        switch setting.kind {
        case .value(.url) where text.contains("@"): return "'\(setting.name)'"
        case .constant, .id, .value(.boolean), .value(.integer): if !scalar.plain { text = "\"\(text)\"" }
        default: break
        }
        return setting.secret ? "'\(setting.name)'" : "'\(setting.name): \(text)'"
    }

    private func value(
        _ text: String, _ kind: OptionDescriptor.Kind, bare: Bool, shown: String
    ) throws(Fault) -> OptionValue {
        switch kind {
        case .string: return .string(text)
        case .boolean:
            if bare, text == "true" { return .boolean(true) }
            if bare, text == "false" { return .boolean(false) }
            let meant: String? =
                switch text.lowercased() {
                case "yes", "on", "true", "y", "1": "true"
                case "no", "off", "false", "n", "0": "false"
                default: nil
                }
            throw Fault(message: "\(shown) is neither true nor false" + (meant.map { "; did you mean \($0)?" } ?? ""))
        case .integer:
            guard bare, let number = Int(text), number >= 0, text.first != "+" else {
                throw Fault(message: "\(shown) is not a whole number")
            }
            return .integer(number)
        case .size:
            do throws(Units.Fault) { return .integer(try Units.size(text)) } catch {
                throw Fault(message: "\(shown) \(error.message)")
            }
        case .duration:
            do throws(Units.Fault) { return .duration(try Units.duration(text)) } catch {
                throw Fault(message: "\(shown) \(error.message)")
            }
        case .choice(let choices):
            if choices.contains(text) { return .string(text) }
            let known = choices.joined(separator: ", ")
            throw Fault(message: "\(shown) is unknown (known: \(known))\(NearestWord.hint(text, among: choices))")
        case .url:
            if let fault = Self.urlFault(text) { throw Fault(message: "\(shown) \(fault)") }
            return .string(text)
        case .path: return .string(try path(text, shown: shown))
        }
    }

    /// Absolute, without empty or `.` components.
    private func path(_ text: String, shown: String) throws(Fault) -> String {
        var text = text
        if text == "~" || text.hasPrefix("~/") {
            guard let home, home.hasPrefix("/") else { throw Fault(message: "\(shown): there is no $HOME") }
            text = home + text.dropFirst()
        }
        guard text.hasPrefix("/") else {
            let hint = text.contains("/") || text.hasPrefix(".") ? "" : "; did you mean '/\(Self.shortened(text))'?"
            throw Fault(message: "\(shown) is not an absolute path\(Interpolation.isPresent(in: shown) ? "" : hint)")
        }
        let components = text.utf8.split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) }
        guard !components.contains("..") else { throw Fault(message: "\(shown) has '..' in it") }
        guard text.utf8.count < 4096 else { throw Fault(message: "\(shown) is longer than 4095 bytes") }
        return "/" + components.filter { $0 != "." }.joined(separator: "/")
    }

    static let namePattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
    static let octalPattern = "^[0-7]{1,4}$"
    static let pathPattern = "^(?!.*/\\.\\.(/|$))(/|~/|~$)"
    static let urlPattern = "^https?://[^/@?# ]+(/[^@?# ]*)?$"

    /// What is wrong with the name, or nil.
    static func nameFault(_ text: String) -> String? {
        let legal = text.unicodeScalars.allSatisfy {
            $0.isASCII
                && ($0.properties.isAlphabetic || $0.properties.numericType != nil || "._-".unicodeScalars.contains($0))
        }
        guard legal, let first = text.first, first.isLetter || first.isNumber else {
            return "is not a name: letters, digits, '.', '_' and '-' make one"
        }
        return text.utf8.count <= 64 ? nil : "is longer than 64 characters"
    }

    private static func urlFault(_ text: String) -> String? {
        let rest: Substring
        if text.hasPrefix("https://") {
            rest = text.dropFirst(8)
        } else if text.hasPrefix("http://") {
            rest = text.dropFirst(7)
        } else {
            return "is not a URL that begins with https:// or http://"
        }
        if rest.contains("@") { return "has a user or a password in it; secrets belong in credentials" }
        let host = rest.prefix { $0 != "/" }
        guard !host.isEmpty else { return "has no host" }
        return rest.contains { $0 == " " || $0 == "?" || $0 == "#" } ? "is more than scheme, host, port and path" : nil
    }

    private static func shortened(_ text: String) -> String {
        let line = text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? " " : String($0) }
        return line.count <= 60 ? line.joined() : line.prefix(57).joined() + "…"
    }
}

extension Setting.Kind {
    /// For "must be …".
    var noun: String {
        switch self {
        case .value(.boolean): "true or false"
        case .value(.integer), .id, .constant: "a number"
        case .value(.size): "a size"
        case .value(.duration): "a duration"
        case .value(.path): "a path"
        case .value(.url): "a URL"
        case .value, .octal, .later: "text"
        case .name: "a name"
        case .section, .table: "a mapping"
        case .list: "a list"
        case .nameOr: "a name or a mapping"
        }
    }

    var allowsEmpty: Bool { if case .value(.string) = self { true } else { false } }
}

import CYAML

/// The text of the file, for turning offsets into places and libyaml's complaints into sentences.
struct SourceLines {
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Offset of the first byte that is not part of UTF-8.
    var firstInvalidUTF8: Int? {
        if String(validating: bytes, as: UTF8.self) != nil { return nil }
        var low = 0
        var decoder = UTF8()
        var iterator = bytes.makeIterator()
        while true {
            switch decoder.decode(&iterator) {
            case .scalarValue(let scalar): low += UTF8.width(scalar)
            case .emptyInput: return nil
            case .error: return low
            }
        }
    }

    func mark(offset: Int) -> Mark {
        let before = bytes.prefix(offset)
        let lineStart = before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
        let line = before.reduce(1) { $0 + ($1 == UInt8(ascii: "\n") ? 1 : 0) }
        return Mark(line: line, column: String(decoding: before[lineStart...], as: UTF8.self).unicodeScalars.count + 1)
    }

    private func line(_ number: Int) -> String {
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        guard number >= 1, number <= lines.count else { return "" }
        return String(decoding: lines[number - 1], as: UTF8.self)
    }

    /// The key that a line begins with. Of a line that cannot be parsed nothing more is shown: the rest may be a secret.
    private func key(onLine number: Int) -> String? {
        let text = line(number).drop { $0 == " " || $0 == "\t" || $0 == "-" }
        let key = text.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
        let after = text.dropFirst(key.count).drop { $0 == " " }
        return after.first == ":" && !key.isEmpty ? String(key) : nil
    }

    func syntaxError(_ parser: yaml_parser_t) -> YAMLTree.SyntaxError {
        let problem = parser.problem.map { String(cString: $0) } ?? "unreadable"
        let context = parser.context.map { String(cString: $0) } ?? ""
        if parser.error == YAML_READER_ERROR {
            return YAMLTree.SyntaxError(mark: mark(offset: Int(parser.problem_offset)), message: "not YAML: \(problem)")
        }
        let begun = Mark(line: parser.context_mark.line + 1, column: parser.context_mark.column + 1)
        var mark = Mark(line: parser.problem_mark.line + 1, column: parser.problem_mark.column + 1)
        let offender = line(mark.line).unicodeScalars.dropFirst(mark.column - 1).first
        var message: String
        switch (problem, offender) {
        case ("found character that cannot start any token", "\t"?):
            message = "a tab; YAML is indented with spaces"
        case ("found character that cannot start any token", let character?):
            message = "a value cannot begin with '\(character)'; put it in quotes"
        case ("mapping values are not allowed in this context", _):
            message = "a ':' that makes no key here; check the indentation, or put the value in quotes"
        case ("found unexpected end of stream", _) where context.contains("quoted scalar"):
            mark = begun
            message = "the quote that opens here is never closed"
        case ("did not find expected ',' or '}'", _), ("did not find expected ',' or ']'", _):
            let bracket = problem.hasSuffix("'}'") ? "{" : "["
            message = "'\(bracket)' of \(begun.line):\(begun.column) is not closed, or a ',' is missing"
        case ("could not find expected ':'", _):
            message = "a key without ':'"
        case ("did not find expected key", _):
            message = "this does not line up with the mapping that began at \(begun.line):\(begun.column)"
        case ("did not find expected '-' indicator", _):
            message = "this does not line up with the list that began at \(begun.line):\(begun.column)"
        default:
            message = "not YAML: \(problem)" + (context.isEmpty ? "" : " \(context)")
        }
        if let key = key(onLine: mark.line) { message += ", near '\(key):'" }
        return YAMLTree.SyntaxError(mark: mark, message: message)
    }
}

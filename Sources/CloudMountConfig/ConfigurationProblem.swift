/// One thing wrong with `mounts.yaml`. `description` is `file:line:column: message`; no secret is in it.
public struct ConfigurationProblem: Sendable, Hashable, CustomStringConvertible {
    public var file: String
    /// From 1; 0 when the problem has no place in the file.
    public var line: Int
    /// From 1, in characters; 0 when the problem has no place in the file.
    public var column: Int
    public var message: String

    public var description: String { line == 0 ? "\(file): \(message)" : "\(file):\(line):\(column): \(message)" }
}

/// All that is wrong with a file, in its order.
public struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    public var problems: [ConfigurationProblem]
    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// Collects while the file is read, so that one run tells everything.
struct Problems {
    let file: String
    private(set) var errors: [ConfigurationProblem] = []
    private(set) var warnings: [ConfigurationProblem] = []

    init(file: String) { self.file = file }

    mutating func error(_ mark: Mark?, _ message: String) { errors.append(problem(mark, message)) }
    mutating func warn(_ mark: Mark?, _ message: String) { warnings.append(problem(mark, message)) }

    /// In the order of the file; an alias or a merge may have shown one fault twice.
    var error: ConfigurationError {
        var seen: Set<ConfigurationProblem> = []
        let sorted = errors.sorted { ($0.line, $0.column) < ($1.line, $1.column) }
        return ConfigurationError(problems: sorted.filter { seen.insert($0).inserted })
    }

    private func problem(_ mark: Mark?, _ message: String) -> ConfigurationProblem {
        ConfigurationProblem(file: file, line: mark?.line ?? 0, column: mark?.column ?? 0, message: message)
    }
}

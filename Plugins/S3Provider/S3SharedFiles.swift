import CloudMountPlatform
import CloudMountVFS

/// What `~/.aws/config` and `~/.aws/credentials` said when they were read, or the files that `AWS_CONFIG_FILE` and
/// `AWS_SHARED_CREDENTIALS_FILE` name.
///
/// Source: "Shared config and credentials files", AWS SDKs and Tools Reference Guide.
struct S3SharedFiles: Sendable {
    struct Profile: Sendable {
        /// Names in lower case; what is indented below `s3 =` is `s3.name`.
        var values: [String: String] = [:]
        /// Why its `credential_process` is not run.
        var commandFault: String?

        subscript(name: String) -> String? { values[name] }
    }

    private(set) var profiles: [String: Profile] = [:]
    /// `[sso-session NAME]`
    private(set) var sessions: [String: [String: String]] = [:]
    /// `[services NAME]`
    private(set) var services: [String: [String: String]] = [:]
    /// That were read, or would be if they were there.
    private(set) var files: [WatchedFile] = []
    /// How messages name them.
    private(set) var places = (credentials: "~/.aws/credentials", config: "~/.aws/config")

    static func credentialsPath(_ environment: S3Environment) -> String? {
        environment.variable("AWS_SHARED_CREDENTIALS_FILE") ?? environment.home.map { "\($0)/.aws/credentials" }
    }

    static func configPath(_ environment: S3Environment) -> String? {
        environment.variable("AWS_CONFIG_FILE") ?? environment.home.map { "\($0)/.aws/config" }
    }

    /// Files that are not there say nothing. Blocks on the local disk.
    static func read(_ environment: S3Environment) throws(VFSError) -> S3SharedFiles {
        let paths = (credentialsPath(environment), configPath(environment))
        var shared = S3SharedFiles()
        shared.files = [paths.0, paths.1].compactMap { $0.map { WatchedFile($0) } }
        if let path = paths.0 { shared.places.credentials = path }
        if let path = paths.1 { shared.places.config = path }
        if let path = paths.1, let file = try WatchedFile(path).read() {
            shared.take(config: String(decoding: file.bytes, as: UTF8.self), commandFault: file.commandFault)
        }
        if let path = paths.0, let file = try WatchedFile(path).read() {
            shared.take(credentials: String(decoding: file.bytes, as: UTF8.self), commandFault: file.commandFault)
        }
        return shared
    }

    mutating func take(config text: String, commandFault: String?) {
        var profiles: [String: Profile] = [:]
        var plainDefault: [String: String]?
        for section in Self.sections(of: text) {
            let name = section.title.dropFirst().joined(separator: " ")
            switch section.title.first {
            case "default"? where name.isEmpty: plainDefault = (plainDefault ?? [:]).merging(section.values) { $1 }
            case "profile"? where !name.isEmpty:
                profiles[name, default: Profile()].values.merge(section.values) { $1 }
            case "sso-session"? where !name.isEmpty: sessions[name, default: [:]].merge(section.values) { $1 }
            case "services"? where !name.isEmpty: services[name, default: [:]].merge(section.values) { $1 }
            default: break
            }
        }
        // [profile default] stands before [default], which then says nothing.
        if profiles["default"] == nil, let plainDefault { profiles["default"] = Profile(values: plainDefault) }
        for (name, profile) in profiles { add(profile.values, to: name, commandFault) }
    }

    mutating func take(credentials text: String, commandFault: String?) {
        for section in Self.sections(of: text) where !section.title.isEmpty {
            add(section.values, to: section.title.joined(separator: " "), commandFault)
        }
    }

    private mutating func add(_ values: [String: String], to name: String, _ commandFault: String?) {
        var profile = profiles[name] ?? Profile()
        profile.values.merge(values) { $1 }
        if values["credential_process"] != nil { profile.commandFault = commandFault }
        profiles[name] = profile
    }

    /// The sections in order, each with the words of its title.
    static func sections(of text: String) -> [(title: [String], values: [String: String])] {
        var sections: [(title: [String], values: [String: String])] = []
        /// The key whose indented lines are settings of their own.
        var parent: String?
        for line in text.split(whereSeparator: \.isNewline) {
            let trimmed = trim(line)
            if trimmed.isEmpty || trimmed.first == "#" || trimmed.first == ";" { continue }
            if line.first == "[" {
                let title = trim(trimmed.dropFirst().prefix { $0 != "]" })
                let words =
                    ProcessCredentials.words(title) ?? title.split(whereSeparator: \.isWhitespace).map(String.init)
                sections.append((words, [:]))
                parent = nil
            } else if !sections.isEmpty, let equals = trimmed.firstIndex(of: "=") {
                let key = trim(trimmed[..<equals]).lowercased()
                let value = trim(trimmed[trimmed.index(after: equals)...])
                let last = sections.count - 1
                if line.first?.isWhitespace ?? false {
                    if let parent, !value.isEmpty { sections[last].values["\(parent).\(key)"] = value }
                } else {
                    parent = value.isEmpty ? key : nil
                    if !value.isEmpty { sections[last].values[key] = value }
                }
            }
        }
        return sections
    }

    private static func trim(_ text: some StringProtocol) -> String {
        var text = Substring(text)
        while text.first?.isWhitespace ?? false { text.removeFirst() }
        while text.last?.isWhitespace ?? false { text.removeLast() }
        return String(text)
    }
}

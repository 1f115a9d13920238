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
        /// By key: why it is not used, for somebody else may write the file. Of keys that redirect or name an identity.
        var faults: [String: String] = [:]

        subscript(name: String) -> String? { values[name] }
    }

    private(set) var profiles: [String: Profile] = [:]
    /// `[sso-session NAME]`
    private(set) var sessions: [String: [String: String]] = [:]
    /// `[services NAME]`
    private(set) var services: [String: [String: String]] = [:]
    /// Who else may write the config file.
    private(set) var configFault: String?
    /// Variables that name a file that is not there, and the file.
    private(set) var missing: [String] = []
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
    /// - Throws: a file cannot be read, or holds a line that is none of its kind.
    static func read(_ environment: S3Environment) throws(VFSError) -> S3SharedFiles {
        let paths = (credentialsPath(environment), configPath(environment))
        var shared = S3SharedFiles()
        shared.files = [paths.0, paths.1].compactMap { $0.map { WatchedFile($0) } }
        if let path = paths.0 { shared.places.credentials = path }
        if let path = paths.1 { shared.places.config = path }
        if let path = paths.1 {
            if let file = try WatchedFile(path).read() {
                try shared.take(config: text(file.bytes), fault: file.fault)
            } else if environment.variable("AWS_CONFIG_FILE") != nil {
                shared.missing.append("AWS_CONFIG_FILE names \(path)")
            }
        }
        if let path = paths.0 {
            if let file = try WatchedFile(path).read() {
                try shared.take(credentials: text(file.bytes), fault: file.fault)
            } else if environment.variable("AWS_SHARED_CREDENTIALS_FILE") != nil {
                shared.missing.append("AWS_SHARED_CREDENTIALS_FILE names \(path)")
            }
        }
        return shared
    }

    /// Without the mark of UTF-8 that some editors write.
    static func text(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes[3...] : bytes[...], as: UTF8.self)
    }

    /// - Parameter fault: who else may write the file.
    mutating func take(config text: String, fault: String?) throws(VFSError) {
        configFault = fault
        var profiles: [String: [String: String]] = [:]
        var plainDefault: [String: String]?
        for section in try Self.sections(of: text, in: places.config) {
            let name = section.title.dropFirst().joined(separator: " ")
            switch section.title.first {
            case "default"? where name.isEmpty: plainDefault = (plainDefault ?? [:]).merging(section.values) { $1 }
            case "profile"? where !name.isEmpty: profiles[name, default: [:]].merge(section.values) { $1 }
            case "sso-session"? where !name.isEmpty: sessions[name, default: [:]].merge(section.values) { $1 }
            case "services"? where !name.isEmpty: services[name, default: [:]].merge(section.values) { $1 }
            default: break
            }
        }
        // [profile default] stands before [default], which then says nothing.
        if profiles["default"] == nil, let plainDefault { profiles["default"] = plainDefault }
        for (name, values) in profiles { add(values, to: name, fault) }
    }

    /// - Parameter fault: who else may write the file.
    mutating func take(credentials text: String, fault: String?) throws(VFSError) {
        for section in try Self.sections(of: text, in: places.credentials) where !section.title.isEmpty {
            add(section.values, to: section.title.joined(separator: " "), fault)
        }
    }

    private mutating func add(_ values: [String: String], to name: String, _ fault: String?) {
        var profile = profiles[name] ?? Profile()
        profile.values.merge(values) { $1 }
        for key in values.keys where Self.needsTrust(key) { profile.faults[key] = fault }
        profiles[name] = profile
    }

    /// Who writes such a key sends requests where he likes, or picks the identity or a program.
    private static func needsTrust(_ key: String) -> Bool { key.hasPrefix("sso_") || trusted.contains(key) }

    private static let trusted: Set<String> = [
        "endpoint_url", "services", "ca_bundle", "role_arn", "source_profile", "credential_source",
        "web_identity_token_file", "credential_process", "login_session", "ec2_metadata_service_endpoint",
    ]

    /// - Throws: somebody else may write a key of the profile that redirects or names an identity.
    func checkTrust(_ name: String) throws(VFSError) {
        guard let (key, fault) = profiles[name]?.faults.min(by: { $0.key < $1.key }) else { return }
        throw .credentials("\(key) of profile '\(name)' is not used: \(fault)")
    }

    /// The sections in order, each with the words of its title. Blanks before a line count as they do for the AWS CLI: a line that is
    /// indented more than the key above it belongs to that key.
    /// - Parameter place: the file, for messages.
    /// - Throws: a line is neither section, key, part of a value nor comment.
    static func sections(
        of text: String, in place: String
    ) throws(VFSError) -> [(title: [String], values: [String: String])] {
        var sections: [(title: [String], values: [String: String])] = []
        /// The key that more indented lines belong to, and whether they are settings of their own.
        var last: (key: String, indent: Int, isParent: Bool)?
        var number = 0
        for line in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
            number += 1
            let trimmed = trim(line)
            if trimmed.isEmpty || trimmed.first == "#" || trimmed.first == ";" { continue }
            func fault(_ what: String) -> VFSError { .credentials("\(place), line \(number): \(what)") }
            let indent = line.prefix(while: \.isWhitespace).count
            if let last, indent > last.indent {
                guard trimmed.first != "[" else {
                    throw fault("a section must not be indented: it would belong to \(last.key.cut(to: 100).printable)")
                }
                guard last.isParent else { continue }
                guard let equals = trimmed.firstIndex(of: "=") else { throw fault("there is no '='") }
                let value = trim(trimmed[trimmed.index(after: equals)...])
                let key = "\(last.key).\(trim(trimmed[..<equals]).lowercased())"
                if !value.isEmpty { sections[sections.count - 1].values[key] = value }
            } else if trimmed.first == "[" {
                guard trimmed.utf8.count <= longestTitle else { throw fault("the name of the section is too long") }
                guard let end = trimmed.firstIndex(of: "]") else { throw fault("there is no ']' after '['") }
                let title = trim(trimmed[..<end].dropFirst())
                guard !title.isEmpty else { throw fault("the section has no name") }
                let words =
                    ProcessCredentials.words(title) ?? title.split(whereSeparator: \.isWhitespace).map(String.init)
                sections.append((words, [:]))
                last = nil
            } else {
                guard let mark = trimmed.firstIndex(where: { $0 == "=" || $0 == ":" }), mark > trimmed.startIndex else {
                    throw fault("it is neither [section], key = value nor a comment")
                }
                guard !sections.isEmpty else { throw fault("there is no [section] above it") }
                let key = trim(trimmed[..<mark]).lowercased()
                let value = trim(trimmed[trimmed.index(after: mark)...])
                last = (key, indent, value.isEmpty)
                if !value.isEmpty { sections[sections.count - 1].values[key] = value }
            }
        }
        return sections
    }

    /// Bytes of a line that begins a section.
    private static let longestTitle = 4 << 10

    private static func trim(_ text: some StringProtocol) -> String {
        var text = Substring(text)
        while text.first?.isWhitespace ?? false { text.removeFirst() }
        while text.last?.isWhitespace ?? false { text.removeLast() }
        return String(text)
    }
}

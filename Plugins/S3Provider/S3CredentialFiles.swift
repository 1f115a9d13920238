import CloudMountVFS
import Glibc

/// A file and the state in which it was read.
struct WatchedFile: Sendable, Equatable {
    var path: String
    private var seconds = 0
    private var nanoseconds = 0
    private var size = 0
    private var inode: UInt = 0

    /// The state now; a file that is not there has one as well.
    init(_ path: String) {
        self.path = path
        var status = stat()
        guard stat(path, &status) == 0 else { return }
        seconds = status.st_mtim.tv_sec
        nanoseconds = status.st_mtim.tv_nsec
        size = Int(status.st_size)
        inode = UInt(status.st_ino)
    }

    var isChanged: Bool { WatchedFile(path) != self }

    /// Nil when there is no such file.
    /// - Returns: its bytes, and why no command that it names is run.
    func read(limit: Int = 1 << 20) throws(VFSError) -> (bytes: [UInt8], commandFault: String?)? {
        guard let file = fopen(path, "re") else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw .credentials("\(path) cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = fread(&bytes, 1, limit, file)
        guard ferror(file) == 0 else { throw .credentials("\(path) cannot be read") }
        var status = stat()
        guard fstat(fileno(file), &status) == 0 else { throw .credentials("\(path) cannot be read") }
        let fault = CommandFile.fault(path, mode: status.st_mode, owner: status.st_uid, user: geteuid())
        return (Array(bytes[..<count]), fault)
    }
}

/// One profile of `~/.aws/credentials` and `~/.aws/config` (or the files that `AWS_SHARED_CREDENTIALS_FILE` and
/// `AWS_CONFIG_FILE` name): static keys or a `credential_process`.
struct SharedFileCredentials: S3CredentialSource {
    var profile: String
    var environment: S3Environment

    var credentialsPath: String? {
        environment.variable("AWS_SHARED_CREDENTIALS_FILE") ?? environment.home.map { "\($0)/.aws/credentials" }
    }

    var configPath: String? {
        environment.variable("AWS_CONFIG_FILE") ?? environment.home.map { "\($0)/.aws/config" }
    }

    var exists: Bool { [credentialsPath, configPath].contains { $0.map { access($0, F_OK) == 0 } ?? false } }

    /// Keys that make other tools take another way to the credentials: passing over one would use the wrong identity.
    private static let unsupported = [
        "role_arn", "source_profile", "credential_source", "web_identity_token_file", "sso_session", "sso_start_url",
        "sso_account_id", "sso_role_name", "mfa_serial",
    ]

    func load() throws(VFSError) -> S3CredentialAnswer {
        let watched = [credentialsPath, configPath].compactMap { $0.map { WatchedFile($0) } }
        let secrets = try section([profile], of: credentialsPath)
        let settings = try section(profile == "default" ? [profile] : ["profile", profile], of: configPath)
        guard secrets != nil || settings != nil else {
            throw .credentials(
                "profile '\(profile)' is neither in \(credentialsPath ?? "~/.aws/credentials") nor in "
                    + "\(configPath ?? "~/.aws/config")")
        }
        let values = (settings?.values ?? [:]).merging(secrets?.values ?? [:]) { _, secret in secret }
        if let key = Self.unsupported.first(where: { values[$0] != nil }) {
            throw .credentials(
                "profile '\(profile)' uses '\(key)', which is not supported: use keys or a credential_process")
        }
        var answer = S3CredentialAnswer(region: values["region"], files: watched)
        switch (values["aws_access_key_id"], values["aws_secret_access_key"]) {
        case (let id?, let secret?):
            answer.credentials = S3Credentials(
                accessKeyID: id, secretAccessKey: secret, sessionToken: values["aws_session_token"])
        case (nil, nil):
            guard let process = values["credential_process"] else {
                throw .credentials(
                    "profile '\(profile)' has neither aws_access_key_id and aws_secret_access_key nor a "
                        + "credential_process")
            }
            let source = secrets?.values["credential_process"] == nil ? settings : secrets
            if let fault = source?.commandFault {
                throw .credentials("the credential_process of profile '\(profile)' is not run: \(fault)")
            }
            answer.credentials = try ProcessCredentials(command: process).load().credentials
            answer.isOfCommand = true
        default:
            throw .credentials("profile '\(profile)' has one of aws_access_key_id and aws_secret_access_key only")
        }
        return answer
    }

    private func section(
        _ title: [String], of path: String?
    ) throws(VFSError) -> (values: [String: String], commandFault: String?)? {
        guard let path, let file = try WatchedFile(path).read(),
            let values = Self.section(title, of: String(decoding: file.bytes, as: UTF8.self))
        else { return nil }
        return (values, file.commandFault)
    }

    /// The keys of the section whose title has these words; sections of one title are merged. Indented lines (nested
    /// settings) are passed over.
    static func section(_ title: [String], of text: String) -> [String: String]? {
        var found: [String: String]?
        var inside = false
        for line in text.split(whereSeparator: \.isNewline) {
            let trimmed = trim(line)
            if trimmed.isEmpty || trimmed.first == "#" || trimmed.first == ";" { continue }
            if line.first == "[" {
                let text = trim(trimmed.dropFirst().prefix { $0 != "]" })
                inside = ProcessCredentials.words(text) == title || text == title.joined(separator: " ")
                if inside, found == nil { found = [:] }
            } else if inside, line.first?.isWhitespace == false, let equals = trimmed.firstIndex(of: "=") {
                let key = trim(trimmed[..<equals]).lowercased()
                let value = trim(trimmed[trimmed.index(after: equals)...])
                if !value.isEmpty { found?[key] = value }
            }
        }
        return found
    }

    private static func trim(_ text: Substring) -> String {
        var text = text
        while text.first?.isWhitespace ?? false { text.removeFirst() }
        while text.last?.isWhitespace ?? false { text.removeLast() }
        return String(text)
    }
}

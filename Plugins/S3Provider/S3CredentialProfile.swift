import CloudMountPlatform
import CloudMountVFS

/// One profile of the shared files: keys, a command, a role that is taken on by way of other credentials, and so on.
///
/// What the profile asks for and cannot be had is an error.
struct ProfileCredentials: S3CredentialSource {
    var profile: String
    var environment: S3Environment

    /// Keys that ask for credentials of a kind.
    private static let kinds = [
        "aws_access_key_id", "aws_secret_access_key", "credential_process", "role_arn", "source_profile",
        "credential_source", "web_identity_token_file", "sso_session", "sso_start_url", "sso_account_id",
        "sso_role_name", "login_session",
    ]

    static func hasCredentials(_ profile: S3SharedFiles.Profile) -> Bool {
        kinds.contains { profile[$0] != nil }
    }

    static func files(_ environment: S3Environment) async throws(VFSError) -> S3SharedFiles {
        try await BlockingPool.credentialFiles.run { () throws(VFSError) in try S3SharedFiles.read(environment) }
    }

    func load() async throws(VFSError) -> S3CredentialAnswer { try await load(Self.files(environment)) }

    func load(_ files: S3SharedFiles) async throws(VFSError) -> S3CredentialAnswer {
        let settings = S3Settings(environment, files, profile: profile)
        var answer = try await ProfileChain(files: files, settings: settings).credentials(of: profile, through: [])
        answer.files += files.files
        answer.source = "profile '\(profile)'" + (answer.source.isEmpty ? "" : ": \(answer.source)")
        return answer
    }
}

/// Follows profiles that name others.
private struct ProfileChain: Sendable {
    let files: S3SharedFiles
    /// Of the profile that was asked for.
    let settings: S3Settings

    /// Profiles in a chain: each may cost a request.
    private static let most = 10

    /// - Parameter visited: the profiles that need this one, the first of them first.
    func credentials(of name: String, through visited: [String]) async throws(VFSError) -> S3CredentialAnswer {
        guard let profile = files.profiles[name] else {
            let asker = visited.last.map { ", the source_profile of '\($0)'," } ?? ""
            throw .credentials(
                "profile '\(name)'\(asker) is neither in \(files.places.credentials) nor in \(files.places.config)")
        }
        try files.checkTrust(name)
        let place = "profile '\(name)'"
        let hasKeys = profile["aws_access_key_id"] != nil || profile["aws_secret_access_key"] != nil
        // A profile that another one has as its source is that for its keys, where it has some.
        if hasKeys, !visited.isEmpty { return try keys(profile, place) }
        if let token = profile["web_identity_token_file"] {
            guard let arn = profile["role_arn"] else {
                throw .credentials("\(place) has a web_identity_token_file and no role_arn")
            }
            let role = try S3Role(
                arn: arn, sessionName: profile["role_session_name"], duration: profile["duration_seconds"], of: place)
            return try await WebIdentityCredentials(role: role, tokenFile: token, settings: settings).load()
        }
        if let arn = profile["role_arn"] {
            return try await role(arn, profile, name, visited)
        }
        if let key = ["source_profile", "credential_source"].first(where: { profile[$0] != nil }) {
            throw .credentials("\(place) has a \(key) and no role_arn")
        }
        if let source = try SSOCredentials(profile: name, files, settings) { return try await source.load() }
        if hasKeys { return try keys(profile, place) }
        if let session = profile["login_session"] {
            return try await LoginCredentials(session: session, profile: name, settings: settings).load()
        }
        guard let process = profile["credential_process"] else {
            if profile["sso_session"] != nil {
                throw .credentials("\(place) has an sso_session and neither sso_account_id nor sso_role_name")
            }
            throw .credentials(
                "\(place) has no credentials: neither aws_access_key_id and aws_secret_access_key nor role_arn, "
                    + "sso_session, credential_process or another source")
        }
        return try await ProcessCredentials(command: process).load()
    }

    private func keys(_ profile: S3SharedFiles.Profile, _ place: String) throws(VFSError) -> S3CredentialAnswer {
        guard let id = profile["aws_access_key_id"], let secret = profile["aws_secret_access_key"] else {
            throw .credentials("\(place) has one of aws_access_key_id and aws_secret_access_key only")
        }
        return S3CredentialAnswer(
            credentials: S3Credentials(
                accessKeyID: id, secretAccessKey: secret, sessionToken: profile["aws_session_token"]))
    }

    private func role(
        _ arn: String, _ profile: S3SharedFiles.Profile, _ name: String, _ visited: [String]
    ) async throws(VFSError) -> S3CredentialAnswer {
        let place = "profile '\(name)'"
        if let device = profile["mfa_serial"] {
            throw .credentials(
                "\(place) needs a code of the MFA device \(device.printable), which a daemon cannot ask a person for")
        }
        let role = try S3Role(
            arn: arn, sessionName: profile["role_session_name"], duration: profile["duration_seconds"],
            externalID: profile["external_id"], of: place)
        let base: S3CredentialAnswer
        switch (profile["source_profile"], profile["credential_source"]) {
        case (_?, _?): throw .credentials("\(place) has both a source_profile and a credential_source")
        case (nil, nil): throw .credentials("\(place) has a role_arn and neither source_profile nor credential_source")
        case (let source?, nil): base = try await self.source(source, of: name, visited)
        case (nil, let source?): base = try await namedSource(source, place)
        }
        guard let credentials = base.credentials else { throw .credentials("\(place): its source has no credentials") }
        let service = try S3TokenService(settings, for: role)
        var answer = S3CredentialAnswer(files: base.files, isCostly: true)
        answer.credentials = try await service.credentials(role, by: credentials)
        answer.source = "role \(role.arn)" + (base.source.isEmpty ? "" : " by \(base.source)")
        return answer
    }

    private func source(
        _ source: String, of name: String, _ visited: [String]
    ) async throws(VFSError) -> S3CredentialAnswer {
        let path = visited + [name]
        // A profile may be its own source: for its keys.
        if source == name, let own = files.profiles[name] {
            guard own["aws_access_key_id"] != nil || own["aws_secret_access_key"] != nil else {
                throw .credentials("profile '\(name)' is its own source_profile and has no keys")
            }
            return try keys(own, "profile '\(name)'")
        }
        guard !path.contains(source) else {
            throw .credentials(
                "profiles go in a circle by source_profile: \((path + [source]).joined(separator: ", "))")
        }
        guard path.count < Self.most else {
            throw .credentials("profile '\(path[0])' goes through more than \(Self.most) others by source_profile")
        }
        var answer = try await credentials(of: source, through: path)
        answer.source = "profile '\(source)'" + (answer.source.isEmpty ? "" : ": \(answer.source)")
        return answer
    }

    private func namedSource(_ source: String, _ place: String) async throws(VFSError) -> S3CredentialAnswer {
        switch source {
        case "Environment":
            guard let credentials = try DefaultCredentials.keys(settings.environment) else {
                throw .credentials("\(place): its credential_source is Environment, where AWS_ACCESS_KEY_ID is not set")
            }
            return S3CredentialAnswer(credentials: credentials, source: "environment")
        case "Ec2InstanceMetadata": return try await InstanceCredentials(settings: settings).load()
        case "EcsContainer": return try await ContainerCredentials(settings: settings).load()
        default:
            throw .credentials(
                "\(place): credential_source is not one of Environment, Ec2InstanceMetadata and EcsContainer")
        }
    }
}

/// A role that a token of somebody else's, such as a Kubernetes cluster's, may take on. The file is read for each renewal.
struct WebIdentityCredentials: S3CredentialSource {
    var role: S3Role
    var tokenFile: String
    var settings: S3Settings

    /// `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN` and `AWS_ROLE_SESSION_NAME`.
    static func ofEnvironment(_ environment: S3Environment) async throws(VFSError) -> WebIdentityCredentials {
        guard let file = environment.variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
            let arn = environment.variable("AWS_ROLE_ARN")
        else { throw .credentials("AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not") }
        let role = try S3Role(
            arn: arn, sessionName: environment.variable("AWS_ROLE_SESSION_NAME"), of: "AWS_ROLE_ARN")
        let files = try await ProfileCredentials.files(environment)
        let profile = environment.variable("AWS_PROFILE") ?? "default"
        try files.checkTrust(profile)
        return WebIdentityCredentials(
            role: role, tokenFile: file, settings: S3Settings(environment, files, profile: profile))
    }

    func load() async throws(VFSError) -> S3CredentialAnswer {
        let file = tokenFile
        let token = try await BlockingPool.credentialFiles.run { () throws(VFSError) in
            try WatchedFile.token(file, "web identity token file")
        }
        var answer = S3CredentialAnswer(
            isCostly: true, source: "role \(role.arn) by web identity")
        answer.credentials = try await S3TokenService(settings, for: role).credentials(role, token: token)
        return answer
    }
}

import CloudMountPlatform
import CloudMountVFS
import Glibc

/// What surrounds the process, so that tests can stand in for it.
struct S3Environment: Sendable {
    var variable: @Sendable (String) -> String? = { name in
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }
    var now: @Sendable () -> Timestamp = { SystemClock.now() }

    var home: String? {
        variable("HOME") ?? Self.accountHome
    }

    /// Of the daemon's user, asked for once.
    private static let accountHome = home(of: getuid())

    /// The home directory that the account of a user has; nil: there is no such account, or none can be asked for.
    static func home(of user: uid_t) -> String? {
        var buffer = [CChar](repeating: 0, count: 1 << 16)
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        return buffer.withUnsafeMutableBufferPointer { buffer in
            guard let start = buffer.baseAddress, getpwuid_r(user, &entry, start, buffer.count, &found) == 0,
                found != nil, let directory = entry.pw_dir
            else { return nil }
            let path = String(cString: directory)
            return path.isEmpty ? nil : path
        }
    }

    static let process = S3Environment()
}

/// Picks the source: what `credentials:` says, else what the environment of the process offers.
enum S3CredentialChain {
    static let descriptors: [OptionDescriptor] = [
        OptionDescriptor("access_key_id", .string, "access key"),
        OptionDescriptor("secret_access_key", .string, "secret of the access key", secret: true),
        OptionDescriptor("session_token", .string, "token of temporary credentials", secret: true),
        OptionDescriptor("profile", .string, "section of ~/.aws/credentials and ~/.aws/config"),
        OptionDescriptor("credential_process", .string, "command that prints credentials as JSON", isCommand: true),
        OptionDescriptor("anonymous", .boolean, "send requests unsigned, for public buckets", default: "false"),
    ]

    static func problems(_ values: OptionValues) -> [OptionProblem] {
        func given(_ name: String) -> Bool { values.string(name).map { !$0.isEmpty } ?? false }
        var problems: [OptionProblem] = []
        if given("access_key_id") != given("secret_access_key") {
            let missing = given("access_key_id") ? "secret_access_key" : "access_key_id"
            problems.append(
                OptionProblem(option: "credentials", message: "\(missing) is missing beside its other half"))
        }
        if given("session_token"), !given("access_key_id") {
            problems.append(OptionProblem(option: "session_token", message: "goes with an access_key_id only"))
        }
        let ways = [
            given("access_key_id") || given("secret_access_key"), given("profile"), given("credential_process"),
            values.boolean("anonymous") ?? false,
        ]
        if ways.filter({ $0 }).count > 1 {
            problems.append(
                OptionProblem(
                    option: "credentials",
                    message: "give one of access_key_id, profile, credential_process and anonymous"))
        }
        if let process = values.string("credential_process"), ProcessCredentials.words(process)?.isEmpty ?? true {
            problems.append(OptionProblem(option: "credential_process", message: "is not a command"))
        }
        return problems
    }

    static func source(_ values: OptionValues, environment: S3Environment = .process) -> any S3CredentialSource {
        if let id = values.string("access_key_id"), let secret = values.string("secret_access_key") {
            return StaticCredentials(
                credentials: S3Credentials(
                    accessKeyID: id, secretAccessKey: secret, sessionToken: values.string("session_token")))
        }
        if values.boolean("anonymous") ?? false { return StaticCredentials(credentials: nil) }
        if let process = values.string("credential_process") { return ProcessCredentials(command: process) }
        if let profile = values.string("profile") {
            return ProfileCredentials(profile: profile, environment: environment)
        }
        return DefaultCredentials(environment: environment)
    }
}

/// What the tools of AWS take when nobody says more: the first of these that is set up. One that is, and has no credentials, is an
/// error: another identity than was meant is never taken.
///
/// Source: "Standardized credential providers", AWS SDKs and Tools Reference Guide.
struct DefaultCredentials: S3CredentialSource {
    var environment: S3Environment

    func load() async throws(VFSError) -> S3CredentialAnswer {
        if let credentials = try Self.keys(environment) {
            return S3CredentialAnswer(credentials: credentials, source: "environment")
        }
        if environment.variable("AWS_WEB_IDENTITY_TOKEN_FILE") != nil {
            return try await WebIdentityCredentials.ofEnvironment(environment).load()
        }
        let named = environment.variable("AWS_PROFILE")
        let files = try await ProfileCredentials.files(environment)
        if named != nil || files.profiles["default"].map(ProfileCredentials.hasCredentials) ?? false {
            return try await ProfileCredentials(profile: named ?? "default", environment: environment).load(files)
        }
        // Whoever names a file has set it up: it is still to come, or has gone.
        if let missing = files.missing.first {
            throw .credentials("\(missing), which is not there", retry: .backoff)
        }
        try files.checkTrust("default")
        let settings = S3Settings(environment, files, profile: "default")
        let container = ContainerCredentials(settings: settings)
        do throws(VFSError) {
            let source: any S3CredentialSource =
                container.isSet ? container : InstanceCredentials(settings: settings)
            var answer = try await source.load()
            // A file that was just being written, or comes later, is taken up.
            answer.files += files.files
            answer.isOfMachine = true
            return answer
        } catch {
            if container.isSet { throw error }
            throw .credentials(
                "no S3 credentials: none in mounts.yaml, no AWS_ACCESS_KEY_ID in the environment, no profile in "
                    + "\(files.places.credentials) or \(files.places.config), no container's, and \(error.message)",
                retry: error.retry)
        }
    }

    /// `AWS_ACCESS_KEY_ID` and its kin; nil when none of them is set.
    static func keys(_ environment: S3Environment) throws(VFSError) -> S3Credentials? {
        switch (environment.variable("AWS_ACCESS_KEY_ID"), environment.variable("AWS_SECRET_ACCESS_KEY")) {
        case (let id?, let secret?):
            return S3Credentials(
                accessKeyID: id, secretAccessKey: secret, sessionToken: environment.variable("AWS_SESSION_TOKEN"))
        case (_?, nil): throw .credentials("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")
        case (nil, _?): throw .credentials("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not")
        case (nil, nil): return nil
        }
    }
}

import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// A command that prints credentials as JSON, as the AWS tools define it ("Sourcing credentials with an external
/// process").
///
/// It is started without a shell, with an empty standard input, and without the variables that other mounts may have their
/// secrets from. What it says on standard error is told when it fails.
struct ProcessCredentials: S3CredentialSource {
    var command: String
    var timeout: Duration = .seconds(60)

    private struct Answer {
        var version: Int?
        var accessKeyID: String?
        var secretAccessKey: String?
        var sessionToken: String?
        var expiration: String?

        mutating func read(_ reader: inout JSONReader) throws(JSONError) {
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "Version": version = try reader.integer()
                case "AccessKeyId": accessKeyID = try reader.string()
                case "SecretAccessKey": secretAccessKey = try reader.string()
                case "SessionToken": sessionToken = try reader.optionalString()
                case "Expiration": expiration = try reader.optionalString()
                default: try reader.skip()
                }
            }
        }
    }

    /// Commands may hang for as long as they have; others' go on meanwhile.
    private static let pool = BlockingPool(name: "cm-credentials", width: 16, laneWidth: 1)

    func load() async throws(VFSError) -> S3CredentialAnswer {
        guard let words = Self.words(command), let name = words.first else {
            throw .credentials("credential_process is not a command")
        }
        let output = try await Self.pool.run(command) { () throws(VFSError) in try run(words) }
        return S3CredentialAnswer(
            credentials: try Self.parse(output, of: name), isCostly: true, source: "credential_process")
    }

    static func parse(_ output: [UInt8], of name: String) throws(VFSError) -> S3Credentials {
        let answer = JSONReader.read(output) { reader throws(JSONError) in
            var answer = Answer()
            try answer.read(&reader)
            return answer
        }
        guard let answer, let version = answer.version, let id = answer.accessKeyID, let secret = answer.secretAccessKey
        else { throw .credentials("credential_process '\(name)' did not print credentials as JSON") }
        guard version == 1 else {
            throw .credentials("credential_process '\(name)' printed version \(version); 1 is understood")
        }
        var expiration: Timestamp?
        if let text = answer.expiration {
            guard let time = WireDate.iso8601(text) else {
                throw .credentials("credential_process '\(name)' printed an Expiration that is not a time")
            }
            expiration = time
        }
        guard
            let credentials = S3Credentials(
                id: id, secret: secret, token: answer.sessionToken, expiration: expiration)
        else { throw .credentials("credential_process '\(name)' printed credentials that no request can carry") }
        return credentials
    }

    /// Splits at spaces, which quotes and backslashes protect. Nil when a quote stays open.
    static func words(_ command: String) -> [String]? {
        var words: [String] = []
        var word: String?
        var quote: Character?
        var escaped = false
        func append(_ character: Character) {
            if word == nil { word = "" }
            word?.append(character)
        }
        for character in command {
            if escaped {
                append(character)
                escaped = false
            } else if character == "\\", quote != "'" {
                escaped = true
            } else if let open = quote {
                if character == open { quote = nil } else { append(character) }
            } else if character == "\"" || character == "'" {
                quote = character
                word = word ?? ""
            } else if character.isWhitespace {
                if let done = word { words.append(done) }
                word = nil
            } else {
                append(character)
            }
        }
        guard quote == nil, !escaped else { return nil }
        if let word { words.append(word) }
        return words
    }

    private func run(_ words: [String]) throws(VFSError) -> [UInt8] {
        let name = words[0]
        let (child, output, errors) = try start(words)
        let deadline = SystemClock.monotonic() &+ UInt64(max(0, timeout.components.seconds)) &* 1_000_000_000
        // It may close its output and go on.
        var collected = Self.collect(output, errors, until: deadline)
        guard let printed = collected.printed, let status = collected.wait(for: child, errors, until: deadline) else {
            ChildProcess.end(child, group: true)
            throw .credentials(
                "credential_process '\(name)' did not finish within \(timeout)\(collected.complaint)", retry: .backoff)
        }
        guard status == 0 else {
            let signal = status & 0x7F
            let how = signal != 0 ? "was ended by signal \(signal)" : "failed with exit code \((status >> 8) & 0xFF)"
            throw VFSError(
                .credentialsInvalid, "credential_process '\(name)' \(how)\(collected.complaint)", retry: .backoff)
        }
        return printed
    }

    /// What a program needs to find its home, its files, its agent and the network; not what others' secrets may be in.
    private static let passedOn: Set<String> = [
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "DISPLAY", "WAYLAND_DISPLAY",
        "SSH_AUTH_SOCK", "GPG_TTY", "GNUPGHOME", "PASSWORD_STORE_DIR", "KRB5CCNAME", "DBUS_SESSION_BUS_ADDRESS",
        "CREDENTIALS_DIRECTORY", "LD_LIBRARY_PATH", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_STS_REGIONAL_ENDPOINTS", "VAULT_ADDR", "VAULT_CACERT", "VAULT_NAMESPACE",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    ]

    static func environment(_ all: [String: String]) -> [String: String] {
        all.filter { passedOn.contains($0.key) || $0.key.hasPrefix("LC_") || $0.key.hasPrefix("XDG_") }
    }

    /// The child, in a process group of its own, and the ends of the pipes that it writes into.
    private func start(_ words: [String]) throws(VFSError) -> (pid_t, output: Descriptor, errors: Descriptor) {
        let name = words[0]
        guard let pipe = Descriptor.pipe(), let complaints = Descriptor.pipe() else {
            throw .credentials("credential_process '\(name)': no pipe")
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, pipe.write.raw, 1)
        posix_spawn_file_actions_adddup2(&actions, complaints.write.raw, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        let variables = Self.environment(ProcessEnvironment.variables)
        var environment: [UnsafeMutablePointer<CChar>?] = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { for variable in environment { free(variable) } }
        var child = pid_t()
        let code = posix_spawnp(&child, name, &actions, &attributes, &arguments, &environment)
        guard code == 0 else {
            throw .credentials("credential_process '\(name)' cannot be started: \(String(cString: strerror(code)))")
        }
        return (child, pipe.read, complaints.read)
    }

    private struct Collected {
        /// Everything up to the end of file; nil when that comes later or it is more than any answer is.
        var printed: [UInt8]?
        /// The first of what it says on standard error.
        var errors: [UInt8] = []

        /// Waits for the end of the child, which may go on complaining.
        /// - Returns: nil when it does not come in time.
        mutating func wait(for child: pid_t, _ complaints: Descriptor, until deadline: UInt64) -> Int32? {
            var complains = true
            while true {
                if let status = ChildProcess.wait(for: child, until: 0) { return status }
                if SystemClock.monotonic() >= deadline { return nil }
                var poll = pollfd(fd: complains ? complaints.raw : -1, events: Int16(POLLIN), revents: 0)
                guard Glibc.poll(&poll, 1, 5) > 0 else { continue }
                let some = ProcessCredentials.some(of: complaints) ?? []
                complains = !some.isEmpty
                add(some)
            }
        }

        mutating func add(_ some: [UInt8]) {
            errors += some.prefix(max(0, ProcessCredentials.mostErrors - errors.count))
        }

        /// To be put after a sentence.
        var complaint: String {
            let words = String(decoding: errors, as: UTF8.self).split(whereSeparator: \.isWhitespace)
            return words.isEmpty ? "" : ": \(String(words.joined(separator: " ").prefix(300)).printable)"
        }
    }

    private static let mostPrinted = 1 << 16
    private static let mostErrors = 4096

    private static func collect(_ output: Descriptor, _ errors: Descriptor, until deadline: UInt64) -> Collected {
        var collected = Collected()
        var printed: [UInt8] = []
        var (isOpen, complains) = (true, true)
        while isOpen, printed.count <= mostPrinted {
            let now = SystemClock.monotonic()
            guard now < deadline else { return collected }
            var polls = [
                pollfd(fd: output.raw, events: Int16(POLLIN), revents: 0),
                pollfd(fd: complains ? errors.raw : -1, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&polls, 2, Int32(min((deadline - now) / 1_000_000 + 1, 60_000))) > 0 else { continue }
            if polls[1].revents != 0 {
                guard let some = Self.some(of: errors) else { return collected }
                complains = !some.isEmpty
                // The rest is read too: it must not wait for us.
                collected.add(some)
            }
            if polls[0].revents != 0 {
                guard let some = Self.some(of: output) else { return collected }
                isOpen = !some.isEmpty
                printed += some
            }
        }
        if !isOpen { collected.printed = printed }
        return collected
    }

    /// What there is to read; empty at the end, nil when it cannot be read.
    private static func some(of descriptor: Descriptor) -> [UInt8]? {
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor.raw, &chunk, chunk.count)
            if count >= 0 { return Array(chunk[..<count]) }
            if errno != EINTR { return nil }
        }
    }
}

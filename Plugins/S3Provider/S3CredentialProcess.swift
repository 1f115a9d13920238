import CloudMountPlatform
import CloudMountVFS
import FoundationEssentials
import Glibc

/// A command that prints credentials as JSON, as the AWS tools define it ("Sourcing credentials with an external
/// process").
///
/// It is started without a shell, with an empty standard input; what it says on standard error is dropped, for it may
/// hold secrets.
struct ProcessCredentials: S3CredentialSource {
    var command: String
    var timeout: Duration = .seconds(60)

    private struct Answer: Decodable {
        var Version: Int
        var AccessKeyId: String
        var SecretAccessKey: String
        var SessionToken: String?
        var Expiration: String?
    }

    func load() throws(VFSError) -> S3CredentialAnswer {
        guard let words = Self.words(command), let name = words.first else {
            throw .credentials("credential_process is not a command")
        }
        let output = try run(words)
        return S3CredentialAnswer(credentials: try Self.parse(output, of: name))
    }

    static func parse(_ output: [UInt8], of name: String) throws(VFSError) -> S3Credentials {
        guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(output)) else {
            throw .credentials("credential_process '\(name)' did not print credentials as JSON")
        }
        guard answer.Version == 1 else {
            throw .credentials("credential_process '\(name)' printed version \(answer.Version); 1 is understood")
        }
        var expiration: Timestamp?
        if let text = answer.Expiration {
            guard let time = S3Dates.iso8601(text) else {
                throw .credentials("credential_process '\(name)' printed an Expiration that is not a time")
            }
            expiration = time
        }
        return S3Credentials(
            accessKeyID: answer.AccessKeyId, secretAccessKey: answer.SecretAccessKey, sessionToken: answer.SessionToken,
            expiration: expiration)
    }

    /// Splits at spaces, which quotes and backslashes protect. Nil when a quote stays open.
    static func words(_ command: String) -> [String]? {
        var words: [String] = []
        var word: String?
        var quote: Character?
        var escaped = false
        for character in command {
            if escaped {
                word = (word ?? "") + String(character)
                escaped = false
            } else if character == "\\", quote != "'" {
                escaped = true
            } else if let open = quote {
                if character == open { quote = nil } else { word = (word ?? "") + String(character) }
            } else if character == "\"" || character == "'" {
                quote = character
                word = word ?? ""
            } else if character.isWhitespace {
                if let done = word { words.append(done) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        guard quote == nil, !escaped else { return nil }
        if let word { words.append(word) }
        return words
    }

    private func run(_ words: [String]) throws(VFSError) -> [UInt8] {
        let name = words[0]
        let (child, output) = try start(words)
        let deadline = SystemClock.monotonic() &+ UInt64(max(0, timeout.components.seconds)) &* 1_000_000_000
        // It may close its output and go on.
        guard let collected = collect(output.raw, until: deadline),
            let status = ChildProcess.wait(for: child, until: deadline)
        else {
            ChildProcess.end(child, group: true)
            throw VFSError(
                .timedOut, "credential_process '\(name)' did not finish within \(timeout)", retry: .backoff)
        }
        guard status == 0 else {
            let signal = status & 0x7F
            let how = signal != 0 ? "was ended by signal \(signal)" : "failed with exit code \((status >> 8) & 0xFF)"
            throw VFSError(.credentialsInvalid, "credential_process '\(name)' \(how)", retry: .backoff)
        }
        return collected
    }

    /// The child, in a process group of its own, and the end of the pipe that it writes into.
    private func start(_ words: [String]) throws(VFSError) -> (pid_t, Descriptor) {
        let name = words[0]
        guard let pipe = Descriptor.pipe() else { throw .credentials("credential_process '\(name)': no pipe") }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, pipe.write.raw, 1)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
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
        var child = pid_t()
        let code = posix_spawnp(&child, name, &actions, &attributes, &arguments, environ)
        guard code == 0 else {
            throw .credentials("credential_process '\(name)' cannot be started: \(String(cString: strerror(code)))")
        }
        return (child, pipe.read)
    }

    /// Everything up to the end of file; nil when that comes later or it is more than any answer is.
    private func collect(_ descriptor: Int32, until deadline: UInt64) -> [UInt8]? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count <= 1 << 16 {
            let now = SystemClock.monotonic()
            guard now < deadline else { return nil }
            var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = Glibc.poll(&poll, 1, Int32(min((deadline - now) / 1_000_000 + 1, 60_000)))
            guard ready > 0 else { continue }
            let count = read(descriptor, &chunk, chunk.count)
            if count == 0 { return bytes }
            if count < 0 { if errno == EINTR { continue } else { return nil } }
            bytes += chunk[..<count]
        }
        return nil
    }
}

import CloudMountVFS

/// What a request is signed with. Never shows the secret, however it is printed.
struct S3Credentials: Sendable, Equatable {
    var accessKeyID: String
    var secretAccessKey: String
    var sessionToken: String?
    /// Nil: they last.
    var expiration: Timestamp?
}

extension S3Credentials {
    /// What a source has given out.
    /// - Returns: nil when it can be no credentials: something is missing, or holds what no header can.
    init?(id: String?, secret: String?, token: String?, expiration: Timestamp?) {
        func isPlain(_ text: String) -> Bool {
            1...16_384 ~= text.utf8.count && text.utf8.allSatisfy { 0x21...0x7E ~= $0 }
        }
        guard let id, let secret, isPlain(id), 1...16_384 ~= secret.utf8.count, token.map(isPlain) ?? true else {
            return nil
        }
        self.init(accessKeyID: id, secretAccessKey: secret, sessionToken: token, expiration: expiration)
    }
}

extension S3Credentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    var description: String { "S3Credentials(\(accessKeyID))" }
    var debugDescription: String { description }
    var customMirror: Mirror { Mirror(self, children: ["accessKeyID": accessKeyID]) }
}

/// What a source has said.
struct S3CredentialAnswer: Sendable {
    /// Nil: requests go unsigned.
    var credentials: S3Credentials?
    /// Files that it was read from: a change of one means that the answer is old.
    var files: [WatchedFile] = []
    /// A command or a server has given them out: it is not asked for every refusal.
    var isCostly = false
    /// Serves past its end as well, as long as the store takes it: the source gives out what it has while it cannot renew it.
    var mayBeOld = false
    /// Nobody has set them up for us: they are what the machine or the container is given.
    var isOfMachine = false
    /// Where they are from, for `status`: `profile 'work'`. Empty: from the configuration.
    var source = ""
}

/// Where credentials come from.
protocol S3CredentialSource: Sendable {
    /// Gets them anew. Ends by itself, within limits of its own.
    /// - Throws: `credentialsInvalid` with a sentence on what to do.
    func load() async throws(VFSError) -> S3CredentialAnswer
}

/// Written down in `mounts.yaml`, or none at all.
struct StaticCredentials: S3CredentialSource {
    var credentials: S3Credentials?

    func load() async throws(VFSError) -> S3CredentialAnswer {
        S3CredentialAnswer(credentials: credentials)
    }
}

extension VFSError {
    static func credentials(_ message: String, retry: RetryAdvice = .never) -> VFSError {
        VFSError(.credentialsInvalid, message, retry: retry)
    }
}

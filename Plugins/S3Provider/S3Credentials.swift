import CloudMountVFS

/// What a request is signed with. Never shows the secret, however it is printed.
struct S3Credentials: Sendable, Equatable {
    var accessKeyID: String
    var secretAccessKey: String
    var sessionToken: String?
    /// Nil: they last.
    var expiration: Timestamp?
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
    /// The region that goes with them, where the source knows one.
    var region: String?
    /// Files that it was read from: a change of one means that the answer is old.
    var files: [WatchedFile] = []
    /// A command has printed them.
    var isOfCommand = false
}

/// Where credentials come from.
protocol S3CredentialSource: Sendable {
    /// Reads them anew. May block on local files and processes, not on the network.
    /// - Throws: `credentialsInvalid` with a sentence on what to do.
    func load() throws(VFSError) -> S3CredentialAnswer
}

/// Written down in `mounts.yaml`, or none at all.
struct StaticCredentials: S3CredentialSource {
    var credentials: S3Credentials?

    func load() throws(VFSError) -> S3CredentialAnswer { S3CredentialAnswer(credentials: credentials) }
}

extension VFSError {
    static func credentials(_ message: String) -> VFSError { VFSError(.credentialsInvalid, message) }
}

/// Whose name a provider's calls are made in, for `status`.
public struct CredentialReport: Sendable, Equatable {
    /// Where the credentials are from, such as `profile 'work'`. No secret in it.
    public var source: String
    /// When they end; nil: they last.
    public var end: Timestamp?
    /// Why others could not be had, when that was last tried.
    public var problem: String?
    /// The store takes them no more, and others could not be had: calls fail until they can.
    public var isRefused: Bool

    public init(source: String, end: Timestamp? = nil, problem: String? = nil, isRefused: Bool = false) {
        self.source = source
        self.end = end
        self.problem = problem
        self.isRefused = isRefused
    }
}

import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS

/// The role of a container, as the agent of its host gives it out (ECS, EKS Pod Identity, Greengrass).
///
/// Source: "Container credential provider", AWS SDKs and Tools Reference Guide.
struct ContainerCredentials: S3CredentialSource {
    var settings: S3Settings

    private static let relative = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
    private static let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
    /// The agents of ECS and of EKS: they are on the container's host. All else must be this machine, or use TLS.
    private static let agents: Set<String> = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"]

    var isSet: Bool { [Self.relative, Self.full].contains { settings.environment.variable($0) != nil } }

    func load() async throws(VFSError) -> S3CredentialAnswer {
        let (url, address) = try address()
        var service = S3CredentialService(
            onLink: "container credentials of \(address.authority)", timeout: .seconds(2), tries: 3)
        service.options.caFile = settings.caFile
        // Somebody's server elsewhere.
        if address.isTLS, !address.isLoopback { service.options.isDirect = false }
        let token = try await token()
        var headers = HTTPHeaders()
        headers.append("accept", "application/json")
        if let token { headers.append("authorization", token) }
        let response = try await service.answer(HTTPRequest(.get, url, headers: headers))
        guard response.status == 200 else {
            let (code, message) = GivenCredentials.complaint(response.body)
            throw service.refusal(response.status, code: code, text: message, hiding: [token])
        }
        return S3CredentialAnswer(
            credentials: try GivenCredentials.parse(response.body, by: service, hiding: [token]),
            isCostly: true, mayBeOld: true, source: "container role by \(address.authority)")
    }

    /// The URL that is asked, and as much of it as names the host.
    func address() throws(VFSError) -> (url: String, WebURL) {
        func isPlain(_ text: String) -> Bool {
            text.utf8.count <= 2048 && text.utf8.allSatisfy { 0x21...0x7E ~= $0 && $0 != UInt8(ascii: "#") }
        }
        if let path = settings.environment.variable(Self.relative) {
            let url = "http://169.254.170.2\(path)"
            guard path.hasPrefix("/"), isPlain(path), let address = WebURL(answered: url) else {
                throw .credentials("\(Self.relative) is not a path")
            }
            return (url, address)
        }
        guard let url = settings.environment.variable(Self.full) else {
            throw .credentials("neither \(Self.relative) nor \(Self.full) is set")
        }
        guard isPlain(url), let address = WebURL(answered: url) else {
            throw .credentials("\(Self.full) is not http(s)://host[:port]/path")
        }
        guard address.isTLS || address.isLoopback || Self.agents.contains(address.host) else {
            throw .credentials(
                "\(Self.full) would have credentials come unencrypted from \(address.host): http is for this machine and for "
                    + Self.agents.sorted().joined(separator: ", "))
        }
        return (url, address)
    }

    /// What the agent wants to see. A file is read each time, for it changes.
    private func token() async throws(VFSError) -> String? {
        let environment = settings.environment
        if let file = environment.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            return try await BlockingPool.credentialFiles.run { () throws(VFSError) in
                try WatchedFile.token(file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
            }
        }
        guard let token = environment.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN") else { return nil }
        guard token.utf8.allSatisfy({ 0x20...0x7E ~= $0 }) else {
            throw .credentials("AWS_CONTAINER_AUTHORIZATION_TOKEN holds what no header can")
        }
        return token
    }
}

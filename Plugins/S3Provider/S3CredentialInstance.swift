import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// The role of the machine, as the metadata service of an EC2 instance gives it out (IMDS), version 2.
///
/// Source: "IMDS credential provider", AWS SDKs and Tools Reference Guide; "Retrieve security credentials from instance metadata".
struct InstanceCredentials: S3CredentialSource {
    var settings: S3Settings

    var isDisabled: Bool {
        settings.environment.variable("AWS_EC2_METADATA_DISABLED")?.lowercased() == "true"
    }

    func load() async throws(VFSError) -> S3CredentialAnswer {
        guard !isDisabled else {
            throw .credentials("instance metadata is turned off by AWS_EC2_METADATA_DISABLED")
        }
        let base = try address()
        let service = S3CredentialService(
            onLink: "instance metadata at \(base.authority)", timeout: .seconds(try timeout()), tries: try tries())
        let token = try await token(service, base)
        let path = "\(base.text)/latest/meta-data/iam/security-credentials/"
        let role = try await text(service, path, token, ifMissing: "the instance has no role")
        guard let name = role.split(whereSeparator: \.isNewline).first, 1...128 ~= name.utf8.count,
            name.utf8.allSatisfy({ 0x21...0x7E ~= $0 && !"/?#%\\".utf8.contains($0) })
        else { throw service.broken() }
        let document = try await text(service, path + name, token, ifMissing: "the role has gone")
        return S3CredentialAnswer(
            credentials: try GivenCredentials.parse(Array(document.utf8), by: service, hiding: [token]),
            isCostly: true, mayBeOld: true, source: "instance role \(name)")
    }

    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`, else the one of the mode.
    func address() throws(VFSError) -> WebURL {
        let setting = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
        if let text = settings.value(setting, "ec2_metadata_service_endpoint") {
            guard let url = WebURL(text) else { throw .credentials("\(setting) is not http(s)://host[:port]") }
            guard url.isTLS || url.isLoopback || url.isLinkLocal else {
                throw .credentials(
                    "\(setting) would have credentials come unencrypted from \(url.host): http is for this machine and for "
                        + "169.254.* and fd00:ec2::* alone")
            }
            return url
        }
        switch settings.value("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode")?
            .lowercased()
        {
        case nil, "ipv4"?: return WebURL(isTLS: false, host: "169.254.169.254")
        case "ipv6"?: return WebURL(isTLS: false, host: "[fd00:ec2::254]")
        case _?: throw .credentials("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is neither IPv4 nor IPv6")
        }
    }

    /// Seconds. A machine that is no instance has nobody at the address: it is not waited for long.
    private func timeout() throws(VFSError) -> Int {
        try number("AWS_METADATA_SERVICE_TIMEOUT", "metadata_service_timeout", 1, upTo: 30)
    }

    private func tries() throws(VFSError) -> Int {
        try number("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "metadata_service_num_attempts", 2, upTo: 10)
    }

    private func number(
        _ variable: String, _ key: String, _ usual: Int, upTo most: Int
    ) throws(VFSError) -> Int {
        guard let text = settings.value(variable, key) else { return usual }
        guard let number = Int(text), 1...most ~= number else {
            throw .credentials("\(variable) is not a number from 1 to \(most)")
        }
        return number
    }

    /// Nil where the service has version 1 only.
    private func token(_ service: S3CredentialService, _ base: WebURL) async throws(VFSError) -> String? {
        var headers = HTTPHeaders()
        headers.append("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        let response = try await service.answer(HTTPRequest(.put, "\(base.text)/latest/api/token", headers: headers))
        switch response.status {
        case 200:
            let token = String(decoding: response.body, as: UTF8.self)
            guard 1...4096 ~= token.utf8.count, token.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
                throw service.broken()
            }
            return token
        case 403, 404, 405:
            guard !settings.isOn("AWS_EC2_METADATA_V1_DISABLED", "ec2_metadata_v1_disabled") else {
                throw .credentials("\(service.name): it has no version 2, and AWS_EC2_METADATA_V1_DISABLED is set")
            }
            return nil
        default: throw service.refusal(response.status, code: nil, text: nil)
        }
    }

    private func text(
        _ service: S3CredentialService, _ url: String, _ token: String?, ifMissing missing: String
    ) async throws(VFSError) -> String {
        var headers = HTTPHeaders()
        if let token { headers.append("x-aws-ec2-metadata-token", token) }
        let response = try await service.answer(HTTPRequest(.get, url, headers: headers))
        if response.status == 404 { throw .credentials("\(service.name): \(missing)") }
        guard response.status == 200 else { throw service.refusal(response.status, code: nil, text: nil) }
        return String(decoding: response.body, as: UTF8.self)
    }
}

extension WebURL {
    /// Of services on the link of an instance, which nothing on the network can stand in for.
    var isLinkLocal: Bool {
        if host.hasPrefix("[fd00:ec2::") { return host.dropFirst(11).allSatisfy { $0.isHexDigit || $0 == "]" } }
        return host.hasPrefix("169.254.") && host.utf8.allSatisfy { $0 == 0x2E || 0x30...0x39 ~= $0 }
    }
}

/// Credentials as the services of instances and containers write them, in JSON.
struct GivenCredentials {
    private var id: String?
    private var secret: String?
    private var token: String?
    private var expiration: String?
    private var code: String?
    private var message: String?

    /// - Throws: what the service says instead of credentials.
    /// - Parameter secrets: what was sent, which it might say back.
    static func parse(
        _ bytes: [UInt8], by service: S3CredentialService, hiding secrets: [String?]
    ) throws(VFSError) -> S3Credentials {
        let given = JSONReader.read(bytes) { reader throws(JSONError) in
            var given = GivenCredentials()
            try reader.object { reader, name throws(JSONError) in
                guard reader.kind() == .string else { return try reader.skip() }
                switch name {
                case "AccessKeyId": given.id = try reader.string()
                case "SecretAccessKey": given.secret = try reader.string()
                case "Token": given.token = try reader.string()
                case "Expiration": given.expiration = try reader.string()
                case "Code", "code": given.code = try reader.string()
                case "Message", "message": given.message = try reader.string()
                default: try reader.skip()
                }
            }
            return given
        }
        guard let given else { throw service.broken() }
        if given.id == nil, given.code != nil || given.message != nil {
            throw service.refusal(200, code: given.code, text: given.message, hiding: secrets)
        }
        let end = given.expiration.flatMap { WireDate.iso8601($0) }
        guard given.expiration == nil || end != nil, given.code == nil || given.code == "Success",
            let credentials = S3Credentials(
                id: given.id, secret: given.secret, token: given.token, expiration: end)
        else { throw service.broken() }
        return credentials
    }

    /// What an answer that says no says of itself.
    static func complaint(_ bytes: [UInt8]) -> (code: String?, message: String?) {
        let values = JSONReader.read(bytes) { reader throws(JSONError) in try reader.strings() } ?? [:]
        return (values["code"] ?? values["Code"], values["message"] ?? values["Message"])
    }
}

import CloudMountCrypto
import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import CloudMountXML
import Glibc

/// A role to take on, as a profile or the environment describes it.
struct S3Role: Sendable, Equatable {
    var arn: String
    var sessionName: String
    /// Seconds; nil: the service's own, an hour.
    var duration: Int?
    var externalID: String?

    /// - Parameter place: how messages name who says so.
    init(
        arn: String, sessionName: String? = nil, duration: String? = nil, externalID: String? = nil, of place: String
    ) throws(VFSError) {
        let parts = arn.split(separator: ":", omittingEmptySubsequences: false)
        guard arn.utf8.count <= 2048, parts.count >= 6, parts[0] == "arn", parts[2] == "iam",
            parts[5].hasPrefix("role/"), arn.utf8.allSatisfy({ 0x21...0x7E ~= $0 })
        else { throw .credentials("\(place): role_arn is not the ARN of a role") }
        self.arn = arn
        if let duration {
            guard let seconds = Int(duration), 900...43_200 ~= seconds else {
                throw .credentials("\(place): duration_seconds is not a number from 900 to 43200")
            }
            self.duration = seconds
        }
        if let sessionName {
            guard 2...64 ~= sessionName.utf8.count, sessionName.utf8.allSatisfy(Self.isOfName) else {
                throw .credentials("\(place): role_session_name is not 2 to 64 letters, digits or any of _+=,.@-")
            }
        }
        self.sessionName = sessionName ?? Self.ownSessionName
        if let externalID {
            guard 2...1224 ~= externalID.utf8.count, externalID.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
                throw .credentials("\(place): external_id is not 2 to 1224 characters")
            }
            self.externalID = externalID
        }
    }

    private static func isOfName(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "_+=,.@-".utf8.contains(byte)
        }
    }

    /// What the account's log shows of this machine.
    private static var ownSessionName: String {
        var host = [CChar](repeating: 0, count: 256)
        _ = gethostname(&host, host.count - 1)
        let name = host.map { UInt8(bitPattern: $0) }.prefix { $0 != 0 }.filter(isOfName)
        return "cloudmount-" + String(decoding: name.prefix(50), as: UTF8.self)
    }
}

/// The Security Token Service: gives credentials of roles out.
///
/// Source: AWS Security Token Service API Reference, version 2011-06-15.
struct S3TokenService: Sendable {
    let settings: S3Settings
    private let region: String
    private let url: WebURL

    /// - Parameter role: of whose partition the service is, when nobody names a region.
    init(_ settings: S3Settings, for role: S3Role) throws(VFSError) {
        self.settings = settings
        let region = settings.region ?? S3Partition.of(arn: role.arn).globalRegion
        guard S3Options.isRegion(region) else { throw .credentials("'\(region)' is not the name of a region") }
        // Signed as us-east-1, as the service of before there were regions.
        let isGlobal = settings.region == "aws-global"
        self.region = isGlobal ? "us-east-1" : region
        url = try settings.address(
            of: "sts",
            host: isGlobal
                ? "sts.amazonaws.com"
                : S3Partition.host(
                    "sts", region: region, dualStack: settings.usesDualStack, fips: settings.usesFIPS))
    }

    /// `http(s)://host[:port]`
    var host: String { url.text }

    /// AssumeRole, signed with the credentials of whoever may take the role on.
    func credentials(_ role: S3Role, by base: S3Credentials) async throws(VFSError) -> S3Credentials {
        var fields = Self.fields("AssumeRole", role)
        if let externalID = role.externalID { fields.append(("ExternalId", externalID)) }
        return try await credentials(fields, role, signedWith: base, hiding: [base.sessionToken, role.externalID])
    }

    /// AssumeRoleWithWebIdentity, which needs no credentials but the token.
    func credentials(_ role: S3Role, token: String) async throws(VFSError) -> S3Credentials {
        let fields = Self.fields("AssumeRoleWithWebIdentity", role) + [("WebIdentityToken", token)]
        return try await credentials(fields, role, signedWith: nil, hiding: [token])
    }

    private static func fields(_ action: String, _ role: S3Role) -> [(String, String)] {
        var fields = [
            ("Action", action), ("Version", "2011-06-15"), ("RoleArn", role.arn), ("RoleSessionName", role.sessionName),
        ]
        if let duration = role.duration { fields.append(("DurationSeconds", "\(duration)")) }
        return fields
    }

    private func credentials(
        _ fields: [(String, String)], _ role: S3Role, signedWith base: S3Credentials?, hiding secrets: [String?]
    ) async throws(VFSError) -> S3Credentials {
        let service = S3CredentialService("role \(role.arn) by \(url.authority)", caFile: settings.caFile)
        let body = HTTPRequest.formBody(fields)
        var offset = 0
        while true {
            var request = HTTPRequest.post("\(url.text)/", HTTPRequest.formType, body)
            if let base { sign(&request, body, base, offset) }
            let response = try await service.answer(request)
            let document = STSDocument(response.body)
            if response.status == 200 {
                guard let document, let end = document["Expiration"].flatMap({ WireDate.iso8601($0) }),
                    let token = document["SessionToken"],
                    let credentials = S3Credentials(
                        id: document["AccessKeyId"], secret: document["SecretAccessKey"], token: token,
                        expiration: end)
                else { throw service.broken() }
                return credentials
            }
            // A clock that is minutes off.
            if offset == 0, response.status == 403, base != nil, let date = response.headers["date"],
                let time = WireDate.http(date), abs(time.seconds - settings.environment.now().seconds) > 240
            {
                offset = time.seconds - settings.environment.now().seconds
                continue
            }
            throw service.refusal(
                response.status, code: document?["Code"], text: document?["Message"], hiding: secrets)
        }
    }

    private func sign(_ request: inout HTTPRequest, _ body: [UInt8], _ base: S3Credentials, _ offset: Int) {
        let time = WireDate.basic(settings.environment.now().seconds + offset)
        var signed = [
            S3Signer.Field(name: "content-type", value: HTTPRequest.formType),
            S3Signer.Field(name: "host", value: url.authority), S3Signer.Field(name: "x-amz-date", value: time),
        ]
        request.headers.append("x-amz-date", time)
        if let token = base.sessionToken {
            signed.append(S3Signer.Field(name: "x-amz-security-token", value: token))
            request.headers.append("x-amz-security-token", token)
        }
        let signer = S3Signer(base, region: region, day: String(time.prefix(8)), service: "sts")
        let path = Array("\(url.path)/".utf8)
        let value = signer.authorization(
            method: "POST", path: path[...], query: [], headers: signed,
            payloadHash: Hex.string(SHA256.digest(body)), time: time)
        request.headers.append("authorization", String(decoding: value, as: UTF8.self))
    }
}

/// The texts of an answer of the service, by the names of their elements.
private final class STSDocument: XMLHandler {
    private var values: [String: String] = [:]

    subscript(name: String) -> String? { values[name] }

    /// Nil when the bytes are no document.
    init?(_ bytes: [UInt8]) {
        guard (try? XMLReader().read(bytes, into: self)) != nil else { return nil }
    }

    func start(_ name: XMLText, depth: Int) {}

    func end(_ name: XMLText, text: XMLText, depth: Int) {
        if 3...4 ~= depth { values[name.string] = text.string }
    }
}

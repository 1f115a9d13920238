import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// What environment and profile say beside credentials. The environment stands before the profile.
///
/// Source: "Settings reference", AWS SDKs and Tools Reference Guide.
struct S3Settings: Sendable {
    let environment: S3Environment
    let profile: [String: String]
    /// Of the `[services]` section that the profile names.
    let services: [String: String]

    init(_ environment: S3Environment, profile: [String: String] = [:], services: [String: String] = [:]) {
        self.environment = environment
        self.profile = profile
        self.services = services
    }

    init(_ environment: S3Environment, _ files: S3SharedFiles, profile name: String) {
        let profile = files.profiles[name]?.values ?? [:]
        self.init(
            environment, profile: profile, services: profile["services"].flatMap { files.services[$0] } ?? [:])
    }

    /// For a mount with these credentials. Blocks on the local disk; files that cannot be read say nothing here, and are told when
    /// credentials are wanted of them.
    static func ambient(_ credentials: OptionValues, _ environment: S3Environment) -> S3Settings {
        let name = credentials.string("profile") ?? environment.variable("AWS_PROFILE") ?? "default"
        guard let files = try? S3SharedFiles.read(environment) else { return S3Settings(environment) }
        return S3Settings(environment, files, profile: name)
    }

    func value(_ variable: String, _ key: String) -> String? { environment.variable(variable) ?? profile[key] }

    /// Whether a setting says `true`.
    func isOn(_ variable: String, _ key: String) -> Bool { value(variable, key)?.lowercased() == "true" }

    var region: String? {
        environment.variable("AWS_REGION") ?? environment.variable("AWS_DEFAULT_REGION") ?? profile["region"]
    }

    /// PEM file of authorities.
    var caFile: String? { value("AWS_CA_BUNDLE", "ca_bundle") }
    var usesDualStack: Bool { isOn("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint") }
    /// `path`, `virtual` or `auto`.
    var addressingStyle: String? { profile["s3.addressing_style"]?.lowercased() }
    var usesFIPS: Bool { isOn("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint") }

    /// Where somebody wants the requests of a service sent, and the setting that says so.
    /// - Parameter service: its identifier in lower case with underscores, such as `s3` or `sso_oidc`.
    func endpoint(of service: String) -> (url: String, setting: String)? {
        if isOn("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls") { return nil }
        for variable in ["AWS_ENDPOINT_URL_\(service.uppercased())", "AWS_ENDPOINT_URL"] {
            if let url = environment.variable(variable) { return (url, variable) }
        }
        if let url = services["\(service).endpoint_url"] {
            return (url, "endpoint_url of services section '\(profile["services"] ?? "")'")
        }
        return profile["endpoint_url"].map { ($0, "endpoint_url of the profile") }
    }

    /// The address of a service that gives credentials out.
    /// - Parameter host: AWS's own.
    func address(of service: String, host: String) throws(VFSError) -> WebURL {
        guard let endpoint = endpoint(of: service) else { return WebURL(isTLS: true, host: host) }
        guard let url = WebURL(endpoint.url) else {
            throw .credentials("\(endpoint.setting) is not http(s)://host[:port]")
        }
        guard url.isTLS || url.isLoopback else {
            throw .credentials("\(endpoint.setting) would send credentials unencrypted; it must be https://")
        }
        return url
    }
}

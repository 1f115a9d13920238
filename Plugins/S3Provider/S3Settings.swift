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
    /// By key of the profile: why it is not used.
    let faults: [String: String]

    init(
        _ environment: S3Environment, profile: [String: String] = [:], services: [String: String] = [:],
        faults: [String: String] = [:]
    ) {
        self.environment = environment
        self.profile = profile
        self.services = services
        self.faults = faults
    }

    init(_ environment: S3Environment, _ files: S3SharedFiles, profile name: String) {
        let profile = files.profiles[name]?.values ?? [:]
        var faults = files.profiles[name]?.faults ?? [:]
        let services = profile["services"].flatMap { files.services[$0] }
        // The section is in the config file, wherever the profile is.
        if services != nil, let fault = files.configFault { faults["services"] = fault }
        self.init(environment, profile: profile, services: services ?? [:], faults: faults)
    }

    /// For a mount with these credentials. Blocks on the local disk.
    /// - Throws: the files cannot be read. What they would have said is not known: the requests might go elsewhere.
    static func ambient(_ credentials: OptionValues, _ environment: S3Environment) throws(VFSError) -> S3Settings {
        let name = credentials.string("profile") ?? environment.variable("AWS_PROFILE") ?? "default"
        return S3Settings(environment, try S3SharedFiles.read(environment), profile: name)
    }

    func value(_ variable: String, _ key: String) -> String? { environment.variable(variable) ?? profile[key] }

    /// Whether a setting says `true`.
    func isOn(_ variable: String, _ key: String) -> Bool { value(variable, key)?.lowercased() == "true" }

    var region: String? {
        environment.variable("AWS_REGION") ?? environment.variable("AWS_DEFAULT_REGION") ?? profile["region"]
    }

    /// PEM file of authorities.
    var caFile: String? { value("AWS_CA_BUNDLE", "ca_bundle") }
    /// Why that is not used.
    var caFileFault: String? { environment.variable("AWS_CA_BUNDLE") == nil ? faults["ca_bundle"] : nil }
    var usesDualStack: Bool { isOn("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint") }
    /// `path`, `virtual` or `auto`.
    var addressingStyle: String? { profile["s3.addressing_style"]?.lowercased() }
    var usesFIPS: Bool { isOn("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint") }

    /// Where somebody wants the requests of a service sent, the setting that says so, and why it is not used.
    /// - Parameter service: its identifier in lower case with underscores, such as `s3` or `sso_oidc`.
    func endpoint(of service: String) -> (url: String, setting: String, fault: String?)? {
        if isOn("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls") { return nil }
        for variable in ["AWS_ENDPOINT_URL_\(service.uppercased())", "AWS_ENDPOINT_URL"] {
            if let url = environment.variable(variable) { return (url, variable, nil) }
        }
        if let url = services["\(service).endpoint_url"] {
            return (url, "endpoint_url of services section '\(profile["services"] ?? "")'", faults["services"])
        }
        return profile["endpoint_url"].map { ($0, "endpoint_url of the profile", faults["endpoint_url"]) }
    }

    /// The address of a service that gives credentials out.
    /// - Parameter host: AWS's own.
    func address(of service: String, host: String) throws(VFSError) -> WebURL {
        guard let endpoint = endpoint(of: service) else { return WebURL(isTLS: true, host: host) }
        if let fault = endpoint.fault { throw .credentials("\(endpoint.setting) is not used: \(fault)") }
        guard let url = WebURL(endpoint.url) else {
            throw .credentials("\(endpoint.setting) is not http(s)://host[:port]")
        }
        guard url.isTLS || url.isLoopback else {
            throw .credentials("\(endpoint.setting) would send credentials unencrypted; it must be https://")
        }
        return url
    }
}

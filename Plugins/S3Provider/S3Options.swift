import CloudMountVFS
import Glibc

/// One mount's options, read and checked.
struct S3Options: Sendable {
    enum PayloadSigning: String, Sendable, CaseIterable {
        /// Over plain HTTP only: TLS protects the bytes otherwise.
        case auto
        case always
        case never
    }

    var mountName: String
    var bucket: String
    var prefix: String
    /// As given; nil: to be found out.
    var region: String?
    /// What environment and profile say, where the mount does not.
    var settings: S3Settings
    /// Nil: AWS.
    var endpointURL: String?
    /// What says so, when the mount does not.
    var endpointSetting: String?
    /// Why the shared files say nothing: such options are refused.
    var unreadable: String?
    var pathStyle: Bool?
    var profile: S3Profile
    /// The profile is the user's word, not a guess from the host.
    var profileIsGiven: Bool
    var storageClass: String?
    var encryption: String?
    var encryptionKey: String?
    var requesterPays: Bool
    var caFile: String?
    var payloadSigning: PayloadSigning
    var allowsHTTP: Bool

    static let descriptors: [OptionDescriptor] = [
        OptionDescriptor(
            "region", .string, "signing region", default: "the environment's, the profile's, or asked for"),
        OptionDescriptor("endpoint", .url, "URL of an S3-compatible store", default: "AWS"),
        OptionDescriptor("path_style", .boolean, "bucket in the path, not the host name", default: "by endpoint"),
        OptionDescriptor(
            "endpoint_profile", .choice(S3Profiles.all.map(\.name)), "what kind of store it is",
            default: "by host name and Server header"),
        OptionDescriptor("list_version", .choice(["1", "2"]), "which ListObjects to use", default: "by profile"),
        OptionDescriptor("storage_class", .string, "storage class of new objects", default: "the store's"),
        OptionDescriptor("sse", .choice(["AES256", "aws:kms", "aws:kms:dsse"]), "server-side encryption"),
        OptionDescriptor("sse_kms_key_id", .string, "KMS key for sse: aws:kms"),
        OptionDescriptor("requester_pays", .boolean, "accept the cost of a requester-pays bucket", default: "false"),
        OptionDescriptor("ca_file", .path, "PEM file of authorities that replaces the system's"),
        OptionDescriptor(
            "sign_payload", .choice(PayloadSigning.allCases.map(\.rawValue)),
            "hash every upload into its signature; auto: over http to other machines only", default: "auto"),
        OptionDescriptor(
            "allow_http", .boolean, "send names and bytes unencrypted to an endpoint on another machine",
            default: "false"),
    ]

    /// As somebody has written them: see `checked`.
    init(_ context: ProviderContext, environment: S3Environment = .process) {
        let options = context.options
        do throws(VFSError) {
            settings = try S3Settings.ambient(context.credentials, environment)
        } catch {
            settings = S3Settings(environment)
            unreadable = error.message
        }
        mountName = context.mountName
        bucket = context.bucket
        prefix = context.prefix
        region = options.string("region")
        endpointURL = options.string("endpoint")
        if endpointURL == nil, let endpoint = settings.endpoint(of: "s3") {
            (endpointURL, endpointSetting) = (endpoint.url, endpoint.setting)
        }
        pathStyle = options.boolean("path_style")
        // What the profile says is of its own endpoint, or of AWS.
        if pathStyle == nil, options.string("endpoint") == nil {
            switch settings.addressingStyle {
            case "path"?: pathStyle = true
            case "virtual"?: pathStyle = false
            default: break
            }
        }
        storageClass = options.string("storage_class")
        encryption = options.string("sse")
        encryptionKey = options.string("sse_kms_key_id")
        requesterPays = options.boolean("requester_pays") ?? false
        caFile = options.string("ca_file") ?? settings.caFile
        allowsHTTP = options.boolean("allow_http") ?? false
        payloadSigning = options.string("sign_payload").flatMap(PayloadSigning.init) ?? .auto
        if let profile = options.string("endpoint_profile").flatMap(S3Profiles.named) {
            self.profile = profile
            profileIsGiven = true
        } else {
            profileIsGiven = false
            if let endpointURL {
                let host = S3Endpoint(url: endpointURL, bucket: "", pathStyle: true)?.host
                profile = host.map(S3Profiles.forHost) ?? S3Profiles.generic
            } else {
                profile = S3Profiles.aws
            }
        }
        if let version = options.string("list_version").flatMap({ Int($0) }) { profile.listVersion = version }
    }

    /// Whether uploads are hashed into their signature, so that what changes them on the way is found out.
    func signsPayload(to endpoint: S3Endpoint) -> Bool {
        switch payloadSigning {
        case .never: false
        case .auto: !endpoint.https && !endpoint.isLoopback
        case .always: true
        }
    }

    /// The endpoint for a region.
    func endpoint(region: String) -> S3Endpoint? {
        var endpoint: S3Endpoint
        if let endpointURL {
            guard let custom = S3Endpoint(url: endpointURL, bucket: bucket, pathStyle: true) else { return nil }
            endpoint = custom
        } else {
            endpoint = .aws(
                region: region, bucket: bucket, pathStyle: true, dualStack: settings.usesDualStack,
                fips: settings.usesFIPS)
        }
        endpoint.pathStyle =
            pathStyle ?? (profile.pathStyle || !S3Endpoint.isHostLabel(bucket, https: endpoint.https))
        return endpoint
    }

    /// As far as anybody says it.
    var knownRegion: String? { region ?? regionOfHost ?? profile.region ?? settings.region }

    /// What all buckets of the store have in common, as far as it is known without asking.
    var sharedEndpoint: String {
        guard var endpoint = endpoint(region: knownRegion ?? "us-east-1") else {
            return bucket
        }
        endpoint.pathStyle = true
        return endpoint.url + endpoint.basePath
    }

    /// A region that the host name tells, such as `eu-central-003` of `s3.eu-central-003.backblazeb2.com`.
    var regionOfHost: String? {
        guard let endpointURL, let host = S3Endpoint(url: endpointURL, bucket: "", pathStyle: true)?.host else {
            return nil
        }
        let labels = host.split(separator: ".").map(String.init)
        switch profile.name {
        case "aws", "b2", "wasabi", "scaleway":
            // s3.REGION.vendor.tld; AWS and Wasabi without a region mean us-east-1.
            let place = labels.count > 1 && labels[1] == "dualstack" ? 2 : 1
            return labels.count >= place + 3 && (labels[0] == "s3" || labels[0] == "s3-fips") ? labels[place] : nil
        case "digitalocean":
            return labels.count == 3 ? labels[0] : nil
        default:
            return nil
        }
    }
}

extension S3Options {
    /// What is wrong with a mount that is right key by key.
    static func problems(_ context: ProviderContext, environment: S3Environment = .process) -> [OptionProblem] {
        S3Options(context, environment: environment).problems(context)
    }

    /// The options as they are used. The shared files may have changed since the configuration was checked.
    /// - Throws: `invalidArgument` for the first of the problems.
    static func checked(
        _ context: ProviderContext, environment: S3Environment = .process
    ) throws(VFSError) -> S3Options {
        let options = S3Options(context, environment: environment)
        guard let problem = options.problems(context).first else { return options }
        throw VFSError(.invalidArgument, "\(problem.option) \(problem.message)", retry: .never)
    }

    private func problems(_ context: ProviderContext) -> [OptionProblem] {
        let options = self
        var problems: [OptionProblem] = []
        func problem(_ option: String, _ message: String) {
            problems.append(OptionProblem(option: option, message: message))
        }
        if let unreadable {
            problem("credentials", "cannot do without the shared files of the AWS tools: \(unreadable)")
        }
        let bucket = context.bucket.utf8
        if bucket.isEmpty || bucket.count > 255
            || !bucket.allSatisfy({
                0x61...0x7A ~= $0 || 0x41...0x5A ~= $0 || 0x30...0x39 ~= $0 || "-._".utf8.contains($0)
            })
            || bucket.elementsEqual(".".utf8) || bucket.elementsEqual("..".utf8)
        {
            problem("bucket", "is not the name of an S3 bucket (letters, digits, '-', '.', '_')")
        } else if context.bucket.hasSuffix("--x-s3") {
            problem("bucket", "names a directory bucket (S3 Express One Zone), which CloudMount does not speak to")
        }
        if let url = options.endpointURL {
            let endpoint = S3Endpoint(url: url, bucket: "", pathStyle: true)
            let origin = options.endpointSetting.map { "(\($0)) " } ?? ""
            if options.endpointSetting != nil, let fault = options.settings.endpoint(of: "s3")?.fault {
                problem("endpoint", "\(origin)is not used: \(fault)")
            } else if endpoint == nil {
                problem("endpoint", "\(origin)is not http://host[:port] or https://host[:port]")
            } else if let endpoint, !endpoint.https, !endpoint.isLoopback, !options.allowsHTTP {
                problem("endpoint", "\(origin)would send everything unencrypted; say allow_http: true if that is meant")
            } else if options.pathStyle == false, let endpoint = options.endpoint(region: "us-east-1"),
                endpoint.isAddress
            {
                problem("path_style", "an endpoint without a DNS name needs the bucket in the path")
            }
        }
        if let region = options.region, !Self.isRegion(region) { problem("region", "is not the name of a region") }
        if options.region == nil, let region = options.settings.region, !Self.isRegion(region) {
            problem("region", "of the environment or the profile is not the name of a region")
        }
        if let style = options.settings.addressingStyle, !["path", "virtual", "auto"].contains(style) {
            problem("path_style", "cannot be told from the profile: addressing_style is not path, virtual or auto")
        }
        if options.encryptionKey != nil, options.encryption?.hasPrefix("aws:kms") != true {
            problem("sse_kms_key_id", "goes with sse: aws:kms only")
        }
        for option in options.profile.refusedOptions where context.options[option] != nil {
            if case .boolean(false)? = context.options[option] { continue }
            problem(option, "is not supported by endpoints of profile \(options.profile.name)")
        }
        if options.encryption?.hasPrefix("aws:kms") == true, options.profile.refusedOptions.contains("sse_kms_key_id") {
            problem("sse", "aws:kms is not supported by endpoints of profile \(options.profile.name)")
        }
        for (name, value) in [
            ("storage_class", options.storageClass), ("sse_kms_key_id", options.encryptionKey),
            ("region", options.region),
        ] {
            if let value, value.isEmpty || !S3Metadata.isPlain(value) {
                problem(name, "holds characters that no header can")
            }
        }
        if let file = options.caFile {
            let isAmbient = context.options.string("ca_file") == nil
            let origin = isAmbient ? "(AWS_CA_BUNDLE or ca_bundle of the profile) " : ""
            var status = stat()
            if isAmbient, let fault = options.settings.caFileFault {
                problem("ca_file", "\(origin)is not used: \(fault)")
            } else if access(file, R_OK) != 0 || stat(file, &status) != 0 {
                problem("ca_file", "\(origin)cannot be read")
            } else if status.st_mode & S_IFMT != S_IFREG {
                problem("ca_file", "\(origin)is not a regular file")
            }
        }
        return problems + S3CredentialChain.problems(context.credentials)
    }

    static func isRegion(_ text: String) -> Bool {
        let bytes = text.utf8
        return 1...63 ~= bytes.count
            && bytes.allSatisfy {
                0x61...0x7A ~= $0 || 0x41...0x5A ~= $0 || 0x30...0x39 ~= $0 || "-_".utf8.contains($0)
            }
    }
}

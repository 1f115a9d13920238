import CloudMountVFS
import Testing

@testable import S3Provider

/// What environment and profile say beside credentials.
@Suite("Settings of the AWS tools")
struct SettingsTests {
    private func options(
        _ options: [String: OptionValue] = [:], config: String = "", profile: String? = nil,
        _ variables: [String: String] = [:]
    ) throws -> S3Options {
        let surroundings = try Surroundings(config: config, variables)
        return S3Options(context(options, profile), environment: surroundings.environment)
    }

    private func context(_ options: [String: OptionValue], _ profile: String?) -> ProviderContext {
        ProviderContext(
            mountName: "m", bucket: "my-bucket", options: OptionValues(options),
            credentials: OptionValues(profile.map { ["profile": .string($0)] } ?? [:]))
    }

    private static let config = """
        [default]
        region = eu-north-1
        [profile work]
        region = eu-west-1
        endpoint_url = https://all.example.com
        services = mine
        ca_bundle = /work.pem
        s3 =
          addressing_style = path
        [profile plain]
        endpoint_url = https://plain.example.com
        use_dualstack_endpoint = true
        [services mine]
        s3 =
          endpoint_url = https://s3.example.com
        sts =
          endpoint_url = https://sts.example.com
        """

    @Test("The region: of the mount, of the environment, of the profile")
    func regions() throws {
        func region(_ given: [String: OptionValue], _ profile: String?, _ variables: [String: String]) throws -> String?
        {
            try options(given, config: Self.config, profile: profile, variables).knownRegion
        }
        #expect(try region([:], nil, [:]) == "eu-north-1")
        #expect(try region([:], "work", [:]) == "eu-west-1")
        #expect(try region([:], nil, ["AWS_PROFILE": "work"]) == "eu-west-1")
        #expect(try region([:], "work", ["AWS_DEFAULT_REGION": "b-1"]) == "b-1")
        #expect(try region([:], "work", ["AWS_DEFAULT_REGION": "b-1", "AWS_REGION": "a-1"]) == "a-1")
        #expect(try region(["region": .string("m-1")], "work", ["AWS_REGION": "a-1"]) == "m-1")
        let r2 = OptionValue.string("https://0123.r2.cloudflarestorage.com")
        #expect(try region(["endpoint": r2], nil, ["AWS_REGION": "a-1"]) == "auto")
        let found = try S3Client(
            options(config: Self.config), credentials: S3CredentialStore(StaticCredentials(credentials: nil)))
        #expect(found.route.region == "eu-north-1")
        #expect(found.route.authority == "my-bucket.s3.eu-north-1.amazonaws.com")
    }

    @Test(
        "The endpoint: of the mount, of the service in the environment, of all, of the profile's service, of the profile"
    )
    func endpoints() throws {
        func url(_ given: [String: OptionValue], _ profile: String?, _ variables: [String: String]) throws -> String? {
            try options(given, config: Self.config, profile: profile, variables).endpointURL
        }
        #expect(try url([:], nil, [:]) == nil)
        #expect(try url([:], "plain", [:]) == "https://plain.example.com")
        #expect(try url([:], "work", [:]) == "https://s3.example.com")
        #expect(try url([:], "work", ["AWS_ENDPOINT_URL": "https://env"]) == "https://env")
        let both = ["AWS_ENDPOINT_URL": "https://env", "AWS_ENDPOINT_URL_S3": "https://env-s3"]
        #expect(try url([:], "work", both) == "https://env-s3")
        #expect(try url(["endpoint": .string("https://mine")], "work", both) == "https://mine")
        #expect(try url([:], "work", ["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"]) == nil)
        #expect(try options(config: Self.config, profile: "work").profile.name == "generic")
        let settings = try options(config: Self.config, profile: "work").settings
        #expect(settings.endpoint(of: "sts")?.url == "https://sts.example.com")
        #expect(settings.endpoint(of: "sso")?.url == "https://all.example.com")
    }

    @Test("Dual stack, FIPS and the partitions: the host that is called, also when a bucket is in another region")
    func hosts() throws {
        func host(_ region: String, _ variables: [String: String] = [:]) throws -> String? {
            try options(["region": .string(region)], variables).endpoint(region: region)?.authority
        }
        let (dual, fips) = (["AWS_USE_DUALSTACK_ENDPOINT": "true"], ["AWS_USE_FIPS_ENDPOINT": "TRUE"])
        #expect(try host("us-east-2") == "my-bucket.s3.us-east-2.amazonaws.com")
        #expect(try host("us-east-2", dual) == "my-bucket.s3.dualstack.us-east-2.amazonaws.com")
        #expect(try host("us-gov-west-1", fips) == "my-bucket.s3-fips.us-gov-west-1.amazonaws.com")
        #expect(
            try host("us-east-2", dual.merging(fips) { $1 }) == "my-bucket.s3-fips.dualstack.us-east-2.amazonaws.com")
        #expect(try host("us-east-2", ["AWS_USE_FIPS_ENDPOINT": "no"]) == "my-bucket.s3.us-east-2.amazonaws.com")
        for (region, suffix) in [
            ("cn-north-1", "amazonaws.com.cn"), ("eusc-de-east-1", "amazonaws.eu"), ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"), ("eu-isoe-west-1", "cloud.adc-e.uk"),
            ("us-isof-south-1", "csp.hci.ic.gov"), ("xx-new-9", "amazonaws.com"),
        ] {
            #expect(try host(region) == "my-bucket.s3.\(region).\(suffix)")
            let url = OptionValue.string("https://s3.\(region).\(suffix)")
            let given = try options(["endpoint": url])
            #expect(given.profile.name == "aws" && given.regionOfHost == region)
        }
        let old = S3Endpoint.aws(region: "eu-west-1", bucket: "b", pathStyle: false, dualStack: true, fips: true)
        #expect(
            old.inRegion("cn-north-1", from: "eu-west-1").host == "s3-fips.dualstack.cn-north-1.amazonaws.com.cn")
        #expect(old.inRegion("eu-west-2", from: "eu-west-1").isOfFamily(of: old))
        let dualHost = try options(["endpoint": .string("https://s3.dualstack.us-west-2.amazonaws.com")])
        #expect(dualHost.regionOfHost == "us-west-2")
        // An endpoint of one's own is called as it is.
        let own = try options(["endpoint": .string("https://nas")], dual)
        #expect(own.endpoint(region: "x")?.authority == "nas")
    }

    @Test("Addressing and authorities: of the mount, else of the profile or the environment")
    func addressing() throws {
        #expect(try options(config: Self.config, profile: "work").pathStyle == true)
        #expect(
            try options(["path_style": .boolean(false)], config: Self.config, profile: "work").pathStyle == false)
        let virtual = "[default]\ns3 =\n  addressing_style = virtual\n"
        #expect(try options(config: virtual).pathStyle == false)
        #expect(try options(["endpoint": .string("http://127.0.0.1:9000")], config: virtual).pathStyle == nil)
        #expect(try options(config: virtual.replacing("virtual", with: "auto")).pathStyle == nil)
        #expect(try options(config: Self.config, profile: "work").caFile == "/work.pem")
        let variables = ["AWS_CA_BUNDLE": "/env.pem"]
        #expect(try options(config: Self.config, profile: "work", variables).caFile == "/env.pem")
        #expect(try options(["ca_file": .string("/m.pem")], variables).caFile == "/m.pem")
    }

    @Test("A setting that is wrong is named")
    func wrong() throws {
        func problems(_ variables: [String: String], config: String = "") throws -> [String] {
            let surroundings = try Surroundings(config: config, variables)
            return S3Options.problems(context([:], nil), environment: surroundings.environment)
                .map { "\($0.option) \($0.message)" }
        }
        #expect(try problems([:]) == [])
        #expect(
            try problems(["AWS_ENDPOINT_URL_S3": "nas"])
                == ["endpoint (AWS_ENDPOINT_URL_S3) is not http://host[:port] or https://host[:port]"])
        #expect(
            try problems(["AWS_ENDPOINT_URL": "http://nas"])[0].contains("(AWS_ENDPOINT_URL) would send everything"))
        #expect(try problems(["AWS_ENDPOINT_URL": "http://127.0.0.1:9000"]) == [])
        #expect(try problems(["AWS_REGION": "eu west"])[0].hasPrefix("region of the environment"))
        #expect(try problems(["AWS_CA_BUNDLE": "/nonexistent"])[0].hasPrefix("ca_file (AWS_CA_BUNDLE"))
        #expect(
            try problems([:], config: "[default]\ns3 =\n  addressing_style = sideways\n")[0].contains(
                "addressing_style"))
    }

    @Test("Shared files: what stands before what, and what is nobody's")
    func files() throws {
        var files = S3SharedFiles()
        try files.take(
            config: """
                [default]
                region = plain
                [profile default]
                output = json
                [profile "two words"]
                REGION = a
                empty =
                [profile two words]
                region = b
                  continued = no
                [sso-session s]
                sso_region = r
                [plain]
                region = not mine
                """, fault: nil)
        #expect(files.profiles["default"]?.values == ["output": "json"])
        #expect(files.profiles["two words"]?.values == ["region": "b"])
        #expect(files.profiles["plain"] == nil && files.sessions["s"] == ["sso_region": "r"])
        try files.take(
            credentials: "[two words]\nregion = c\nendpoint_url = https://x\n[profile x]\na = b",
            fault: "it is open to all")
        #expect(files.profiles["two words"]?["region"] == "c")
        #expect(files.profiles["two words"]?.faults == ["endpoint_url": "it is open to all"])
        #expect(files.profiles["x"] == nil)
    }
}

import CloudMountKit
import CloudMountVFS
import Testing

@testable import S3Provider

@Suite("Options, endpoints and profiles")
struct OptionTests {
    private func context(
        _ options: [String: OptionValue] = [:], bucket: String = "my-bucket", credentials: [String: OptionValue] = [:]
    ) -> ProviderContext {
        ProviderContext(
            mountName: "m", bucket: bucket, options: OptionValues(options), credentials: OptionValues(credentials))
    }

    private func problems(
        _ options: [String: OptionValue] = [:], bucket: String = "my-bucket", credentials: [String: OptionValue] = [:]
    ) -> [String] {
        S3Provider.descriptor.check(context(options, bucket: bucket, credentials: credentials)).map(\.option)
    }

    @Test(
        "Endpoints are read",
        arguments: [
            ("http://127.0.0.1:8333", "http://127.0.0.1:8333", "/b"), ("https://Nas.Local", "https://nas.local", "/b"),
            ("http://h:80/", "http://h", "/b"), ("https://h:443", "https://h", "/b"),
            ("https://h:80", "https://h:80", "/b"),
            ("http://[::1]:9000", "http://[::1]:9000", "/b"), ("https://[fd00::1]", "https://[fd00::1]", "/b"),
            ("https://h/storage/v1/s3/", "https://h", "/storage/v1/s3/b"),
        ])
    func endpoints(text: String, url: String, path: String) {
        let endpoint = S3Endpoint(url: text, bucket: "b", pathStyle: true)
        #expect(endpoint?.url == url)
        #expect(endpoint?.bucketPath == path)
    }

    @Test(
        "What is no endpoint is refused",
        arguments: [
            "", "h", "h:9000", "ftp://h", "http://", "http://h:0", "http://h:99999", "http://h:x", "http://u:p@h",
            "http://h?x", "http://h#x", "http://[::1", "http://[::1]x", "http://a b", "http://h/%2e",
        ])
    func noEndpoints(text: String) { #expect(S3Endpoint(url: text, bucket: "b", pathStyle: true) == nil) }

    @Test(
        "An endpoint is on this machine when the host that requests are sent to is",
        arguments: [
            ("http://localhost:9000", false, true), ("http://localhost", true, true), ("http://127.0.0.1", true, true),
            ("http://s3.localhost", false, true), ("http://127.0.0.1", false, false), ("http://[::1]", false, false),
            ("http://nas", true, false),
        ])
    func loopback(text: String, pathStyle: Bool, isLoopback: Bool) throws {
        let endpoint = try #require(S3Endpoint(url: text, bucket: "b", pathStyle: pathStyle))
        #expect(endpoint.isLoopback == isLoopback)
        #expect(WebURL(endpoint.url)?.isLoopback ?? false == isLoopback)
    }

    @Test("Mounts share an endpoint when they call the same host, whatever their buckets")
    func sharedEndpoints() throws {
        func name(_ options: [String: OptionValue], bucket: String = "my-bucket") throws -> String {
            var options = options
            options["allow_http"] = .boolean(true)
            return try S3Provider.descriptor.endpoint(context(options, bucket: bucket))
        }
        let lab: [String: OptionValue] = ["endpoint": .string("http://lab:9000/"), "region": .string("here")]
        #expect(try name(lab) == "http://lab:9000")
        #expect(try name(lab, bucket: "other") == name(["endpoint": .string("http://LAB:9000")]))
        #expect(try name(lab) != name(["endpoint": .string("https://lab:9000")]))
        #expect(try name([:]) == "https://s3.us-east-1.amazonaws.com")
        #expect(try name([:], bucket: "with.dots") == name(["region": .string("us-east-1")]))
        #expect(try name(["region": .string("eu-west-1")]) == "https://s3.eu-west-1.amazonaws.com")
        #expect(
            try name(["endpoint": .string("https://s3.eu-west-1.amazonaws.com"), "path_style": .boolean(false)])
                == name(["region": .string("eu-west-1")]))
    }

    @Test("The bucket is in the host name where the profile says so and a certificate covers it")
    func addressing() {
        func url(_ options: [String: OptionValue], _ bucket: String = "my-bucket") -> String? {
            let route = S3Options(context(options, bucket: bucket)).endpoint(region: "eu-west-1")
                .map { S3Route(endpoint: $0, region: "eu-west-1") }
            return route.map {
                var bytes = Array($0.url.utf8)
                $0.appendPath("k", to: &bytes)
                return String(decoding: bytes, as: UTF8.self)
            }
        }
        #expect(url([:]) == "https://my-bucket.s3.eu-west-1.amazonaws.com/k")
        #expect(url([:], "my.bucket") == "https://s3.eu-west-1.amazonaws.com/my.bucket/k")
        #expect(url([:], "My_Bucket") == "https://s3.eu-west-1.amazonaws.com/My_Bucket/k")
        #expect(url(["path_style": .boolean(true)]) == "https://s3.eu-west-1.amazonaws.com/my-bucket/k")
        let custom = OptionValue.string("https://s3.example.com")
        #expect(url(["endpoint": custom]) == "https://s3.example.com/my-bucket/k")
        #expect(url(["endpoint": custom, "path_style": .boolean(false)]) == "https://my-bucket.s3.example.com/k")
    }

    @Test(
        "Hosts tell the profile and often the region",
        arguments: [
            ("https://s3.us-west-2.amazonaws.com", "aws", "us-west-2"),
            ("https://s3.eu-central-003.backblazeb2.com", "b2", "eu-central-003"),
            ("https://0123.r2.cloudflarestorage.com", "r2", nil), ("https://s3.wasabisys.com", "wasabi", nil),
            ("https://s3.eu-central-1.wasabisys.com", "wasabi", "eu-central-1"),
            ("https://storage.googleapis.com", "gcs", nil), ("https://s3.fr-par.scw.cloud", "scaleway", "fr-par"),
            ("https://nyc3.digitaloceanspaces.com", "digitalocean", "nyc3"), ("http://127.0.0.1:9000", "generic", nil),
            ("https://notamazonaws.com", "generic", nil),
        ] as [(String, String, String?)])
    func hosts(url: String, profile: String, region: String?) {
        let options = S3Options(context(["endpoint": .string(url)]))
        #expect(options.profile.name == profile)
        #expect(options.regionOfHost == region)
    }

    @Test("Without an endpoint it is AWS; the user's word counts more than the host")
    func given() {
        #expect(S3Options(context()).profile.name == "aws")
        let options = S3Options(
            context(["endpoint": .string("https://s3.wasabisys.com"), "endpoint_profile": .string("minio")]))
        #expect(options.profile.name == "minio" && options.profileIsGiven)
        #expect(S3Options(context(["list_version": .string("1")])).profile.listVersion == 1)
    }

    @Test("Plain http leaves this machine only when that is said")
    func plainHTTP() {
        func problems(_ endpoint: String, _ isAllowed: Bool) -> [String] {
            let options: [String: OptionValue] = ["endpoint": .string(endpoint), "allow_http": .boolean(isAllowed)]
            return S3Options.problems(context(options)).map(\.option)
        }
        #expect(problems("http://nas:9000", false) == ["endpoint"])
        #expect(problems("http://nas:9000", true) == [])
        #expect(problems("https://nas:9000", false) == [])
        #expect(problems("http://127.0.0.1:9000", false) == [] && problems("http://[::1]:9000", false) == [])
    }

    @Test("A Server header tells the profile of an unknown host only")
    func server() throws {
        func name(_ header: String?, _ options: [String: OptionValue]) throws -> String {
            let options = options.merging(["endpoint": .string("http://h:9000")]) { given, _ in given }
            let client = try S3Client(
                S3Options(context(options)), credentials: S3CredentialStore(StaticCredentials(credentials: nil)))
            client.recognise(server: header)
            return client.profile.name
        }
        #expect(try name("MinIO", [:]) == "minio")
        #expect(try name("SeaweedFS 4.48", [:]) == "seaweedfs")
        #expect(try name("AmazonS3", [:]) == "generic")
        #expect(try name(nil, [:]) == "generic")
        #expect(try name("MinIO", ["endpoint_profile": .string("generic")]) == "generic")
        #expect(try name("MinIO", ["endpoint": .string("https://s3.wasabisys.com")]) == "wasabi")
    }

    @Test("Every profile has a name of its own and is what the schema offers")
    func table() {
        let names = S3Profiles.all.map(\.name)
        #expect(Set(names).count == names.count)
        let offered = S3Options.descriptors.first { $0.name == "endpoint_profile" }?.kind
        #expect(offered == .choice(names))
        let options = Set(S3Options.descriptors.map(\.name))
        for profile in S3Profiles.all { #expect(options.isSuperset(of: profile.refusedOptions)) }
        #expect(!S3Profiles.aws.needsProbe && S3Profiles.generic.needsProbe)
    }

    @Test("Faults are told at the key that they concern")
    func faults() {
        #expect(problems() == [])
        #expect(problems(bucket: "") == ["bucket"])
        #expect(problems(bucket: "a/b") == ["bucket"])
        #expect(problems(bucket: "..") == ["bucket"])
        #expect(problems(bucket: "x--use1-az4--x-s3") == ["bucket"])
        #expect(problems(["endpoint": .string("nas:9000")]) == ["endpoint"])
        #expect(
            problems(["endpoint": .string("http://127.0.0.1:9000"), "path_style": .boolean(false)]) == ["path_style"])
        #expect(problems(["region": .string("eu west")]) == ["region"])
        #expect(problems(["sse_kms_key_id": .string("k")]) == ["sse_kms_key_id"])
        #expect(problems(["sse": .string("aws:kms"), "sse_kms_key_id": .string("k")]) == [])
        #expect(problems(["storage_class": .string("A\r\nX: y")]) == ["storage_class"])
        #expect(problems(["ca_file": .string("/nonexistent.pem")]) == ["ca_file"])
        let b2 = OptionValue.string("https://s3.eu-central-003.backblazeb2.com")
        #expect(problems(["endpoint": b2, "storage_class": .string("GLACIER")]) == ["storage_class"])
        #expect(problems(["endpoint": b2, "sse": .string("AES256")]) == [])
        #expect(problems(["endpoint": b2, "sse": .string("aws:kms")]) == ["sse"])
        #expect(problems(["endpoint": b2, "requester_pays": .boolean(false)]) == [])
    }

    @Test("Credentials are one kind, and whole")
    func credentials() {
        let (id, secret) = (OptionValue.string("A"), OptionValue.string("S"))
        #expect(problems(credentials: ["access_key_id": id, "secret_access_key": secret]) == [])
        #expect(problems(credentials: ["access_key_id": id]) == ["credentials"])
        #expect(problems(credentials: ["secret_access_key": secret]) == ["credentials"])
        #expect(problems(credentials: ["session_token": secret, "profile": id]) == ["session_token"])
        #expect(
            problems(credentials: ["access_key_id": id, "secret_access_key": secret, "profile": id]) == ["credentials"])
        #expect(problems(credentials: ["credential_process": .string("'open")]) == ["credential_process"])
        let secrets = S3Provider.descriptor.credentials.filter(\.secret).map(\.name)
        #expect(secrets == ["secret_access_key", "session_token"])
    }
}

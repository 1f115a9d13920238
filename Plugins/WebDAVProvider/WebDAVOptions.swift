import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// One mount's options, read and checked.
struct WebDAVOptions: Sendable {
    /// The folder that is the bucket; nil when `bucket` is no URL.
    var url: WebURL?
    /// Where the mount begins in it, empty or ending in `/`.
    var prefix: String
    var caFile: String?
    var allowsHTTP: Bool
    /// Nil: by the shape of the URL.
    var chunks: Bool?

    /// `davs` and `webdavs` are WebDAV over TLS, `dav` and `webdav` without.
    static let urlForm = StoreURLForm(
        schemes: ["https", "http", "davs", "dav", "webdavs", "webdav"], example: "https://cloud.example.com/folder"
    ) { url in
        let isTLS = ["https", "davs", "webdavs"].contains(url.scheme)
        return StorePlace(bucket: (isTLS ? "https://" : "http://") + url.rest)
    }

    static let descriptors: [OptionDescriptor] = [
        OptionDescriptor("ca_file", .path, "PEM file of authorities that replaces the system's"),
        OptionDescriptor(
            "allow_http", .boolean, "send password and content unencrypted to another machine", default: "false"),
        OptionDescriptor(
            "nextcloud_chunks", .boolean, "send large files in parts, as Nextcloud takes them",
            default: "true below /remote.php/dav/files/"),
    ]

    init(_ context: ProviderContext) {
        url = Self.url(context.bucket)
        prefix = context.prefix
        caFile = context.options.string("ca_file")
        allowsHTTP = context.options.boolean("allow_http") ?? false
        chunks = context.options.boolean("nextcloud_chunks")
    }

    /// `http(s)://host[:port]/path`, the path escaped.
    private static func url(_ text: String) -> WebURL? {
        guard !text.utf8.contains(where: { "?#\\".utf8.contains($0) }), let url = WebURL(answered: text),
            let root = WebDAVRoot(url), root.isPlain
        else { return nil }
        return url
    }

    /// What is wrong with a mount that is right key by key.
    static func problems(_ context: ProviderContext) -> [OptionProblem] {
        let options = WebDAVOptions(context)
        var problems: [OptionProblem] = []
        if let url = options.url {
            if !url.isTLS, !url.isLoopback, !options.allowsHTTP {
                problems.append(
                    OptionProblem(
                        option: "bucket",
                        message: "would send password and content unencrypted; say allow_http: true if that is meant"))
            }
            if options.chunks == true, WebDAVRoot(url)?.uploads == nil {
                problems.append(
                    OptionProblem(
                        option: "nextcloud_chunks", message: "needs a bucket below /remote.php/dav/files/USER"))
            }
        } else {
            problems.append(
                OptionProblem(
                    option: "bucket", message: "is not http(s)://host[:port]/path, with escapes where there must be any"
                ))
        }
        if let file = options.caFile, access(file, R_OK) != 0 {
            problems.append(OptionProblem(option: "ca_file", message: "cannot be read"))
        }
        return problems + WebDAVCredentials.problems(context.credentials)
    }
}

/// Who asks: a user with a password, a bearer token, or nobody.
struct WebDAVCredentials: Sendable, Equatable {
    /// The value of `Authorization`; nil: none.
    var authorisation: String?
    /// Not secret.
    var user: String?

    static let descriptors: [OptionDescriptor] = [
        OptionDescriptor("username", .string, "user name"),
        OptionDescriptor("password", .string, "password, better one made for this program alone", secret: true),
        OptionDescriptor("token", .string, "bearer token instead of user and password", secret: true),
    ]

    init(_ values: OptionValues) {
        if let token = values.string("token"), !token.isEmpty {
            authorisation = "Bearer \(token)"
        } else if let user = values.string("username"), !user.isEmpty {
            self.user = user
            authorisation = "Basic " + Base64.encode(Array("\(user):\(values.string("password") ?? "")".utf8))
        }
    }

    static func problems(_ values: OptionValues) -> [OptionProblem] {
        func given(_ name: String) -> Bool { !(values.string(name) ?? "").isEmpty }
        var problems: [OptionProblem] = []
        if given("token"), given("username") || given("password") {
            problems.append(OptionProblem(option: "token", message: "stands beside username or password"))
        }
        if given("username") != given("password") {
            let missing = given("username") ? "password" : "username"
            problems.append(
                OptionProblem(option: "credentials", message: "\(missing) is missing beside its other half"))
        }
        if let user = values.string("username"), user.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F || $0 == 0x3A }) {
            problems.append(OptionProblem(option: "username", message: "holds a colon or a control character"))
        }
        if let token = values.string("token"), !token.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) {
            problems.append(OptionProblem(option: "token", message: "holds characters that no token has"))
        }
        return problems
    }
}

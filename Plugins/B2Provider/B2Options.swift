import CloudMountKit
import CloudMountVFS
import Glibc

/// One mount's options, read and checked.
struct B2Options: Sendable {
    enum Deletion: String, Sendable, CaseIterable {
        /// A marker hides the name; the versions below it remain.
        case hide
        /// Every version goes.
        case permanent
    }

    static let usualRealm = "https://api.backblazeb2.com"
    static let testModes = [
        "fail_some_uploads", "expire_some_account_authorization_tokens", "force_cap_exceeded",
    ]

    var bucket: String
    var prefix: String
    /// Without a slash at its end.
    var realm: String
    var deletion: Deletion
    var encryptionName: String?
    var testMode: String?
    var caFile: String?
    var allowsHTTP: Bool

    static let descriptors: [OptionDescriptor] = [
        OptionDescriptor("realm", .url, "where to log in, for private or test endpoints", default: usualRealm),
        OptionDescriptor(
            "delete", .choice(Deletion.allCases.map(\.rawValue)),
            "what unlink does: hide keeps old versions, permanent deletes them all", default: "hide"),
        OptionDescriptor("sse", .choice(["SSE-B2", "SSE-C"]), "server-side encryption", default: "the bucket's"),
        OptionDescriptor("ca_file", .path, "PEM file of authorities that replaces the system's"),
        OptionDescriptor(
            "allow_http", .boolean, "send the key unencrypted to a realm on another machine", default: "false"),
        OptionDescriptor("test_mode", .choice(testModes), "ask B2 for faults (X-Bz-Test-Mode)"),
    ]

    init(_ context: ProviderContext) {
        let options = context.options
        bucket = context.bucket
        prefix = context.prefix
        var realm = options.string("realm") ?? Self.usualRealm
        while realm.utf8.last == UInt8(ascii: "/") { realm.removeLast() }
        self.realm = realm
        deletion = options.string("delete").flatMap(Deletion.init) ?? .hide
        encryptionName = options.string("sse")
        testMode = options.string("test_mode")
        caFile = options.string("ca_file")
        allowsHTTP = options.boolean("allow_http") ?? false
    }

    /// What is wrong with a mount that is right key by key.
    static func problems(_ context: ProviderContext) -> [OptionProblem] {
        let options = B2Options(context)
        var problems: [OptionProblem] = []
        func problem(_ option: String, _ message: String) {
            problems.append(OptionProblem(option: option, message: message))
        }
        let bucket = context.bucket.utf8
        if !(6...63 ~= bucket.count)
            || !bucket.allSatisfy({ 0x61...0x7A ~= $0 || 0x41...0x5A ~= $0 || 0x30...0x39 ~= $0 || $0 == 0x2D })
            || bucket.starts(with: "b2-".utf8)
        {
            problem(
                "bucket", "is not the name of a B2 bucket (6 to 63 letters, digits and '-', not beginning with b2-)")
        }
        do throws(VFSError) {
            if !options.prefix.isEmpty { try B2Names.check(ObjectKey(options.prefix)) }
        } catch {
            problem("prefix", "cannot begin names in B2: \(error.message)")
        }
        if let realm = WebURL(options.realm), realm.path.isEmpty {
            if !realm.isTLS, !realm.isLoopback, !options.allowsHTTP {
                problem("realm", "would send the application key unencrypted; say allow_http: true if that is meant")
            }
        } else {
            problem("realm", "is not http://host[:port] or https://host[:port]")
        }
        let hasCustomerKey = !(context.credentials.string("sse_c_key") ?? "").isEmpty
        if options.encryptionName == "SSE-C", !hasCustomerKey {
            problem("sse", "SSE-C needs sse_c_key among the credentials")
        }
        if let file = options.caFile, access(file, R_OK) != 0 { problem("ca_file", "cannot be read") }
        return problems + B2Credentials.problems(context.credentials)
    }
}

extension WebURL {
    /// Whether who logs in here may be sent on to `place`, with the key's token and with bytes. TLS is never left; from an address
    /// without it, only this machine is reached without it, unless the mount allows more.
    func mayLead(to place: WebURL, allowingHTTP: Bool) -> Bool {
        place.isTLS || !isTLS && (place.isLoopback || allowingHTTP)
    }
}

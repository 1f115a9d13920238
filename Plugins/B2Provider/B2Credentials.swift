import CloudMountCrypto
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// An application key, and the key of SSE-C where the mount has one.
struct B2Credentials: Sendable {
    var keyID: String
    var key: String
    var customerKey: B2CustomerKey?

    static let descriptors: [OptionDescriptor] = [
        OptionDescriptor("key_id", .string, "application key id", default: "B2_APPLICATION_KEY_ID"),
        OptionDescriptor("application_key", .string, "application key", default: "B2_APPLICATION_KEY", secret: true),
        OptionDescriptor(
            "sse_c_key", .string, "32 bytes in base64: the key of sse: SSE-C, kept by you alone", secret: true),
        OptionDescriptor("sse_c_key_id", .string, "a name of that key, noted beside each file (not secret)"),
    ]

    /// What the b2 command line reads.
    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }

    /// What the configuration says, else the environment.
    /// - Throws: `credentialsInvalid` when neither has a key.
    init(_ values: OptionValues, environment: (String) -> String? = Self.variable) throws(VFSError) {
        let given = values.string("key_id").map { (id: $0, key: values.string("application_key") ?? "") }
        let found =
            given
            ?? environment("B2_APPLICATION_KEY_ID").map { (id: $0, key: environment("B2_APPLICATION_KEY") ?? "") }
        guard let found, !found.id.isEmpty, !found.key.isEmpty else {
            throw VFSError(
                .credentialsInvalid,
                "no application key: give key_id and application_key, or set B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY"
            )
        }
        keyID = found.id
        key = found.key
        customerKey = values.string("sse_c_key").flatMap {
            B2CustomerKey(base64: $0, id: values.string("sse_c_key_id"))
        }
    }

    /// Whose key it is: a key id is the cluster's three digits, the account's twelve and a number of its own; the master
    /// key's id is the account's.
    var account: String { keyID.utf8.count > 15 ? String(keyID.dropFirst(3).prefix(12)) : keyID }

    static func problems(_ values: OptionValues) -> [OptionProblem] {
        func given(_ name: String) -> Bool { values.string(name).map { !$0.isEmpty } ?? false }
        var problems: [OptionProblem] = []
        if given("key_id") != given("application_key") {
            let missing = given("key_id") ? "application_key" : "key_id"
            problems.append(
                OptionProblem(option: "credentials", message: "\(missing) is missing beside its other half"))
        }
        for name in ["key_id", "application_key"] {
            if let value = values.string(name), !value.utf8.allSatisfy({ 0x21...0x7E ~= $0 && $0 != 0x3A }) {
                problems.append(OptionProblem(option: name, message: "holds characters that no such key has"))
            }
        }
        if given("sse_c_key"), B2CustomerKey(base64: values.string("sse_c_key") ?? "", id: nil) == nil {
            problems.append(OptionProblem(option: "sse_c_key", message: "is not 32 bytes in base64"))
        }
        if given("sse_c_key_id"), !given("sse_c_key") {
            problems.append(OptionProblem(option: "sse_c_key_id", message: "names no key: sse_c_key is missing"))
        }
        return problems
    }
}

/// A key of SSE-C. B2 keeps neither it nor anything it could be had from: who loses it loses the files.
struct B2CustomerKey: Sendable {
    let base64: String
    let md5: String
    let id: String?

    init?(base64 text: String, id: String?) {
        guard let bytes = Base64.decode(text), bytes.count == 32 else { return nil }
        base64 = Base64.encode(bytes)
        md5 = Base64.encode(MD5.digest(bytes))
        self.id = id
    }
}

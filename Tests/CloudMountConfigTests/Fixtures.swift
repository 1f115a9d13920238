import CloudMountVFS
import Testing

@testable import CloudMountConfig

/// Providers for tests: one with everything, one that needs nothing.
enum Fixtures {
    static let store = ProviderDescriptor(
        name: "s3", summary: "a store", bucketMeaning: "bucket name",
        options: [
            OptionDescriptor("endpoint", .url, "where it is"),
            OptionDescriptor("region", .string, "which region", default: "asked for"),
            OptionDescriptor("path_style", .boolean, "bucket in the path", default: "false"),
            OptionDescriptor("part_size", .size, "of uploads", default: "8MiB"),
            OptionDescriptor("session", .duration, "how long"),
            OptionDescriptor("retries", .integer, "how many", default: "3"),
            OptionDescriptor("ca_file", .path, "authorities"),
            OptionDescriptor("sse", .choice(["AES256", "aws:kms"]), "encryption"),
            OptionDescriptor("list_version", .choice(["1", "2"]), "which list"),
            OptionDescriptor("customer_key", .string, "encryption key", secret: true),
            OptionDescriptor("helper", .string, "a program", isCommand: true),
        ],
        credentials: [
            OptionDescriptor("access_key_id", .string, "who", required: true),
            OptionDescriptor("secret_access_key", .string, "proof", required: true, secret: true),
        ],
        requiresCredentials: true,
        check: { context in
            context.bucket.contains("_")
                ? [OptionProblem(option: "bucket", message: "is not the name of a bucket")] : []
        },
        make: { _ throws(VFSError) in throw VFSError(.notSupported, "a fixture") })

    static let folder = ProviderDescriptor(
        name: "directory", summary: "a folder", bucketMeaning: "absolute path",
        make: { _ throws(VFSError) in throw VFSError(.notSupported, "a fixture") })

    static let providers = [folder, store]

    static let places = UserPlaces(
        environment: ["HOME": "/home/anna", "BUCKET": "holiday", "KEY": "AKID", "SECRET": "hunter2", "EMPTY": ""],
        uid: 1000, gid: 100)

    static func load(
        _ text: String, mode: UInt32 = 0o600, owner: UInt32 = 0, places: UserPlaces = places
    ) throws(ConfigurationError) -> Configuration {
        try Configuration.parse(
            Array(text.utf8), file: "m.yaml", mode: mode, owner: owner, providers: providers, places: places)
    }

    /// What is wrong with the text, one line each.
    static func errors(_ text: String) -> [String] {
        do throws(ConfigurationError) {
            _ = try load(text)
            return []
        } catch {
            return error.problems.map(\.description)
        }
    }

    /// A good file with these lines in place of the mount's own.
    static func withMount(_ lines: String) -> String {
        "version: 1\nmounts:\n  - name: a\n    path: /mnt/a\n    provider: directory\n    bucket: /srv/a\n" + lines
    }

    static let good = withMount("")
}

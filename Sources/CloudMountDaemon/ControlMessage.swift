import CloudMountVFS
import FoundationEssentials

/// What a client asks: one JSON object on one line, answered by one `ControlAnswer` on one line. Before it may come others that tell how
/// far it is.
public struct ControlRequest: Codable, Sendable, Equatable {
    public enum Command: String, Codable, Sendable {
        case status, unmount, stop, reload, remount, sync, recover, refresh, mount, offline

        /// Nobody wants its end when the client has gone.
        var endsWithItsClient: Bool { self == .sync }
    }

    public var command: Command
    /// `unmount`: name or path of a mount; none: all. `remount`: the path. `recover`: the name; none: all. `mount`: the name.
    public var target: String?
    /// `unmount`: also while files are open.
    public var lazy: Bool?
    /// `reload`: also what is in use is remounted.
    public var force: Bool?
    /// `reload`: tells what would be done.
    public var dryRun: Bool?
    /// `remount`: whether the mount is to be read-only.
    public var readOnly: Bool?
    /// `remount`: the kernel has done its part; before that, what is not stored is stored.
    public var done: Bool?
    /// `offline`: whether the mount is to be.
    public var offline: Bool?
    /// `sync`, `refresh`: what is meant; none: all mounts. `offline`: the mount.
    public var targets: [ControlTarget]?
    /// `sync`: for so long at most; until then what fails because a store cannot be reached is tried again.
    public var limit: Duration? {
        get { seconds.map { .seconds($0 > 0 ? min($0, Self.mostSeconds) : 0) } }
        set { seconds = newValue.map { $0 / .seconds(1) } }
    }
    /// As the client says it, which may be no time that a clock has room for.
    private var seconds: Double?
    private static let mostSeconds = 1e9
    /// `recover`: what is meant of it, by `KeptFile.name` or the key; none: all.
    public var name: String?
    /// `recover`: takes what is meant away, for good.
    public var discard: Bool?

    public init(
        _ command: Command, target: String? = nil, lazy: Bool? = nil, force: Bool? = nil, dryRun: Bool? = nil,
        readOnly: Bool? = nil, done: Bool? = nil, targets: [ControlTarget]? = nil, limit: Duration? = nil,
        name: String? = nil, discard: Bool? = nil
    ) {
        self.command = command
        self.target = target
        self.lazy = lazy
        self.force = force
        self.dryRun = dryRun
        self.readOnly = readOnly
        self.done = done
        self.targets = targets
        self.name = name
        self.discard = discard
        self.limit = limit
    }
}

public struct ControlAnswer: Codable, Sendable, Equatable {
    public var ok: Bool
    public var error: String?
    public var status: StatusReport?
    public var reload: ReloadReport?
    public var sync: SyncReport?
    public var kept: [KeptFile]?
    /// How many more are kept that there is no room to name.
    public var unnamed: Int?
    /// The answer is still to come.
    public var isProgress: Bool?
    /// The file is wrong; `error` tells where, a line for each fault.
    public var isWrongConfiguration: Bool?
    /// What a person should know though all went well.
    public var remarks: [String]?

    public init(
        ok: Bool = true, error: String? = nil, status: StatusReport? = nil, remarks: [String]? = nil,
        sync: SyncReport? = nil, kept: [KeptFile]? = nil, unnamed: Int? = nil
    ) {
        self.unnamed = unnamed
        self.sync = sync
        self.kept = kept
        self.ok = ok
        self.error = error
        self.remarks = remarks
        self.status = status
    }
}

/// JSON as the control protocol and `status --json` write it.
public enum ControlJSON {
    public static func line(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value)) + [UInt8(ascii: "\n")]
    }

    public static func pretty(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        // For a terminal, maybe: what is not printable lies within strings, but for the line ends.
        return String(decoding: try encoder.encode(value), as: UTF8.self).split(
            separator: "\n", omittingEmptySubsequences: false
        ).map { line in
            line.unicodeScalars.reduce(into: "") { result, scalar in
                if scalar.isPrintable {
                    result.unicodeScalars.append(scalar)
                } else {
                    let hex = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - hex.utf8.count) + hex
                }
            }
        }.joined(separator: "\n")
    }

    public static func decode<Value: Decodable>(_ type: Value.Type, from line: [UInt8]) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(line))
    }
}

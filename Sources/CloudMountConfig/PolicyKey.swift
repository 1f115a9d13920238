public import CloudMountVFS

/// One key of a cache policy. `all` is the only list of them: the parser, the JSON Schema, the effective configuration and
/// a reload's diff go by it.
public struct PolicyKey: Sendable {
    /// As in `mounts.yaml`.
    public var name: String { setting.name }
    let setting: Setting
    /// Takes the key's value from a section that may have it.
    let read: @Sendable (Fields, inout CachePolicy, inout Problems) -> Void
    /// The value as `mounts.yaml` has it.
    let text: @Sendable (CachePolicy) -> String
    let differs: @Sendable (CachePolicy, CachePolicy) -> Bool

    /// The keys whose values differ, in the order of `all`.
    public static func differing(_ old: CachePolicy, _ new: CachePolicy) -> [String] {
        all.filter { $0.differs(old, new) }.map(\.name)
    }

    static let all: [PolicyKey] = [
        choice(
            "data", \.data,
            "Where file content may be kept: off, nowhere; memory, read ahead and in the kernel's pages; disk, also on local disk, "
                + "from where it is read again after a restart."),
        size(
            "size", \.size, "With data: disk, bytes that a mount keeps there at most; 0: as many as cache.size allows."),
        duration("metadata_ttl", \.metadataTTL, "How long names, attributes and listings are believed."),
        duration("negative_ttl", \.negativeTTL, "How long a name that was not there is believed absent."),
        choice(
            "freshness", \.freshness,
            "When the store is asked again: after metadata_ttl, also at every open, or always."),
        duration(
            "poll", \.poll,
            "Folders that are in use are listed so often, at most 60 requests a minute, and the kernel is told what has changed there "
                + "elsewhere; 0: never.",
            least: .seconds(1), orNone: true),
        choice(
            "write", \.write,
            "When close and fsync return: through, when the store has the bytes; back, when they and a record of them are on local "
                + "disk, from where they go up, also after a crash."),
        duration(
            "write_delay", \.writeDelay,
            "With write: back, how long a closed file waits before it goes up; what is changed or removed until then costs less."
        ),
        choice(
            "sync", \.sync, "With write: back, what fsync waits for: local, the local disk; store, the store."),
        size("prefetch", \.prefetch, "Most bytes in flight ahead of one sequential reader."),
        duration(
            "deadline", \.deadline, "No operation waits longer than this for the store without progress.",
            least: .seconds(1)),
        choice(
            "offline", \.offline, "While the store cannot be reached: serve what is known, past its time, or fail."),
        choice(
            "on_conflict", \.onConflict,
            "When somebody else has changed the object: keep-both, ours under another name; fail, ours stays on local "
                + "disk; overwrite, ours replaces it."),
        choice(
            "exclusive_create", \.exclusiveCreate,
            "Who says whether a name is free for O_EXCL: store, asked at create, so that of two machines one wins; local, "
                + "this mount by what it knows, which saves a request for each new file; auto, the store with write: through, "
                + "this mount with write: back."),
        boolean(
            "durable_attributes", \.durableAttributes,
            "Modes, owners, times and extended attributes are stored when they are changed. False: they are kept in memory "
                + "and stored with the next content."),
    ]
}

extension PolicyKey {
    private typealias Path<Value> = any WritableKeyPath<CachePolicy, Value> & Sendable

    private init<Value: Equatable & Sendable>(
        _ name: String, _ kind: Setting.Kind, _ path: Path<Value>, _ summary: String,
        read: @escaping @Sendable (Fields, inout Problems) -> Value?, text: @escaping @Sendable (Value) -> String
    ) {
        setting = Setting(name, kind, summary, default: text(CachePolicy()[keyPath: path]))
        self.read = { fields, policy, problems in
            if let value = read(fields, &problems) { policy[keyPath: path] = value }
        }
        self.text = { text($0[keyPath: path]) }
        differs = { $0[keyPath: path] != $1[keyPath: path] }
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable & Equatable & Sendable>(
        _ name: String, _ path: Path<Choice>, _ summary: String
    ) -> PolicyKey {
        PolicyKey(
            name, .value(.choice(Choice.allCases.map(\.rawValue))), path, summary,
            read: { fields, _ in fields.choice(name) }, text: { $0.rawValue })
    }

    private static func duration(
        _ name: String, _ path: Path<Duration>, _ summary: String, least: Duration = .zero,
        orNone: Bool = false
    ) -> PolicyKey {
        PolicyKey(
            name, .value(.duration), path, summary,
            read: { fields, problems in
                let value = fields.duration(name)
                if let value, value < least, value != .zero || !orNone {
                    problems.error(
                        fields.mark(name), "'\(name)' must be \(Units.text(least)) or more\(orNone ? ", or 0" : "")")
                }
                return value
            }, text: { Units.text($0) })
    }

    private static func size(_ name: String, _ path: Path<Int>, _ summary: String) -> PolicyKey {
        PolicyKey(
            name, .value(.size), path, summary, read: { fields, _ in fields.integer(name) },
            text: { Units.text(bytes: $0) })
    }

    private static func boolean(_ name: String, _ path: Path<Bool>, _ summary: String) -> PolicyKey {
        PolicyKey(
            name, .value(.boolean), path, summary, read: { fields, _ in fields.boolean(name) }, text: { String($0) })
    }
}

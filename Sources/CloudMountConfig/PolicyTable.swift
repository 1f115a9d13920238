import CloudMountVFS

/// The built-in policies and those of the file, resolved through `extends`.
struct PolicyTable {
    static let builtin: [(name: String, summary: String, policy: CachePolicy)] = [
        ("default", "for files of every kind, changed mostly through this mount", CachePolicy()),
        (
            "media", "large files, read from front to back, seldom changed",
            CachePolicy(metadata: .seconds(600), negative: .seconds(60), prefetch: 128 << 20)
        ),
        (
            "small-files", "many small files: sources, documents, mail",
            CachePolicy(metadata: .seconds(300), negative: .seconds(60), prefetch: 16 << 20)
        ),
        (
            "archive", "written once, read seldom; the store may be slow to answer",
            CachePolicy(
                metadata: .seconds(3600), negative: .seconds(600), prefetch: 128 << 20, deadline: .seconds(120))
        ),
        (
            "strict", "others change the bucket, and their changes must be seen at once",
            CachePolicy(metadata: .zero, negative: .zero, freshness: .always)
        ),
        (
            "offline", "the store is often out of reach, and what is known is served meanwhile",
            CachePolicy(
                metadata: .seconds(3600), negative: .seconds(600), data: .disk, deadline: .seconds(10), offline: .serve)
        ),
    ]

    private(set) var policies: [String: CachePolicy] = [:]
    private var names: [String] = []

    init(_ entries: [Fields.Entry], problems: inout Problems) {
        for (name, _, policy) in Self.builtin { policies[name] = policy }
        names = Self.builtin.map(\.name) + entries.map(\.name)
        var open: [String: Fields.Entry] = [:]
        for entry in entries {
            if policies[entry.name] != nil {
                problems.error(entry.mark, "the policy '\(entry.name)' is built in; give this one another name")
            } else {
                open[entry.name] = entry
            }
        }
        for entry in entries { resolve(entry.name, open, problems: &problems) }
    }

    /// From `name` up to what is resolved, and back down: a file has room for a chain longer than a stack.
    private mutating func resolve(_ name: String, _ open: [String: Fields.Entry], problems: inout Problems) {
        var chain: [Fields.Entry] = []
        var seen: Set<String> = []
        var next = name
        while policies[next] == nil, let entry = open[next] {
            guard seen.insert(next).inserted else {
                let circle = chain.map(\.name).drop { $0 != next } + [next]
                problems.error(
                    entry.fields.mark("extends"),
                    "the policy '\(next)' extends itself: \(circle.joined(separator: " → "))")
                policies[next] = CachePolicy()
                break
            }
            chain.append(entry)
            next = entry.fields.text("extends") ?? "default"
        }
        for entry in chain.reversed() where policies[entry.name] == nil {
            policies[entry.name] = inPlace(entry.fields, problems: &problems)
        }
    }

    /// The policy called `name`, or the default when there is none (which is then told).
    func named(_ name: String, at mark: Mark, problems: inout Problems) -> CachePolicy {
        if let policy = policies[name] { return policy }
        if !names.contains(name) {
            problems.error(mark, "there is no policy '\(name)'\(NearestWord.hint(name, among: names))")
        }
        return CachePolicy()
    }

    /// A policy of settings over the one that it extends.
    func inPlace(_ fields: Fields, problems: inout Problems) -> CachePolicy {
        var policy = named(fields.text("extends") ?? "default", at: fields.mark("extends"), problems: &problems)
        for key in PolicyKey.all { key.read(fields, &policy, &problems) }
        return policy
    }
}

extension CachePolicy {
    fileprivate init(
        metadata: Duration, negative: Duration, freshness: Freshness = .ttl, data: Data = .memory,
        prefetch: Int = CachePolicy().prefetch,
        deadline: Duration = .seconds(30), offline: Offline = .fail
    ) {
        self.init()
        metadataTTL = metadata
        negativeTTL = negative
        self.freshness = freshness
        self.data = data
        self.prefetch = prefetch
        self.deadline = deadline
        self.offline = offline
    }
}

import CloudMountVFS
import TestSeeds
import Testing

@testable import CloudMountConfig

@Suite("The schema and the parser are one")
struct SchemaTests {
    static let grammar = Grammar(providers: Fixtures.providers)
    static let schema = JSONSchema.schema(grammar)

    /// What the schema says about a file.
    static func schemaAccepts(_ text: String) throws -> Bool {
        var problems = Problems(file: "m.yaml")
        let node = try #require(YAMLTree.parse(Array(text.utf8), problems: &problems))
        return problems.errors.isEmpty && SchemaWalk(root: schema).accepts(CoreValue(node), schema)
    }

    private func expectAgreement(_ text: String, accepted: Bool) throws {
        let errors = Fixtures.errors(text)
        #expect(errors.isEmpty == accepted, "the parser on:\n\(text)\n\(errors)")
        #expect(try Self.schemaAccepts(text) == accepted, "the schema on:\n\(text)")
    }

    /// A value that the setting takes, and some that it does not.
    static func samples(_ kind: Setting.Kind) -> (good: [String], bad: [String]) {
        switch kind {
        case .value(.string): (["text", "12", "\"${env:BUCKET}\""], ["[a]", "{a: b}"])
        case .value(.boolean): (["true", "false", "\"${env:NO:-true}\""], ["yes", "\"true\"", "1", "[true]"])
        case .value(.integer): (["0", "12"], ["-1", "1.5", "\"12\"", "many", "{}"])
        case .value(.url):
            (["http://h", "https://h:1/p"], ["h", "ftp://h", "https://u:p@h", "\"https://h?x\"", "[]"])
        case .value(.path): (["/p/q", "~/q"], ["p", "./p", "/p/../q", "12"])
        case .value(.size): (["64MiB", "1.5GiB"], ["12", "12M", "MiB", "-1MiB", "[]"])
        case .value(.duration): (["30s", "1m30s"], ["12", "s", "3 s", "{}"])
        case .value(.choice(let choices)): (choices, ["nothing_such", "[]"])
        case .id: (["0", "12", "4294967294"], ["-1", "1.5", "\"12\"", "4294967295", "4294967296", "{}"])
        case .octal: (["\"022\"", "027"], ["\"99\"", "\"01777\"", "rwx", "[]"])
        case .name: (["default"], ["\"a b\"", "[]", "-"])
        case .constant(let number): ([String(number)], ["9", "\"\(number)\"", "[]"])
        case .section, .table, .nameOr: (["{}"], ["[]"])
        case .list: ([], ["[]", "{}", "text"])
        case .later: ([], ["x", "{}", "1"])
        }
    }

    /// Every setting with the file that it stands in; `VALUE` is where its value goes.
    static var places: [(setting: Setting, file: String)] {
        let mounts = "mounts:\n  - {name: a, path: /mnt/a, provider: directory, bucket: /srv/a}\n"
        let head = "version: 1\n"
        var places: [(Setting, String)] = []
        func section(_ name: String, _ section: Section, in file: (String) -> String) {
            for setting in section.settings { places.append((setting, file("{\(setting.name): VALUE}"))) }
        }
        section("cache", Grammar.cache) { head + mounts + "cache: \($0)\n" }
        section("control", Grammar.control) { head + mounts + "control: \($0)\n" }
        section("log", Grammar.log) { head + mounts + "log: \($0)\n" }
        section("defaults", Grammar.defaults) { head + mounts + "defaults: \($0)\n" }
        section("policies", Grammar.policy) { head + mounts + "policies: {p: \($0)}\n" }
        let scalars = grammar.root.settings.filter { $0.name == "memory" }
        for setting in scalars { places.append((setting, head + mounts + "\(setting.name): VALUE\n")) }
        let credentials = "credentials: {access_key_id: k, secret_access_key: s}"
        let given = ["name": "a", "path": "/mnt/a", "bucket": "b"]
        for setting in grammar.mount.settings + Fixtures.store.options.map({ Setting($0) })
        where setting.name != "provider" && setting.name != "credentials" {
            let others = given.filter { $0.key != setting.name }.sorted { $0.key < $1.key }
            let keys =
                others.map { "\($0.key): \($0.value)" } + ["provider: s3", credentials, "\(setting.name): VALUE"]
            places.append((setting, head + "mounts:\n  - {\(keys.joined(separator: ", "))}\n"))
        }
        for option in Fixtures.store.credentials {
            let others = Fixtures.store.credentials.filter { $0.name != option.name }.map { "\($0.name): x" }
            let keys = (["provider: s3"] + others + ["\(option.name): VALUE"]).joined(separator: ", ")
            places.append((Setting(option), head + mounts + "credentials: {c: {\(keys)}}\n"))
        }
        return places
    }

    @Test("every declared key is accepted with good values and refused with bad ones, by both")
    func declared() throws {
        for (setting, file) in Self.places {
            let samples = Self.samples(setting.kind)
            for value in samples.good {
                // What the fixtures' own rules refuse beyond kinds.
                if setting.name == "deadline" || setting.name == "memory" || setting.name == "size" { continue }
                try expectAgreement(file.replacing("VALUE", with: value), accepted: true)
            }
            for value in samples.bad { try expectAgreement(file.replacing("VALUE", with: value), accepted: false) }
        }
        try expectAgreement(Fixtures.withMount("memory: 64MiB\n"), accepted: true)
    }

    @Test("a random unknown key is refused by both, everywhere")
    func unknownKeys() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var random = SeededGenerator(seed: seed)
        for (setting, file) in Self.places {
            let letters = "abcdefghijklmnopqrstuvwxyz_"
            let key = "q" + String((0..<8).compactMap { _ in letters.randomElement(using: &random) })
            try expectAgreement(file.replacing("\(setting.name): VALUE", with: "\(key): 1"), accepted: false)
        }
        try expectAgreement(Fixtures.withMount("    qqq: 1\n"), accepted: false)
        try expectAgreement(Fixtures.withMount("qqq: 1\n"), accepted: false)
        try expectAgreement(Fixtures.withMount("x-qqq: 1\n"), accepted: true)
    }

    @Test("a key that is required is missed by both")
    func required() throws {
        try expectAgreement(Fixtures.good, accepted: true)
        for key in ["name", "path", "provider", "bucket"] {
            let lines = Fixtures.good.split(separator: "\n")
            var kept = lines.filter { !$0.contains("\(key): ") }.map(String.init)
            if key == "name" { kept[2] = kept[2].replacing("    path", with: "  - path") }
            try expectAgreement(kept.joined(separator: "\n"), accepted: false)
        }
        try expectAgreement(Fixtures.good.replacing("version: 1\n", with: ""), accepted: false)
        try expectAgreement("version: 1\n", accepted: false)
        let store = "version: 1\nmounts:\n  - {name: a, path: /mnt/a, provider: s3, bucket: b}\n"
        try expectAgreement(store, accepted: false)
        try expectAgreement(Fixtures.withMount("credentials: {c: {provider: s3, access_key_id: k}}\n"), accepted: false)
        try expectAgreement(Fixtures.withMount("policies:\ncache:\n"), accepted: true)
    }

    @Test("every key has a summary, and what is not supported yet is in no schema")
    func summaries() {
        for (setting, _) in Self.places {
            #expect(!setting.summary.isEmpty)
            #expect(setting.since == 1)
        }
        let text = JSONSchema.text(providers: Fixtures.providers)
        #expect(!text.contains("\"http\""))
        for setting in Self.places.map(\.setting) where !setting.isLater {
            #expect(text.contains("\"\(setting.name)\""))
        }
    }
}

import CloudMountVFS
import Testing

@testable import CloudMountConfig

@Suite("The table of a mount's keys")
struct MountKeyTests {
    /// A value of the key that is not its default's.
    private func other(_ key: MountKey) -> String? {
        let all: [String] =
            switch key.setting.kind {
            case .value(.choice(let choices)): choices
            case .value(.boolean): ["true", "false"]
            case .id: ["4294967294"]
            case .octal: ["\"007\""]
            default: []
            }
        return all.first { $0 != key.setting.defaultText }
    }

    private func mount(_ lines: String) throws -> Configuration.Mount {
        try Fixtures.load(Fixtures.withMount(lines)).mounts[0]
    }

    @Test("what is written for a key is read, differs from the default, is written again, and `defaults` gives it too")
    func roundTrip() throws {
        let plain = try mount("")
        for key in MountKey.all {
            let value = try #require(other(key), "\(key.name)")
            let changed = try mount("    \(key.name): \(value)\n")
            #expect(key.text(changed) == value)
            for isLive in [true, false] {
                #expect(
                    MountKey.differing(plain, changed, live: isLive) == (key.isLive == isLive ? [key.name] : []))
            }
            for another in MountKey.all where another.name != key.name {
                #expect(another.text(changed) == another.text(plain), "\(key.name) changes \(another.name)")
            }
            let whole = try Fixtures.load(Fixtures.withMount("defaults: {\(key.name): \(value)}\n"))
            #expect(key.text(whole.mounts[0]) == value)
            #expect(whole.effectiveText.contains("    \(key.name): \(value)\n"))
            var live = plain
            MountKey.copyLive(from: changed, to: &live)
            #expect((key.text(live) == value) == key.isLive, "\(key.name)")
        }
        // What a mount says itself goes before.
        let own = try Fixtures.load(Fixtures.withMount("    exec: true\ndefaults: {exec: false}\n"))
        #expect(own.mounts[0].exec)
    }

    @Test("every key has its place in the schema, and the default that is shown holds")
    func complete() throws {
        let mounts = SchemaTests.schema["properties"]?["mounts"]?["items"]?["properties"]
        let defaults = SchemaTests.schema["properties"]?["defaults"]?["properties"]
        let plain = try mount("")
        for key in MountKey.all {
            #expect(mounts?[key.name] != nil && defaults?[key.name] != nil, "\(key.name)")
            guard let value = key.setting.defaultText else { continue }
            let text = value.first == "0" ? "\"\(value)\"" : value
            #expect(key.text(plain) == text, "\(key.name)")
        }
    }

    @Test(
        "a user or group that is none is an error wherever it stands, not another user",
        arguments: ["uid", "gid", "force_uid", "force_gid"])
    func ids(key: String) throws {
        for number in ["4294967296", "4294967295", "18446744073709551616", "-1", "9223372036854775807", "4294968296"] {
            let here = Fixtures.errors(Fixtures.withMount("    \(key): \(number)\n"))
            #expect(here.count == 1 && here[0].hasPrefix("m.yaml:7:"), "\(here)")
            let above = Fixtures.errors(Fixtures.withMount("defaults: {\(key): \(number)}\n"))
            #expect(above.count == 1 && above[0].hasPrefix("m.yaml:7:"), "\(above)")
        }
        #expect(
            Fixtures.errors(Fixtures.withMount("    \(key): 4294967295\n")) == [
                "m.yaml:7:\(key.utf8.count + 7): '\(key): 4294967295' is more than 4294967294"
            ])
    }

    @Test("access control lists do not go with forced modes")
    func lists() {
        for key in ["force_uid: 1", "force_gid: 1", "file_mode: \"600\"", "dir_mode: \"700\""] {
            let errors = Fixtures.errors(Fixtures.withMount("    acl: true\n    \(key)\n"))
            #expect(errors.count == 1 && errors[0].hasPrefix("m.yaml:7:10: 'acl' does not go with"), "\(errors)")
            #expect(Fixtures.errors(Fixtures.withMount("    \(key)\ndefaults: {acl: true}\n")).count == 1)
            #expect(Fixtures.errors(Fixtures.withMount("    \(key)\n    acl: false\ndefaults: {acl: true}\n")) == [])
        }
    }

    @Test("numbers at their ends are taken whole or refused")
    func extremes() throws {
        let sizes = ["memory", "cache.size", "cache.keep_free", "prefetch"]
        for (name, value, isTaken) in sizes.flatMap({ name in
            [
                ("4095PiB", false), ("4194303TiB", true), ("4194304TiB", false), ("18446744073709551616B", false),
                ("99999999999999999999999999999999TiB", false), ("0", name != "memory"),
            ].map { (name, $0.0, $0.1) }
        }) {
            let lines =
                switch name {
                case "memory": "memory: \(value)\n"
                case "prefetch": "    cache: {prefetch: \(value)}\n"
                default: "cache: {\(name.dropFirst(6)): \(value)}\n"
                }
            let errors = Fixtures.errors(Fixtures.withMount(lines))
            #expect(errors.isEmpty == isTaken, "\(name) \(value): \(errors)")
        }
        for key in ["metadata_ttl", "negative_ttl", "deadline"] {
            for (value, isTaken) in [("11574d", true), ("99999999999d", false), ("9223372036854775808ms", false)] {
                let errors = Fixtures.errors(Fixtures.withMount("    cache: {\(key): \(value)}\n"))
                #expect(errors.isEmpty == isTaken, "\(key) \(value): \(errors)")
            }
        }
    }
}

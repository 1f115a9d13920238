import CloudMountVFS
import Testing

@testable import CloudMountConfig

@Suite("The table of policy keys")
struct PolicyKeyTests {
    /// A value of the key that is not its default's; nil for a key that has one value.
    private func other(_ key: PolicyKey) -> String? {
        let all: [String] =
            switch key.setting.kind {
            case .value(.choice(let choices)): choices
            case .value(.boolean): ["true", "false"]
            case .value(.size): ["3MiB"]
            case .value(.duration): ["1234ms"]
            default: []
            }
        return all.first { $0 != key.text(CachePolicy()) }
    }

    private func policy(_ settings: String) throws -> CachePolicy {
        try Fixtures.load(Fixtures.withMount("    cache: {\(settings)}\n")).mounts[0].policy
    }

    @Test("what is written for a key is read, differs from the default, and is written again as it was")
    func roundTrip() throws {
        for key in PolicyKey.all {
            guard let value = other(key) else { continue }
            let changed = try policy("\(key.name): \(value)")
            #expect(changed != CachePolicy(), "\(key.name)")
            #expect(key.text(changed) == value)
            #expect(PolicyKey.differing(CachePolicy(), changed) == [key.name])
            // The others keep what they had.
            for another in PolicyKey.all where another.name != key.name {
                #expect(another.text(changed) == another.text(CachePolicy()), "\(key.name) changes \(another.name)")
            }
            let loaded = try Fixtures.load(Fixtures.withMount("    cache: {\(key.name): \(value)}\n"))
            #expect(loaded.effectiveText.contains("      \(key.name): \(value)\n"))
        }
    }

    @Test("every member of a policy has a key, and every key its place in the schema, with the default that holds")
    func complete() throws {
        let stored = PolicyKey.all.filter { other($0) != nil }
        #expect(stored.count == Mirror(reflecting: CachePolicy()).children.count)
        #expect(Set(PolicyKey.all.map(\.name)).count == PolicyKey.all.count)
        let sections: [JSONValue?] = [
            SchemaTests.schema["properties"]?["policies"]?["additionalProperties"]?["properties"]
        ]
        for key in PolicyKey.all {
            for section in sections {
                #expect(section?[key.name]?["default"] != nil, "\(key.name)")
            }
            #expect(try policy("\(key.name): \(key.text(CachePolicy()))") == CachePolicy(), "\(key.name)")
        }
    }
}

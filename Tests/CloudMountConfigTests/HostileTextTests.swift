import CloudMountVFS
import TestSeeds
import Testing

@testable import CloudMountConfig

@Suite("Hostile text")
struct HostileTextTests {
    private func errors(_ bytes: [UInt8]) -> [String] {
        do throws(ConfigurationError) {
            _ = try Configuration.parse(
                bytes, file: "m.yaml", providers: Fixtures.providers, places: Fixtures.places)
            return []
        } catch {
            return error.problems.map(\.description)
        }
    }

    @Test("bytes that are not UTF-8 are told by their place")
    func notUTF8() {
        #expect(errors(Array("version: 1\n# é".utf8) + [0xFF]) == ["m.yaml:2:4: not UTF-8: the byte 0xff"])
        #expect(errors([0xC3]) == ["m.yaml:1:1: not UTF-8: the byte 0xc3"])
        // UTF-16 with its mark.
        #expect(errors([0xFF, 0xFE, 0x61, 0]) == ["m.yaml:1:1: not UTF-8: the byte 0xff"])
    }

    @Test("a UTF-8 mark at the beginning does no harm")
    func byteOrderMark() { #expect(errors([0xEF, 0xBB, 0xBF] + Array(Fixtures.good.utf8)) == []) }

    @Test("deep nesting ends early")
    func deep() {
        #expect(errors(Array(String(repeating: "[", count: 100_000).utf8)) == ["m.yaml:1:33: nested more than 32 deep"])
        let mappings = (0..<100).map { String(repeating: " ", count: $0) + "a:" }.joined(separator: "\n")
        #expect(errors(Array(mappings.utf8)) == ["m.yaml:32:32: nested more than 32 deep"])
    }

    @Test("references within references end early")
    func deepReferences() {
        let text = Fixtures.good + "\nx-a: \"" + String(repeating: "${", count: 200_000) + "\"\n"
        _ = errors(Array(text.utf8))
        let value = String(repeating: "${env:A:-", count: 200_000)
        #expect(throws: Interpolation.Fault(message: "'${…}' is nested too deeply")) {
            try Interpolation(environment: [:]).resolve(value, for: .plain)
        }
    }

    @Test("aliases that multiply are refused before anybody walks them")
    func aliasBomb() {
        var text = "version: 1\nx-a: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
        for level in 1...20 {
            let aliases = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
            text += "x-\(level): &a\(level) [\(aliases)]\n"
        }
        #expect(errors(Array(text.utf8)) == ["m.yaml:1:1: its aliases expand to more than 100000 nodes"])
    }

    @Test("an entry that is an alias of something above may follow one that is wrong")
    func aliasAsNext() {
        let mount = "{name: b, path: /mnt/b, provider: directory, bucket: /srv/b}"
        let text = """
            x-b: &b \(mount)
            version: 1
            mounts:
              - {name: a, path: /mnt/a, provider: directory, bucket: /srv/a, colour: red}
              - *b
            """
        #expect(errors(Array(text.utf8)).count == 1)
    }

    @Test("a chain of policies may be longer than any stack, from either end, and a circle in it is told")
    func longChain() throws {
        let count = 20_000
        func text(_ policies: [String]) -> String {
            Fixtures.withMount("    cache: p0\n") + "policies:\n" + policies.joined(separator: "\n") + "\n"
        }
        var chain = (0..<count).map { "  p\($0): {extends: p\($0 + 1)}" } + ["  p\(count): {metadata_ttl: 7s}"]
        for _ in 0..<2 {
            #expect(try Fixtures.load(text(chain)).mounts[0].policy.metadataTTL == .seconds(7))
            chain.reverse()
        }
        #expect(
            errors(Array(text(["  p0: {extends: p1}", "  p1: {extends: p2}", "  p2: {extends: p1}"]).utf8)) == [
                "m.yaml:10:17: the policy 'p1' extends itself: p1 → p2 → p1"
            ])
    }

    @Test("long words and many of them have no neighbours")
    func longWords() {
        let long = String(repeating: "a", count: 400_000)
        #expect(NearestWord.to(long, among: [long + "b"]) == nil)
        #expect(NearestWord.to("abc", among: [long, "abd"]) == "abd")
        #expect(NearestWord.to("abc", among: (0..<100_000).map { "w\($0)" }) == nil)
    }

    @Test("every truncation and damage of a good file is told or accepted, never fatal")
    func damage() {
        let good = EffectiveConfigurationTests.text
        let bytes = Array(good.utf8)
        for end in stride(from: 0, to: bytes.count, by: 3) { _ = errors(Array(bytes[..<end])) }
        let aliases = """
            x-a: &a {name: b, path: /mnt/b, provider: directory, bucket: /srv/b, cache: {extends: p, metadata_ttl: 1h30m}}
            version: 1
            policies: {p: {extends: default}, q: {<<: *a, extends: p}}
            mounts: [*a, {<<: *a, name: c, path: "${env:BUCKET:-/mnt/c}", umask: 0o022, uid: 4294967295}]
            """
        for bytes in Damage([good, aliases], marks: "{}[]:-&*!|>'\"%@`#,? \n\t\r~<$0x", count: 3000) {
            _ = errors(bytes)
        }
    }
}

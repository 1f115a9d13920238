import TestSeeds
import Testing

@testable import CloudMountConfig

@Suite("Units")
struct UnitsTests {
    @Test(
        "sizes are read in bytes",
        arguments: [
            ("0", 0), ("1B", 1), ("1KiB", 1024), ("64MiB", 64 << 20), ("1.5GiB", 3 << 29), ("2TiB", 2 << 40),
            ("1KB", 1000), ("3MB", 3_000_000), ("5GB", 5_000_000_000), ("1TB", 1_000_000_000_000),
        ])
    func sizes(_ text: String, _ bytes: Int) throws { #expect(try Units.size(text) == bytes) }

    @Test(
        "what is no size is refused",
        arguments: ["", "MiB", "-1MiB", "1 MiB", "1e3B", "1.MiB", "99999999TiB", "１MiB", "5mib"])
    func noSizes(_ text: String) { #expect(throws: Units.Fault.self) { try Units.size(text) } }

    @Test(
        "durations are read, also composed ones",
        arguments: [
            ("0", Duration.zero), ("500ms", .milliseconds(500)), ("30s", .seconds(30)), ("1m30s", .seconds(90)),
            ("1.5h", .seconds(5400)), ("2d", .seconds(172_800)),
        ])
    func durations(_ text: String, _ duration: Duration) throws { #expect(try Units.duration(text) == duration) }

    @Test(
        "what is no duration is refused", arguments: ["", "s", "10", "-1s", "1s2", "1 s", "1w", "99999999999d", "1S"])
    func noDurations(_ text: String) { #expect(throws: Units.Fault.self) { try Units.duration(text) } }

    @Test("what is written is read back as the same")
    func roundTrip() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var random = SeededGenerator(seed: seed)
        for _ in 0..<1000 {
            // Beyond 2^53 a Double would round.
            let bytes = Int.random(in: 1..<1 << 20, using: &random) << Int.random(in: 0..<30, using: &random)
            #expect(try Units.size(Units.text(bytes: bytes)) == bytes)
            let duration = Duration.milliseconds(Int.random(in: 0..<1 << 36, using: &random))
            #expect(try Units.duration(Units.text(duration)) == duration)
        }
    }

    @Test("the nearest word is found when it is near")
    func words() {
        let words = ["bucket", "prefix", "provider", "path"]
        #expect(NearestWord.to("bukcet", among: words) == "bucket")
        #expect(NearestWord.to("Path", among: words) == "path")
        #expect(NearestWord.to("pth", among: words) == "path")
        #expect(NearestWord.to("region", among: words) == nil)
        #expect(NearestWord.to("", among: []) == nil)
    }
}

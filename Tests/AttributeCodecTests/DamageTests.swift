import CloudMountCommit
import CloudMountVFS
import TestSeeds
import Testing

@Suite("Damaged metadata")
struct DamageTests {
    /// What any of the tools writes, one text for all its values so that they get into each other's places as well.
    @Test("Whatever a tool's metadata have become, they mean something, and that is written again")
    func decode() {
        let samples = Sample.all.flatMap(\.user.values)
        let names = Array(Set(Sample.all.flatMap(\.user.keys))).sorted()
        let marks = "0123456789.-+:TZ%{}[]\",=xo rw-\\u"
        let values = Array(Damage(samples, marks: marks, count: 6000)).map { String(decoding: $0, as: UTF8.self) }
        var random = SeededGenerator(seed: 1)
        for index in 0..<values.count - 6 {
            var user: [String: String] = [:]
            for offset in 0..<6 { user[names.randomElement(using: &random) ?? ""] = values[index + offset] }
            let metadata = ObjectMetadata(
                contentType: values[index], modified: Timestamp(decimalSeconds: values[index]), user: user)
            let stored = AttributeCodec.decode(metadata, key: index % 2 == 0 ? "f" : "d/")
            _ = try? AttributeCodec.encode(stored, limit: 2000)
        }
    }
}

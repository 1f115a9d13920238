import CloudMountVFS
import TestSeeds
import Testing

@testable import DirectoryProvider

@Suite("Damaged records")
struct DamageTests {
    @Test("Whatever stands in a file's attribute or in a record is metadata or nothing")
    func records() {
        var record = DirectoryRecord(
            nonce: "n1", metadata: ObjectMetadata(contentType: "t/x", user: ["mode": "0100644"]))
        record.metadata.modified = Timestamp(seconds: 1_795_426_200, nanoseconds: 5)
        record.fileModified = Timestamp(seconds: -5)
        let samples = [String(decoding: record.encoded, as: UTF8.self), "v n\ni\nh expires never\nu a%2Fb %C3%BC"]
        var whole = 0
        for bytes in Damage(samples, marks: "vitmnfuh \n%+-0", count: 6000) {
            if let read = DirectoryRecord(bytes) {
                whole += 1
                _ = read.encoded
            }
            _ = DirectoryPaths.unescape(bytes)
            _ = DirectoryPaths.plain(ObjectKey(String(decoding: bytes, as: UTF8.self)))
        }
        #expect(whole > 100)
    }
}

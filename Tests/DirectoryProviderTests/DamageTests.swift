import CloudMountVFS
import TestSeeds
import TestServers
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

    private static func metadata(_ names: Int, headers: Int = 0, value: Int = 1, type: Int? = nil) -> ObjectMetadata {
        var metadata = ObjectMetadata(contentType: type.map { String(repeating: "/", count: $0) })
        for number in 0..<names { metadata.user["\(1000 + number)"] = String(repeating: " ", count: value) }
        for number in 0..<headers { metadata.headers["\(number)"] = "" }
        return metadata
    }

    @Test("A record of more names or longer ones than are written is none, and is not written")
    func limits() async throws {
        let folder = try TemporaryFolder("limits")
        let provider = DirectoryProvider(path: folder.path, isDurable: false)
        try await provider.prepare(writable: true)
        let most = DirectoryRecord.mostBytes
        for whole in [
            Self.metadata(256), Self.metadata(200, headers: 56), Self.metadata(1, value: most - 4),
            Self.metadata(0, type: most),
        ] {
            let record = DirectoryRecord(metadata: whole)
            #expect(DirectoryRecord(record.encoded) == record)
            _ = try await provider.put(PutRequest(key: "k", metadata: whole), from: BytesSource(""))
            #expect(try await provider.head("k").metadata == whole)
        }
        for tooLarge in [
            Self.metadata(257), Self.metadata(0, headers: 257), Self.metadata(200, headers: 57),
            Self.metadata(1, value: most - 3), Self.metadata(0, type: most + 1), Self.metadata(11_000),
        ] {
            #expect(DirectoryRecord(DirectoryRecord(metadata: tooLarge).encoded) == nil)
            let error = await #expect(throws: VFSError.self) {
                try await provider.put(PutRequest(key: "k", metadata: tooLarge), from: BytesSource(""))
            }
            #expect(error?.code == .tooLarge)
        }
    }

    @Test(
        "A page ends before the metadata of its objects is more than memory is for, in the tree and in the hidden area")
    func heavyPages() async throws {
        let folder = try TemporaryFolder("heavy")
        let provider = DirectoryProvider(path: folder.path, isDurable: false)
        try await provider.prepare(writable: true)
        let metadata = Self.metadata(1, value: 900)
        var keys: [ObjectKey] = []
        for number in 0..<20 {
            for key in ["a/\(number)", "a//\(number)", "b\(number)"] {
                keys.append(ObjectKey(key))
                _ = try await provider.put(PutRequest(key: ObjectKey(key), metadata: metadata), from: BytesSource(""))
            }
        }
        keys.sort()
        for delimited in [false, true] {
            var request = ListRequest(prefix: delimited ? "a/" : "", delimited: delimited)
            var (found, prefixes) = ([ObjectKey](), [ObjectKey]())
            repeat {
                let asked = request
                let page = try await provider.blocking { rooms throws(VFSError) in
                    try DirectoryLister(objects: rooms.objects, mostMetadata: 10_000).list(asked, limit: 5000)
                }
                #expect(page.objects.count < 22 && page.objects.count + page.commonPrefixes.count > 0)
                found += page.objects.map(\.key)
                prefixes += page.commonPrefixes
                request.continuation = page.continuation
            } while request.continuation != nil
            #expect(found == keys.filter { !delimited || $0.hasPrefix("a/") && !$0.hasPrefix("a//") })
            #expect(prefixes == (delimited ? ["a//"] : []))
        }
    }
}

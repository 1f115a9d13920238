import CloudMountCommit
import CloudMountStaging
import CloudMountVFS
import Testing

@Suite("Uploads that begin while the file is written")
struct StreamedUploadTests {
    private func sent(_ count: Int, _ capabilities: Capabilities) throws -> [Extent] {
        var offset = 0
        return try (1...count).map { number in
            let size = try #require(UploadPlan.partSize(forPart: number, capabilities: capabilities))
            defer { offset += size }
            return Extent(offset: offset, count: size)
        }
    }

    @Test("Parts begin small, stay legal, and reach the largest object")
    func ladder() throws {
        let capabilities = s3Capabilities()
        let all = try sent(10_000, capabilities)
        #expect(all.first?.count == 8 * mebibyte)
        #expect(all.allSatisfy { $0.count >= 5 * mebibyte && $0.count <= 5 * gibibyte })
        #expect(try #require(all.last).upperBound >= capabilities.maxObjectSize)
        #expect(UploadPlan.partSize(forPart: 10_001, capabilities: capabilities) == nil)
        #expect(UploadPlan.partSize(forPart: 0, capabilities: capabilities) == nil)
    }

    @Test("A store of equal parts gets equal parts")
    func equalParts() throws {
        var capabilities = s3Capabilities()
        capabilities.equalParts = true
        #expect(Set(try sent(10_000, capabilities).map(\.count)).count == 1)
    }

    @Test("A store with few or narrow parts gets what it allows")
    func narrow() throws {
        var capabilities = s3Capabilities()
        capabilities.maxParts = 3
        capabilities.minPartSize = 100 * mebibyte
        capabilities.maxPartSize = 300 * mebibyte
        #expect(try sent(3, capabilities).allSatisfy { (100 * mebibyte...300 * mebibyte).contains($0.count) })
    }

    @Test("At the end only the tail goes up, and nothing when there is none")
    func tail() throws {
        let capabilities = s3Capabilities()
        let sent = try sent(4, capabilities)
        let none = UploadPlan.finishing(
            sent: sent, rewritten: ExtentMap(), size: 32 * mebibyte, capabilities: capabilities)
        #expect(none == [])
        let tail = UploadPlan.finishing(
            sent: sent, rewritten: ExtentMap(), size: 41 * mebibyte, capabilities: capabilities)
        #expect(
            tail == [
                UploadPlan.Part(number: 5, extent: Extent(32 * mebibyte, 40 * mebibyte), kind: .upload),
                UploadPlan.Part(number: 6, extent: Extent(40 * mebibyte, 41 * mebibyte), kind: .upload),
            ])
    }

    @Test("Parts that were written to again go up again")
    func rewritten() throws {
        let capabilities = s3Capabilities()
        let rewritten = ExtentMap([
            Extent(8 * mebibyte - 1, 8 * mebibyte + 1), Extent(31 * mebibyte, 31 * mebibyte + 1),
        ])
        let parts = UploadPlan.finishing(
            sent: try sent(4, capabilities), rewritten: rewritten, size: 32 * mebibyte, capabilities: capabilities)
        #expect(parts?.map(\.number) == [1, 2, 4])
    }

    @Test("A file that was cut below what has gone up needs another upload")
    func cut() throws {
        let capabilities = s3Capabilities()
        let parts = UploadPlan.finishing(
            sent: try sent(4, capabilities), rewritten: ExtentMap(), size: 32 * mebibyte - 1, capabilities: capabilities
        )
        #expect(parts == nil)
    }
}

import CloudMountVFS
import MemoryProvider
import Testing

@testable import CloudMountCommit

@Suite("Listings that go round")
struct PageOrderTests {
    private func pages(_ isSorted: Bool, _ page: (Int) -> ListPage) -> Int? {
        var capabilities = Capabilities()
        capabilities.sortedListing = isSorted
        var order = PageOrder(capabilities)
        for number in 0..<5000 {
            do throws(VFSError) { try order.check(page(number)) } catch { return number }
        }
        return nil
    }

    private func page(_ key: String, _ continuation: String) -> ListPage {
        var page = ListPage()
        page.objects = [ObjectInfo(key: ObjectKey(key), size: 0, etag: ETag("e"), stored: Timestamp(seconds: 0))]
        page.continuation = continuation
        return page
    }

    @Test("A continuation that comes again ends them; one that only is long does not")
    func again() {
        #expect(pages(false) { page("k\($0)", "\($0 % 3)") } == 3)
        #expect(pages(false) { page("k\($0)", "\($0)") } == nil)
        #expect(pages(true) { page("k\(10_000 + $0)", "\($0)") } == nil)
    }

    @Test("Pages that bring nothing new, or the same again, end after a while")
    func idle() {
        #expect(pages(true) { page("same", "\($0)") } == 1001)
        #expect(pages(false) { ListPage(continuation: "\($0)") } == 1000)
    }

    @Test("Pages that come again under ever new continuations are nothing new, sorted or not")
    func rotation() {
        #expect(pages(false) { page("same", "\($0)") } == 1001)
        #expect(pages(false) { page("k\($0 % 3)", "\($0)") } == 1003)
        #expect(pages(true) { page("k\($0 % 3)", "\($0)") } == 1003)
    }

    @Test("Folders that come with every page of what is not sorted do not end it, while it brings new objects")
    func foldersAgain() {
        let last = pages(false) { number in
            var page = page("k\(number)", "\(number)")
            page.commonPrefixes = ["z/"]
            return page
        }
        #expect(last == nil)
    }

    @Test("What is gathered in memory has a limit, by its keys' bytes as well")
    func limit() async throws {
        let store = MemoryProvider()
        for number in 0..<20 {
            let key = ObjectKey("d/\(number)" + String(repeating: "x", count: 500))
            _ = try await store.put(PutRequest(key: key), from: BytesSource([]))
        }
        #expect(try await store.all(below: "d/", in: NameBudget(limit: 1 << 20).room()).count == 20)
        let room = NameBudget(limit: 1 << 20).room()
        let error = await #expect(throws: VFSError.self) { try await store.all(below: "d/", in: room, most: 20 * 500) }
        #expect(error?.code == .tooLarge)
        #expect(error?.retry == .never)
    }
}

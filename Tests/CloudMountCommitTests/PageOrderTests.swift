import CloudMountVFS
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
}

import CloudMountVFS
import TestSeeds
import Testing

@testable import WebDAVProvider

@Suite("WebDAV: long folders") struct LongFolderTests {
    /// Steps that a listing of so many files takes on the thread that it runs on.
    private func steps(files: Int, delimited: Bool) async throws -> Int {
        let fake = FakeDAV()
        for number in 0..<files { fake.put("/dav/f\(number)", "x") }
        let (provider, _) = try await prepared(fake)
        let steps = StepExecutor()
        let page = try await Task(executorPreference: steps) {
            var request = ListRequest(prefix: "", delimited: delimited)
            request.limit = files
            return try await provider.list(request)
        }.value
        #expect(page.objects.count == files)
        return steps.steps
    }

    @Test("Others of the same thread have their turn while a long folder is listed", arguments: [true, false])
    func turns(delimited: Bool) async throws {
        let few = try await steps(files: 5, delimited: delimited)
        #expect(try await steps(files: 6000, delimited: delimited) >= few + 5)
    }
}

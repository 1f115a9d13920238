import CloudMountPlatform
import Glibc
import Testing

@testable import CloudMountDaemon

@Suite("What providers keep")
struct FindingsFolderTests {
    private func folder() throws -> String {
        var template = Array("/tmp/cloudmount-findings-XXXXXX".utf8CString)
        return try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    @Test("What is kept is there for the next start; what is no plain file of this user is nothing")
    func kept() async throws {
        let path = try folder()
        let memory = FindingsFolder(in: path)
        #expect(await memory.recall("a1") == nil)
        await memory.keep([1, 2, 3], as: "a1")
        await memory.keep([4], as: "a1")
        #expect(await FindingsFolder(in: path).recall("a1") == [4])
        await memory.keep(Array(repeating: 0, count: 4097), as: "a1")
        #expect(await memory.recall("a1") == [4])
        for name in ["../a1", "", "a/b", "A"] {
            await memory.keep([5], as: name)
            #expect(await memory.recall(name) == nil)
        }
        try #require(symlink(path + "/findings/a1", path + "/findings/b2") == 0)
        try #require(mkfifo(path + "/findings/c3", 0o600) == 0)
        #expect(await memory.recall("b2") == nil)
        #expect(await memory.recall("c3") == nil)
        for name in ["a1", "b2", "c3"] { #expect(unlink("\(path)/findings/\(name)") == 0) }
        #expect(rmdir(path + "/findings") == 0)
        #expect(rmdir(path) == 0)
    }
}

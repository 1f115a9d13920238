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

    @Test("What lies in the way of a new one is put aside, not written into and not waited for")
    func inTheWay() async throws {
        let path = try folder()
        try #require(mkdir(path + "/findings", 0o777) == 0 && chmod(path + "/findings", 0o777) == 0)
        try #require(mkfifo(path + "/findings/a1.new", 0o600) == 0)
        // Somebody reads: who opens it for writing is not held, and writes into it.
        let reader = open(path + "/findings/a1.new", O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        let memory = FindingsFolder(in: path)
        await memory.keep([1], as: "a1")
        close(reader)
        #expect(await memory.recall("a1") == [1])
        var status = stat()
        #expect(stat(path + "/findings", &status) == 0 && status.st_mode & 0o777 == 0o700)
        for name in ["a1", "a1.new"] { unlink("\(path)/findings/\(name)") }
        #expect(rmdir(path + "/findings") == 0 && rmdir(path) == 0)
    }

    @Test("Nothing is kept in a folder of somebody else, or where a link leads, nor believed from there")
    func notOurs() async throws {
        let (path, elsewhere) = (try folder(), try folder())
        let plain = FindingsFolder(in: elsewhere)
        await plain.keep([9], as: "a1")
        let there = elsewhere + "/findings"
        try #require(symlink(there, path + "/findings") == 0)
        let memory = FindingsFolder(in: path)
        #expect(await memory.recall("a1") == nil)
        await memory.keep([1], as: "b2")
        #expect(access(there + "/b2", F_OK) != 0)
        if geteuid() == 0 {
            try #require(chown(there, 1234, 1234) == 0)
            #expect(await plain.recall("a1") == nil)
            await plain.keep([1], as: "b2")
            #expect(access(there + "/b2", F_OK) != 0)
        }
        for file in ["a1", "b2", "b2.new"] { unlink("\(there)/\(file)") }
        unlink(path + "/findings")
        #expect(rmdir(there) == 0 && rmdir(elsewhere) == 0 && rmdir(path) == 0)
    }
}

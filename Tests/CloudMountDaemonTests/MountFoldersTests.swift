import CloudMountVFS
import Glibc
import Testing

@testable import CloudMountDaemon

@Suite("Folders of mounts")
struct MountFoldersTests {
    private func folder() throws -> String {
        var template = Array("/tmp/cloudmount-folders-XXXXXX".utf8CString)
        return try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    private func isThere(_ path: String) -> Bool { access(path, F_OK) == 0 }

    @Test("What is missing is made, and goes again, but not what others have put there")
    func made() throws {
        let top = try folder()
        let folders = MountFolders()
        try folders.prepare(top + "/a/b/\u{301}c")
        try folders.prepare(top + "/a/d")
        folders.remove(top + "/a/d")
        #expect(isThere(top + "/a/b/\u{301}c") && !isThere(top + "/a/d"))
        folders.remove(top + "/a/b/\u{301}c")
        #expect(!isThere(top + "/a") && isThere(top))
        try folders.prepare(top + "/a/b")
        mkdir(top + "/a/theirs", 0o755)
        folders.remove(top + "/a/b")
        #expect(isThere(top + "/a/theirs") && !isThere(top + "/a/b"))
        for name in ["/a/theirs", "/a", ""] { #expect(rmdir(top + name) == 0) }
    }

    @Test("A folder is removed where it was made, wherever its path leads by then")
    func turned() throws {
        let top = try folder()
        for name in ["/m", "/other", "/other/photos"] { mkdir(top + name, 0o755) }
        let folders = MountFolders()
        try folders.prepare(top + "/m/photos")
        try #require(rename(top + "/m", top + "/was") == 0 && symlink("other", top + "/m") == 0)
        folders.remove(top + "/m/photos")
        #expect(isThere(top + "/other/photos") && isThere(top + "/was/photos"))
        // Nor one that has been put in its place.
        unlink(top + "/m")
        try #require(rename(top + "/was", top + "/m") == 0 && rename(top + "/m/photos", top + "/first") == 0)
        mkdir(top + "/m/photos", 0o755)
        folders.remove(top + "/m/photos")
        #expect(isThere(top + "/m/photos"))
        for name in ["/m/photos", "/m", "/first", "/other/photos", "/other", ""] { #expect(rmdir(top + name) == 0) }
    }

    @Test("Nothing is made where a link leads nowhere, and no file is a folder")
    func refused() throws {
        let top = try folder()
        try #require(symlink(top + "/absent", top + "/link") == 0)
        close(open(top + "/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        let folders = MountFolders()
        for (name, code) in [("/link/x", VFSError.Code.notFound), ("/link", .notFound), ("/file", .notDirectory)] {
            let error = #expect(throws: VFSError.self) { try folders.prepare(top + name) }
            #expect(error?.code == code, "\(name)")
        }
        #expect(!isThere(top + "/absent"))
        unlink(top + "/link")
        unlink(top + "/file")
        #expect(rmdir(top) == 0)
    }
}

import CloudMountVFS
import DirectoryProvider
import Glibc
import TestServers
import Testing

/// What others may have put into a folder before it is mounted, or while it is.
@Suite("The directory provider in a folder that others have prepared") struct HostileFolderTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder("hostile") }

    private func prepare(writable: Bool = true) async -> VFSError.Code? {
        let provider = DirectoryProvider(path: folder.path, isDurable: false)
        do throws(VFSError) {
            try await provider.prepare(writable: writable)
            return nil
        } catch {
            return error.code
        }
    }

    private func path(_ name: String) -> String { folder.path + "/" + name }

    @Test("a staged file of any time is looked at without an end of the process", arguments: [Int.min, -1 << 55, .max])
    func timeOfStagedFile(seconds: Int) async {
        #expect(await prepare() == nil)
        close(open(path(".cloudmount/staging/x"), O_WRONLY | O_CREAT, 0o600))
        let times = [timespec](repeating: timespec(tv_sec: seconds, tv_nsec: 0), count: 2)
        #expect(utimensat(AT_FDCWD, path(".cloudmount/staging/x"), times, 0) == 0)
        #expect(await prepare() == nil)
    }

    @Test("directories that lie deeper in each other than keys are long are not walked")
    func deepFolders() async throws {
        #expect(await prepare() == nil)
        mkdir(path("top"), 0o700)
        var directory = open(path("top"), O_RDONLY | O_DIRECTORY)
        for _ in 0..<20_000 {
            mkdirat(directory, "d", 0o700)
            let below = openat(directory, "d", O_RDONLY | O_DIRECTORY)
            close(directory)
            directory = below
        }
        close(directory)
        let provider = DirectoryProvider(path: folder.path, isDurable: false)
        try await provider.prepare(writable: false)
        let page = try await provider.list(ListRequest(prefix: "", delimited: false))
        #expect(page.objects.allSatisfy { $0.key.byteCount <= 1024 })
        // One by one: what removes trees would have to reach as deep.
        let top = open(path("top"), O_RDONLY | O_DIRECTORY)
        while renameat(top, "d/d", top, "e") == 0 {
            unlinkat(top, "d", AT_REMOVEDIR)
            renameat(top, "e", top, "d")
        }
        unlinkat(top, "d", AT_REMOVEDIR)
        close(top)
    }

    @Test("a hidden folder that everybody may write to is refused, unless the whole folder is everybody's")
    func openToAll() async {
        for name in [".cloudmount", ".cloudmount/staging", ".cloudmount/records", ".cloudmount/keys"] {
            #expect(await prepare() == nil)
            chmod(path(name), 0o777)
            #expect(await prepare() == .permissionDenied, "\(name)")
            #expect(await prepare(writable: false) == nil)
            chmod(folder.path, 0o1777)
            #expect(await prepare() == .permissionDenied, "\(name)")
            chmod(folder.path, 0o777)
            #expect(await prepare() == nil)
            chmod(folder.path, 0o700)
            chmod(path(name), 0o755)
        }
    }

    @Test("what is made is no more open than the folder, whatever the umask lets through")
    func made() async {
        let before = umask(0)
        defer { umask(before) }
        for mode: mode_t in [0o700, 0o775, 0o777, 0o1777] {
            chmod(folder.path, mode)
            #expect(await prepare() == nil)
            func made(_ name: String) -> mode_t {
                var status = stat()
                return stat(path(".cloudmount/" + name), &status) == 0 ? status.st_mode & 0o777 : 0
            }
            let shared = mode == 0o1777 ? 0 : mode & 0o022
            #expect(made("records") == 0o755 | shared, "\(mode)")
            // What is being written is nobody else's yet.
            #expect(made("staging") == (shared == 0 ? 0o700 : 0o755 | shared), "\(mode)")
            for name in ["staging", "records", "keys", "lock", ""] { remove(path(".cloudmount/" + name)) }
        }
    }

    @Test("a hidden folder of a stranger is refused, unless a group or everybody shares the folder")
    func stranger() async {
        // Only root can make one: without it nobody could have.
        guard geteuid() == 0 else { return }
        #expect(await prepare() == nil)
        for name in ["", "/staging", "/records", "/keys"] { chown(path(".cloudmount" + name), 4321, 4321) }
        chmod(folder.path, 0o755)
        #expect(await prepare() == .permissionDenied)
        chmod(folder.path, 0o1777)
        #expect(await prepare() == .permissionDenied)
        for mode: mode_t in [0o2775, 0o777] {
            chmod(folder.path, mode)
            #expect(await prepare() == nil)
        }
        // The folder's owner may do what he likes in it.
        chmod(folder.path, 0o755)
        chown(folder.path, 4321, 4321)
        #expect(await prepare() == nil)
    }
}

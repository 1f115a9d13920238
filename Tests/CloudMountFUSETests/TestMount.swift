import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization
import Testing

@testable import CloudMountFUSE

/// A mount of `FakeFileSystem` in a fresh directory, torn down whatever happens.
struct TestMount {
    let path: String
    let files: FakeFileSystem
    let mount: FUSEMount

    static func use<Result: Sendable>(
        _ files: FakeFileSystem = FakeFileSystem(),
        options change: @Sendable (inout FUSEMountOptions) -> Void = { _ in },
        _ body: (TestMount) async throws -> Result
    ) async throws -> Result {
        let path = try directory()
        var options = FUSEMountOptions(source: "cloudmount:test")
        change(&options)
        let mount: FUSEMount
        do {
            mount = try await Child.pool.run { [options] () throws(VFSError) in
                try FUSEMount(path: path, options: options, operations: files)
            }
        } catch {
            rmdir(path)
            throw error
        }
        let result: Swift.Result<Result, any Error>
        do { result = .success(try await body(TestMount(path: path, files: files, mount: mount))) } catch {
            result = .failure(error)
        }
        await Child.pool.run { try? mount.unmount(lazy: true) }
        await mount.waitUntilClosed()
        rmdir(path)
        return try result.get()
    }

    /// A new directory, unmounted and removed when this process has ended, however that comes about.
    static func directory() throws -> String {
        _ = undertaker
        var template = Array("\(prefix)XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Child.Failure(what: "mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        chmod(path, 0o755)
        return path
    }

    private static let prefix = "/tmp/cm-fuse-\(getpid())-"

    /// A child that outlives us, whose input ends when we do.
    private static let undertaker: Int32 = {
        var pair: [Int32] = [-1, -1]
        _ = socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, pair[1], 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        let script =
            "trap '' INT TERM HUP; cat; for d in \(prefix)*; do umount -l $d || fusermount3 -uz $d; rmdir $d; done"
        var words: [UnsafeMutablePointer<CChar>?] = [
            strdup("setsid"), strdup("sh"), strdup("-c"), strdup(script), nil,
        ]
        var environment: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
        var process = pid_t()
        posix_spawnp(&process, "setsid", &actions, nil, &words, &environment)
        posix_spawn_file_actions_destroy(&actions)
        for word in words + environment { free(word) }
        close(pair[1])
        return pair[0]
    }()
}

/// Fails the test, with the reason, for users who may not mount, change owners or become someone else.
func requireRoot(location: SourceLocation = #_sourceLocation) throws {
    try #require(geteuid() == 0, "this test needs root", sourceLocation: location)
}

/// Waits, for some seconds at most, for what other processes or threads bring about.
func eventually(
    _ condition: () async throws -> Bool, location: SourceLocation = #_sourceLocation
) async throws {
    for _ in 0..<500 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(20))
    }
    Issue.record("it did not come about", sourceLocation: location)
}

/// What `command` printed, without the last newline, when it succeeded.
func output(
    of command: String, in mount: TestMount, location: SourceLocation = #_sourceLocation
) async throws -> String {
    let outcome = try await Child.shell("cd \(mount.path) && { \(command)\n}")
    #expect(outcome.status == 0, "\(command): \(outcome.output)", sourceLocation: location)
    return outcome.output.hasSuffix("\n") ? String(outcome.output.dropLast()) : outcome.output
}

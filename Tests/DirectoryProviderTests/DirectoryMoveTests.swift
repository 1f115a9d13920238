import CloudMountPlatform
import CloudMountVFS
import Glibc
import TestServers
import Testing

@testable import DirectoryProvider

@Suite("What the directory provider moves") struct DirectoryMoveTests {
    private let folder: TemporaryFolder
    private let provider: DirectoryProvider
    private let source = ObjectInfo(key: "d/", size: 0, etag: ETag(""), stored: Timestamp(seconds: 0))

    init() async throws {
        folder = try TemporaryFolder("directory")
        provider = DirectoryProvider(path: folder.path, isDurable: false)
        try await provider.prepare(writable: true)
    }

    private func put(_ key: ObjectKey) async throws {
        _ = try await provider.put(PutRequest(key: key), from: BytesSource("x"))
    }

    private func move(to key: ObjectKey) async -> VFSError.Code? {
        do throws(VFSError) {
            _ = try await provider.move(MoveRequest(source: source, destination: key))
            return nil
        } catch { return error.code }
    }

    private func isThere(_ path: String) -> Bool { access("\(folder.path)/\(path)", F_OK) == 0 }

    @Test("What is no object goes along with its directory, and directories made for its keys go with the last of them")
    func along() async throws {
        try await put("d/sub/x")
        #expect(mkfifo("\(folder.path)/d/pipe", 0o600) == 0 && mkdir("\(folder.path)/d/empty", 0o700) == 0)
        #expect(await move(to: "new/deep/e/") == nil)
        #expect(isThere("new/deep/e/sub/x") && isThere("new/deep/e/pipe") && isThere("new/deep/e/empty"))
        #expect(!isThere("d"))
        #expect(await move(to: "f/") == .notFound)
        #expect(!isThere("f"))
    }

    @Test("A directory of which a key cannot have its path is left to copies, and nothing has changed")
    func hidden() async throws {
        try await put("d/x/y")
        // Beside the directory of that name it is in the hidden area.
        try await put("d/x")
        #expect(await move(to: "e/") == .notSupported)
        #expect(!isThere("e"))
        #expect(try await provider.head("d/x").size == 1)
        #expect(try await provider.head("d/x/y").size == 1)
    }

    @Test("Whatever has the new name stays: a file, a directory that nobody has told of, a fifo")
    func taken() async throws {
        try await put("d/x")
        for (index, make) in [
            { mkdir($0, 0o700) }, { mkfifo($0, 0o600) }, { mknod($0, S_IFREG | 0o600, 0) },
        ].enumerated() as EnumeratedSequence<[(String) -> Int32]> {
            #expect(make("\(folder.path)/e") == 0)
            let code = await move(to: "e/")
            // A fifo is no object: that is for the copies to find.
            #expect(code == (index == 1 ? .notSupported : .preconditionFailed))
            #expect(isThere("d/x") && isThere("e") && !isThere("e/x"))
            #expect(remove("\(folder.path)/e") == 0)
        }
    }

    @Test("A directory does not move where a key below it would be longer than keys are")
    func tooLong() async throws {
        let name = String(repeating: "x", count: 250)
        try await put(ObjectKey("d/\(name)/\(name)/\(name)"))
        #expect(await move(to: ObjectKey(name + "/\(name)/")) == .nameTooLong)
        #expect(!isThere(name))
        #expect(await move(to: ObjectKey(name + "/")) == nil)
        #expect(isThere("\(name)/\(name)/\(name)/\(name)"))
    }

    // MARK: What takes long

    @Test("What is below a directory is looked at while others may commit")
    func beforeTheLock() async throws {
        let name = String(repeating: "x", count: 250)
        try await put(ObjectKey("d/\(name)/\(name)/\(name)"))
        let lock = open("\(folder.path)/.cloudmount/lock", O_RDONLY | O_CLOEXEC)
        defer { close(lock) }
        #expect(flock(lock, LOCK_EX) == 0)
        // Else it would be told that somebody holds the lock.
        #expect(await move(to: ObjectKey(name + "/\(name)/")) == .nameTooLong)
        try await put("e/x", holding: lock)
        #expect(flock(lock, LOCK_EX) == 0)
        #expect(await move(to: "e/") == .preconditionFailed)
    }

    private func put(_ key: ObjectKey, holding lock: Int32) async throws {
        #expect(flock(lock, LOCK_UN) == 0)
        try await put(key)
    }

    private func rooms(_ change: (inout DirectoryMover) -> Void = { _ in }) throws -> DirectoryMover {
        var mover = DirectoryRooms(try Folder(path: folder.path, writable: true, isDurable: false)).mover
        change(&mover)
        return mover
    }

    @Test("A directory with more names than are looked at is left to copies, unless its name gets no longer")
    func tooMany() async throws {
        for number in 0..<4 { try await put(ObjectKey("d/\(number % 2)/\(number)")) }
        // Six names.
        let few = try rooms { $0.mostWalked = 5 }
        let error = #expect(throws: VFSError.self) { try few.move(MoveRequest(source: source, destination: "longer/")) }
        #expect(error?.code == .notSupported && isThere("d/1/3") && !isThere("longer"))
        // Two directories are held at once.
        let narrow = try rooms { $0.mostHeld = 97 }
        #expect(throws: VFSError.self) { try narrow.move(MoveRequest(source: source, destination: "longer/")) }
        #expect(throws: Never.self) { try few.move(MoveRequest(source: source, destination: "e/")) }
        #expect(isThere("e/1/3"))
        let (enough, moved) = (
            try rooms { ($0.mostWalked, $0.mostHeld) = (6, 98) },
            ObjectInfo(key: "e/", size: 0, etag: ETag(""), stored: Timestamp(seconds: 0))
        )
        #expect(throws: Never.self) { try enough.move(MoveRequest(source: moved, destination: "longer/")) }
        #expect(isThere("longer/1/3"))
    }

    @Test("A turn that does not come is waited for within a limit")
    func turn() async throws {
        let place = try Folder(path: folder.path, writable: true, isDurable: false, patience: 20)
        let (isHeld, mayEnd) = (Semaphore(), Semaphore())
        let pool = BlockingPool(name: "turn", width: 2)
        async let first: Void = pool.run { () throws(VFSError) in
            try place.exclusively { () throws(VFSError) in
                isHeld.signal()
                mayEnd.wait()
            }
        }
        let code = await pool.run { () -> VFSError.Code? in
            isHeld.wait()
            defer { mayEnd.signal() }
            do throws(VFSError) {
                try place.exclusively { () throws(VFSError) in }
                return nil
            } catch { return error.code }
        }
        #expect(code == .unavailable)
        try await first
    }
}

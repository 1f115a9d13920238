import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MemoryProvider
import MountHarness
import Synchronization
import Testing

/// A store with something missing, or with something more.
struct StoreKind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let capabilities: Capabilities

    init(_ name: String, _ adjust: (inout Capabilities) -> Void = { _ in }) {
        testDescription = name
        var capabilities = MemoryProvider.fullCapabilities
        adjust(&capabilities)
        self.capabilities = capabilities
    }

    static let conditional = StoreKind("everything conditional")
    static let unconditional = StoreKind("nothing conditional") { $0.dropConditions() }
    static let listed = StoreKind("metadata in listings") { $0.listingCarriesMetadata = true }
    /// As B2: what is overwritten or deleted stays as an old version.
    static let versioned = StoreKind("old versions stay, nothing conditional") {
        $0.dropConditions()
        $0.listingCarriesMetadata = true
        $0.versions = true
        $0.readsOldVersions = true
        $0.deleteKeepsVersion = true
    }
    /// As a server of folders: what gets another name is moved.
    static let moving = StoreKind("objects and folders are moved") {
        $0.listingCarriesMetadata = true
        $0.moves = true
        $0.movesFolders = true
    }
    static let all = [conditional, unconditional, listed, versioned, moving]
}

extension Capabilities {
    /// No write, copy or delete of this store can be made to depend on what is there.
    mutating func dropConditions() {
        conditionalCreate = false
        conditionalReplace = false
    }

    /// Files of a few kilobytes go up in parts.
    mutating func useTinyParts() {
        minPartSize = 1024
        maxPartSize = 64 << 10
        maxPutSize = 4096
    }
}

extension VFSError {
    static let gone = VFSError(.connectionFailed, "the line is dead", retry: .backoff)
    static let forbidden = VFSError(.permissionDenied, "not this one")
}

/// O_WRONLY and its like, as open(2) has them.
enum Flags {
    static let write: Int32 = 1
    static let readWrite: Int32 = 2
    static let truncate: Int32 = 0o1000
    static let exclusive: Int32 = 0o200
}

extension Mount {
    /// Lists the top directory whole, so that what it lacks is known to be absent.
    func listTop() async throws { _ = try await fs.list(Mount.root) }

    /// Whether `bytes` are the content of a current object, or part of a file in the staging area.
    func keeps(_ bytes: [UInt8]) async throws -> Bool {
        if try await contents().values.contains(where: { $0.contains(bytes) }) { return true }
        return stagedFiles().contains { $0.bytes.contains(bytes) }
    }

    /// Writes `bytes` into the file `name` and closes it.
    /// - Returns: when the upload has begun, which then waits for the gate; and the close, which waits for it.
    func uploadThatWaits(
        _ name: String, _ bytes: [UInt8]
    ) async throws -> (goOn: Gate, closing: Task<Result<Void, VFSError>, Never>) {
        let (goOn, isThere) = (Gate(), Gate())
        let (inode, handle) = try await fs.create(Mount.root, name, flags: Flags.write)
        try await fs.write(inode, handle, 0, bytes)
        hooks.at(.before, .put, ObjectKey(name)) {
            isThere.open()
            await goOn.wait()
        }
        let closing = Task { await outcome { () async throws(VFSError) in try await self.fs.close(inode, handle) } }
        await isThere.wait()
        return (goOn, closing)
    }

    /// The current objects that hold exactly `bytes`.
    func holders(_ bytes: [UInt8]) async throws -> [String] {
        try await contents().filter { $0.value == bytes }.keys.sorted()
    }
}

/// - Returns: why a name of the top directory cannot be given up for another.
func rename(_ mount: Mount, _ name: String, _ new: String, flags: RenameFlags = []) async -> VFSError.Code? {
    await failure { () async throws(VFSError) in
        try await mount.fs.rename(Mount.root, name, Mount.root, new, flags: flags)
    }
}

/// Waits for a task for some seconds; nil when it has not ended by then.
func soon<Value: Sendable>(_ task: Task<Value, Never>) async -> Value? {
    let gate = Gate()
    Task {
        _ = await task.value
        gate.open()
    }
    for _ in 0..<1000 where !gate.isOpen { try? await Task.sleep(for: .milliseconds(5)) }
    return gate.isOpen ? await task.value : nil
}

/// A pause that a cancellation does not end.
func pause(_ time: Duration) async { await Task.detached { try? await Task.sleep(for: time) }.value }

extension Array where Element == UInt8 {
    func patched(_ bytes: [UInt8], at offset: Int) -> [UInt8] {
        var copy = self
        if copy.count < offset + bytes.count {
            copy += [UInt8](repeating: 0, count: offset + bytes.count - copy.count)
        }
        copy.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        return copy
    }

    func contains(_ part: [UInt8]) -> Bool {
        guard let first = part.first, count >= part.count else { return part.isEmpty }
        return indices.prefix(count - part.count + 1).contains { start in
            self[start] == first && self[start..<start + part.count].elementsEqual(part)
        }
    }
}

/// A piece of work that begins in a hook and is waited for after it.
final class Once: Sendable {
    private let task = Mutex<Task<VFSError.Code?, Never>?>(nil)

    func start(_ body: @escaping @Sendable () async -> VFSError.Code?) {
        task.withLock { if $0 == nil { $0 = Task { await body() } } }
    }

    /// Why it failed; it must have begun.
    func result() async -> VFSError.Code? {
        guard let task = task.withLock({ $0 }) else { preconditionFailure("it has not begun") }
        return await task.value
    }
}

extension Result {
    var isSuccess: Bool { if case .success = self { true } else { false } }
}

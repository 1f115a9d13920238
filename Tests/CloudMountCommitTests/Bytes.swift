import Synchronization

/// Collects bytes from any thread.
final class Bytes: Sendable {
    private let collected = Mutex<[UInt8]>([])

    func append(_ bytes: UnsafeRawBufferPointer) { collected.withLock { $0 += bytes } }
    func all() -> [UInt8] { collected.withLock { $0 } }
}

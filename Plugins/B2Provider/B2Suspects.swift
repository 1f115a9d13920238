import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Files whose bytes have lately come other than they were stored.
///
/// A kernel that is refused a whole file asks for it page by page, and a page has no SHA-1. So for half a minute such a file is
/// read as a whole, and checked, or not at all.
final class B2Suspects: Sendable {
    private static let life: UInt64 = 30_000_000_000
    private static let most = 1000

    private let known = Mutex<[String: (size: Int, until: UInt64)]>([:])
    private let now: @Sendable () -> UInt64

    init(now: @escaping @Sendable () -> UInt64 = { SystemClock.monotonic() }) { self.now = now }

    func add(_ id: String, size: Int) {
        let now = now()
        known.withLock { known in
            if known.count >= Self.most { known = known.filter { $0.value.until > now } }
            if known.count < Self.most { known[id] = (size, now + Self.life) }
        }
    }

    /// Whether `extent` is less than the whole of a suspect.
    func isPart(_ extent: Extent, of id: String) -> Bool {
        known.withLock { known in
            guard let suspect = known[id], suspect.until > now() else { return false }
            return extent.lowerBound > 0 || extent.upperBound < suspect.size
        }
    }
}

import CloudMountKit
import CloudMountVFS
import Synchronization

/// Upload URLs that are free at the moment, of the bucket and of each large file.
///
/// Each takes one request at a time, so it is out of here while it is used, and comes back only after a success: one
/// that failed is forgotten. The last one returned goes out first, since its connection is the warmest.
final class B2UploadURLs: Sendable {
    struct Place: Sendable, Equatable {
        var url: String
        var token: String
    }

    /// Uploads whose URLs are kept, at most; one that its owner forgets must not be remembered for ever.
    private static let most = 1024

    private let free = Mutex<[String: [Place]]>([:])

    /// - Parameter owner: the id of a large file; empty for the bucket.
    func take(_ owner: String) -> Place? { free.withLock { $0[owner]?.popLast() } }

    func give(_ place: Place, to owner: String) {
        free.withLock { free in
            if free.count >= Self.most, free[owner] == nil { free = free.filter { $0.key.isEmpty } }
            free[owner, default: []].append(place)
        }
    }

    /// Forgets the URLs of a large file that has ended.
    func drop(_ owner: String) { free.withLock { $0[owner] = nil } }

    /// Forgets the URLs that lead to the same machine as `place`, which is busy or gone.
    func leave(_ place: Place, of owner: String) {
        guard let home = WebURL(answered: place.url) else { return }
        free.withLock { $0[owner]?.removeAll { WebURL(answered: $0.url)?.hasOrigin(of: home) ?? true } }
    }
}

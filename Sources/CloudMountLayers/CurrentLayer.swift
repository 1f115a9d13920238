public import CloudMountVFS
import Synchronization

/// The provider that serves a mount now. Another one of the same bucket may take its place at any time, such as one with
/// new credentials: calls under way end with the old one, all further attempts go to the new.
public final class CurrentProvider: Sendable {
    private let provider: Mutex<any ObjectProvider>

    public init(_ provider: any ObjectProvider) { self.provider = Mutex(provider) }

    public var now: any ObjectProvider { provider.withLock { $0 } }

    /// - Parameter provider: prepared, and with the capabilities of the one before.
    public func replace(_ provider: any ObjectProvider) { self.provider.withLock { $0 = provider } }
}

/// Passes each call on to the current provider.
struct CurrentLayer: ProviderLayer {
    let current: CurrentProvider
    var inner: any ObjectProvider { current.now }

    init(_ current: CurrentProvider) { self.current = current }

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        try await body(inner)
    }
}

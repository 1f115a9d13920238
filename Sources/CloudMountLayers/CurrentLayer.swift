public import CloudMountVFS
import Synchronization

/// The provider that serves a mount now. Another one of the same bucket may take its place at any time, such as one with
/// new credentials: calls under way end with the old one, all further attempts go to the new.
public final class CurrentProvider: Sendable {
    private let state: Mutex<(provider: any ObjectProvider, billedBefore: [BilledCalls])>

    public init(_ provider: any ObjectProvider) { state = Mutex((provider, [])) }

    public var now: any ObjectProvider { state.withLock { $0.provider } }

    /// Of all that have served, as far as they have been counted when they were replaced.
    var billedCalls: [BilledCalls] {
        state.withLock { state in Self.sum(state.billedBefore, state.provider.billedCalls) }
    }

    private static func sum(_ before: [BilledCalls], _ now: [BilledCalls]) -> [BilledCalls] {
        now.map { group in
            var group = group
            group.calls += before.first { $0.group == group.group }?.calls ?? 0
            return group
        }
    }

    /// - Parameter provider: prepared, and with the capabilities of the one before.
    public func replace(_ provider: any ObjectProvider) {
        state.withLock { state in
            state = (provider, Self.sum(state.billedBefore, state.provider.billedCalls))
        }
    }
}

/// Passes each call on to the current provider.
struct CurrentLayer: ProviderLayer {
    let current: CurrentProvider
    var inner: any ObjectProvider { current.now }

    var billedCalls: [BilledCalls] { current.billedCalls }

    init(_ current: CurrentProvider) { self.current = current }

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        try await body(inner)
    }
}

public import CloudMountVFS
import Synchronization

/// Whether a mount may ask its store: not while it is offline by command, and not before the first contact since its start.
public final class Reach: Sendable {
    public enum Contact: Sendable, Equatable {
        case made
        /// The first attempt since the start is under way: calls wait for it.
        case awaited
        /// Calls fail with this.
        case failed(VFSError)
    }

    private struct State {
        var isOffline = false
        var contact = Contact.made
        var admission: Contact { isOffline ? .failed(Reach.offline) : contact }
    }

    /// False: every call passes with one look.
    private let isBarred = Atomic(false)
    private let state = Mutex(State())
    private let waiters = Waiters()

    public init() {}

    private static let offline = VFSError(
        .unavailable, "the mount is offline by command",
        wire: VFSError.Wire(operation: VFSError.refusedCall, endpoint: ""))

    /// Calls are not let through now.
    public var isCutOff: Bool { isBarred.load(ordering: .acquiring) }

    /// By `cloudmount offline`.
    public var isOffline: Bool {
        get { state.withLock { $0.isOffline } }
        set { change { $0.isOffline = newValue } }
    }

    public var contact: Contact {
        get { state.withLock { $0.contact } }
        set { change { $0.contact = newValue } }
    }

    private func change(_ change: (inout State) -> Void) {
        state.withLock { state in
            change(&state)
            isBarred.store(state.admission != .made, ordering: .releasing)
        }
        waiters.resume()
    }

    /// Returns when calls may go out.
    /// - Throws: why they may not; `cancelled`.
    func admit() async throws(VFSError) {
        while isCutOff {
            let admission = state.withLock { $0.admission }
            switch admission {
            case .made: return
            case .failed(let error): throw Self.refusal(error)
            case .awaited:
                await waiters.wait { self.state.withLock { $0.admission != .awaited } }
                if Task.isCancelled { throw .cancelled }
            }
        }
    }

    /// Nobody was asked: nothing of it is tried again, counted or told once more.
    private static func refusal(_ error: VFSError) -> VFSError {
        var error = error
        error.retry = .never
        error.wire = VFSError.Wire(operation: VFSError.refusedCall, endpoint: error.wire?.endpoint ?? "")
        return error
    }
}

/// Lets calls through where `Reach` does.
struct ReachLayer: ProviderLayer {
    let inner: any ObjectProvider
    let reach: Reach

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        if reach.isCutOff { try await reach.admit() }
        return try await body(inner)
    }
}

/// A provider that has made no contact yet, with what it could do when it last had.
public struct RememberedProvider: ProviderLayer {
    public let inner: any ObjectProvider
    public let capabilities: Capabilities

    public init(_ inner: any ObjectProvider, _ capabilities: Capabilities) {
        (self.inner, self.capabilities) = (inner, capabilities)
    }

    public func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value { try await body(inner) }
}

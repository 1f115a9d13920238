import CloudMountConfig
import CloudMountLayers
import CloudMountVFS
import Logging
import Synchronization

/// The first contact of a mount with its store. A mount that had one before, and serves what it knows while its store cannot be reached, starts
/// without: it is made behind it, again and again.
final class FirstContact: Sendable {
    typealias Prepare = @Sendable () async throws(VFSError) -> Void

    /// A store that is there has answered by then, mostly.
    private static let patience = Duration.seconds(2)
    private static let longestPause = Duration.seconds(5)

    /// What the mount works with at first.
    let provider: any ObjectProvider
    private let fresh: any ObjectProvider
    private let known: KnownStore
    private let prepare: Prepare
    /// Nil: the contact has been made.
    private let firstAttempt: Task<Result<Void, VFSError>, Never>?
    private let failure: VFSError?

    private struct State {
        var isOutdated = false
        var whenOutdated: (@Sendable () -> Void)?
    }
    private let state = Mutex(State())

    /// - Parameters:
    ///   - fresh: that has made no contact.
    ///   - servesKnown: the policy has what is known shown while the store cannot be reached.
    ///   - prepare: has `fresh` make it.
    /// - Throws: why it cannot be made, of a store that was never reached, or that answers.
    init(
        _ fresh: any ObjectProvider, known: KnownStore, servesKnown: Bool, prepare: @escaping Prepare
    ) async throws(VFSError) {
        (self.fresh, self.known, self.prepare) = (fresh, known, prepare)
        guard servesKnown, let capabilities = await known.recall() else {
            try await prepare()
            await known.keep(fresh.capabilities)
            (provider, firstAttempt, failure) = (fresh, nil, nil)
            return
        }
        let attempt = Task { await Self.outcome(prepare) }
        let outcome = await within(Self.patience) { await attempt.value }
        if Task.isCancelled {
            attempt.cancel()
            throw .cancelled
        }
        switch outcome {
        case .success:
            await known.keep(fresh.capabilities)
            (provider, firstAttempt, failure) = (fresh, nil, nil)
        case .failure(let error):
            guard error.code.isUnreachable else { throw error }
            (provider, firstAttempt, failure) = (RememberedProvider(fresh, capabilities), attempt, error)
        case nil:
            (provider, firstAttempt, failure) = (RememberedProvider(fresh, capabilities), attempt, nil)
        }
    }

    private static func outcome(_ prepare: Prepare) async -> Result<Void, VFSError> {
        do throws(VFSError) { return .success(try await prepare()) } catch { return .failure(error) }
    }

    /// What calls are told before `run`.
    var start: Reach.Contact {
        guard firstAttempt != nil else { return .made }
        return failure.map { .failed(Self.unreached($0)) } ?? .awaited
    }

    private static func unreached(_ error: VFSError) -> VFSError {
        var error = error
        error.message = "the store has not been reached since the start: \(error.message)"
        return error
    }

    /// Goes on until the contact has been made, by whom ever, or nobody wants it any more.
    func run(_ layered: LayeredProvider, _ logger: Logger, while isWanted: @escaping @Sendable () -> Bool) async {
        guard let firstAttempt else { return }
        if let failure {
            logger.warning("mounted with what is known, for the store cannot be reached: \(failure.description)")
        }
        var outcome = await firstAttempt.value
        var pause = Duration.seconds(1)
        while isWanted(), layered.reach.contact != .made {
            switch outcome {
            case .success: return await finish(layered, logger)
            case .failure(let error): layered.reach.contact = .failed(Self.unreached(error))
            }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, Self.longestPause)
            if isWanted(), layered.reach.contact != .made { outcome = await Self.outcome(prepare) }
        }
    }

    private func finish(_ layered: LayeredProvider, _ logger: Logger) async {
        await known.keep(fresh.capabilities)
        // New credentials may have made it meanwhile.
        guard layered.reach.contact != .made else { return }
        let before = provider.capabilities
        if fresh.capabilities.showsTheSame(as: before) {
            layered.current.replace(fresh)
            layered.reach.contact = .made
            logger.notice("the store has been reached")
        } else {
            layered.reach.contact = .failed(
                VFSError(
                    .unavailable,
                    "the store can do other things than when it was last reached, so the mount is to be mounted again"))
        }
        if fresh.capabilities != before { outdate() }
    }

    // MARK: Another store than was remembered

    private func outdate() {
        let tell = state.withLock { state in
            state.isOutdated = true
            return state.whenOutdated
        }
        tell?()
    }

    /// - Parameter tell: called when the mount is to be mounted anew, at once if that is so already.
    func whenOutdated(_ tell: @escaping @Sendable () -> Void) {
        let isOutdated = state.withLock { state in
            state.whenOutdated = tell
            return state.isOutdated
        }
        if isOutdated { tell() }
    }
}

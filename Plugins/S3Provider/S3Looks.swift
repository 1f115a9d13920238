import CloudMountHTTP
import CloudMountVFS
import Synchronization

/// Comparing just before, where a store is not known to honour conditions: the best there is, not atomic. Many keys are
/// looked at by one listing.
final class S3Looks: Sendable {
    private let client: S3Client
    private let reader: S3Reader
    private let lister: S3Lister
    private let gathered = GatheredLooks<ObjectKey, ETag?>()

    init(_ client: S3Client, _ reader: S3Reader, _ lister: S3Lister) {
        self.client = client
        self.reader = reader
        self.lister = lister
    }

    /// The header that makes the store hold to `precondition`; nil, after a look, where it would not.
    func condition(
        _ precondition: Precondition, on key: ObjectKey, absent: Bool, match: Bool
    ) async throws(VFSError) -> S3Signer.Field? {
        switch precondition {
        case .none: return nil
        case .absent:
            if absent { return S3Signer.Field(name: "if-none-match", value: "*") }
            if try await gathered.ask(key, { await self.look(at: $0, $1) }) != nil {
                throw VFSError(.preconditionFailed, "there is an object with this key already")
            }
        case .match(let etag):
            if match { return S3Signer.Field(name: "if-match", value: "\"\(etag.value)\"") }
            if try await version(of: key) != etag { throw .changed }
        }
        return nil
    }

    /// The version that there is now; of an object that may not be looked at, as a listing tells it.
    func version(of key: ObjectKey) async throws(VFSError) -> ETag? {
        do throws(VFSError) {
            return try await reader.headIfThere(key)?.etag
        } catch {
            guard error.code == .permissionDenied, case .object(let listed)? = try? await lister.find(key) else {
                throw error
            }
            return listed.etag
        }
    }

    /// The objects whose version is still the current one; the others are failures, or gone.
    func unchanged(
        _ objects: [DeleteRequest]
    ) async throws(VFSError) -> (going: [DeleteRequest], failures: [DeleteFailure]) {
        let versioned = objects.filter { $0.version != nil }
        if versioned.isEmpty { return (objects, []) }
        let listed = await listed(versioned.map(\.key), pages: 1 + versioned.count / 100)
        // Also what a listing says otherwise: it may name a version in other words.
        let doubtful = versioned.filter { listed[$0.key] != $0.version }
        let found = try await inParallel(doubtful, width: Self.lookWidth) { object async throws(VFSError) in
            try await self.version(of: object.key)
        }
        var current: [ObjectKey: ETag?] = [:]
        for (object, etag) in zip(doubtful, found) { current[object.key] = .some(etag) }
        var (going, failures): ([DeleteRequest], [DeleteFailure]) = ([], [])
        for object in objects {
            guard let version = object.version, case .some(let there) = current[object.key] else {
                going.append(object)
                continue
            }
            if there == version {
                going.append(object)
            } else if there != nil {
                failures.append(DeleteFailure(key: object.key, error: .changed))
            }
        }
        return (going, failures)
    }

    // MARK: Many at once

    /// Fewer keys are looked at one by one.
    private static let listedFrom = 4
    static let lookWidth = 64

    /// Answers with the versions that there are now under `keys`; one by one also what a listing shows, as it may show folders that it
    /// makes up.
    private func look(
        at keys: [ObjectKey], _ answer: @escaping @Sendable (ObjectKey, Result<ETag?, VFSError>) -> Void
    ) async {
        // In no order, a page says nothing of what it lacks.
        let listed = client.features.sortedListing ? await listed(keys, pages: 1) : [:]
        var rest: [ObjectKey] = []
        for key in keys {
            if case .some(.none) = listed[key] { answer(key, .success(nil)) } else { rest.append(key) }
        }
        _ = try? await inParallel(rest, width: Self.lookWidth) { key async throws(VFSError) in
            answer(key, await attempt { () async throws(VFSError) in try await self.version(of: key) })
        }
    }

    /// What a listing of the keys' common prefix says of them within `pages` pages: an ETag, or that there is none. What is
    /// missing it says nothing of; nothing at all when it fails.
    private func listed(_ keys: [ObjectKey], pages: Int) async -> [ObjectKey: ETag?] {
        guard keys.count >= Self.listedFrom, let first = keys.min(), let last = keys.max() else { return [:] }
        var wanted = Set(keys)
        let isSorted = client.features.sortedListing
        var known: [ObjectKey: ETag?] = [:]
        var request = ListRequest(prefix: first.commonPrefix(with: last), delimited: false)
        var start = isSorted ? first.before(within: request.prefix) : nil
        for _ in 0..<pages {
            guard let page = try? await lister.list(request, after: start) else { return known }
            for object in page.objects where wanted.contains(object.key) { known[object.key] = .some(object.etag) }
            wanted.subtract(page.unreadable)
            let isWhole = page.continuation == nil
            guard let end = isWhole ? last : isSorted ? page.objects.last?.key : nil else {
                request.continuation = page.continuation
                continue
            }
            for key in wanted where key <= end && known[key] == nil { known[key] = .some(nil) }
            if isWhole || end >= last { return known }
            (request.continuation, start) = (page.continuation, nil)
        }
        return known
    }
}

extension ObjectKey {
    /// What both begin with, in whole characters.
    func commonPrefix(with other: ObjectKey) -> ObjectKey {
        let scalars = zip(string.unicodeScalars, other.string.unicodeScalars).prefix { $0 == $1 }.map(\.0)
        var prefix = String.UnicodeScalarView()
        prefix.append(contentsOf: scalars)
        return ObjectKey(String(prefix))
    }

    /// A key that comes a little before it and begins with `prefix`; nil where the prefix says as much. None that ends in a slash: below a
    /// folder object some stores leave out all.
    fileprivate func before(within prefix: ObjectKey) -> ObjectKey? {
        let key = ObjectKey(String(string.unicodeScalars.dropLast()))
        return key.byteCount > prefix.byteCount && !key.endsWithSlash ? key : nil
    }
}

/// Answers many who ask by few looks: who asks while a look is under way is answered by the next, with all who asked
/// meanwhile. Each answer is of a look that began after the question.
final class GatheredLooks<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// Calls its second argument once for each key.
    typealias Look = @Sendable ([Key], @escaping @Sendable (Key, Result<Value, VFSError>) -> Void) async -> Void
    private typealias Asker = CheckedContinuation<Result<Value, VFSError>, Never>

    private struct State {
        var isLooking = false
        var next: UInt64 = 0
        /// Who is asked for by the look under way, and by the next.
        var asked: [Key: [UInt64: Asker]] = [:]
        var waiting: [Key: [UInt64: Asker]] = [:]
        var look: Task<Void, Never>?
        /// Those who were given up before they began to wait.
        var gone: Set<UInt64> = []
    }

    /// Waits in the time of its own call, like a transfer that moves nothing.
    private final class Waiting: TransferMeter.Expirable {
        private let giveUp: @Sendable () -> Void
        init(_ giveUp: @escaping @Sendable () -> Void) { self.giveUp = giveUp }
        func expire() { giveUp() }
    }

    private let state = Mutex(State())

    /// - Throws: `cancelled` when the task is, or when the time of its call is over.
    func ask(_ key: Key, _ look: @escaping Look) async throws(VFSError) -> Value {
        let id = state.withLock { state in
            state.next += 1
            return state.next
        }
        let (meter, waiting) = (TransferMeter.current, Waiting { self.giveUp(id, key) })
        meter?.enter(waiting)
        defer {
            meter?.leave(waiting)
            // Given up just when the answer came.
            state.withLock { _ = $0.gone.remove(id) }
        }
        return try await withTaskCancellationHandler {
            await withCheckedContinuation { asker in wait(id, key, asker, look) }
        } onCancel: {
            giveUp(id, key)
        }.get()
    }

    private func wait(_ id: UInt64, _ key: Key, _ asker: Asker, _ look: @escaping Look) {
        let (isGone, begins) = state.withLock { state in
            if state.gone.remove(id) != nil { return (true, false) }
            state.waiting[key, default: [:]][id] = asker
            defer { state.isLooking = true }
            return (false, !state.isLooking)
        }
        if isGone { return asker.resume(returning: .failure(.cancelled)) }
        // Nobody's task: it looks for all.
        if begins { Task.detached(executorPreference: HTTPEngine.shared) { await self.run(look) } }
    }

    private func giveUp(_ id: UInt64, _ key: Key) {
        let (asker, look) = state.withLock { state -> (Asker?, Task<Void, Never>?) in
            if let asker = state.waiting[key]?.removeValue(forKey: id) { return (asker, nil) }
            guard let asker = state.asked[key]?.removeValue(forKey: id) else {
                state.gone.insert(id)
                return (nil, nil)
            }
            // One that nobody waits for any more is not to hold up the next.
            return (asker, state.asked.values.allSatisfy(\.isEmpty) ? state.look : nil)
        }
        look?.cancel()
        asker?.resume(returning: .failure(.cancelled))
    }

    private func run(_ look: @escaping Look) async {
        while let keys = next() {
            let task = Task.detached(executorPreference: HTTPEngine.shared) {
                await look(keys) { self.answer($0, $1) }
            }
            let isWanted = state.withLock { state in
                state.look = task
                return !state.asked.values.allSatisfy(\.isEmpty)
            }
            if !isWanted { task.cancel() }
            await task.value
            for key in keys { answer(key, .failure(VFSError(.io, "a look that says nothing of what was asked"))) }
        }
    }

    private func next() -> [Key]? {
        state.withLock { state in
            state.waiting = state.waiting.filter { !$0.value.isEmpty }
            guard !state.waiting.isEmpty else {
                state.isLooking = false
                return nil
            }
            (state.asked, state.waiting) = (state.waiting, [:])
            return Array(state.asked.keys)
        }
    }

    private func answer(_ key: Key, _ result: Result<Value, VFSError>) {
        let askers = state.withLock { $0.asked.removeValue(forKey: key) } ?? [:]
        for asker in askers.values { asker.resume(returning: result) }
    }
}

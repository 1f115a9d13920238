import CloudMountHTTP
import CloudMountVFS
import Synchronization

/// Comparing just before, where a store is not known to honour conditions: the best there is, not atomic. Many keys are
/// looked at by one listing.
extension S3Provider {
    static var changed: VFSError { VFSError(.preconditionFailed, "the object has been changed meanwhile") }

    /// The header that makes the store hold to `precondition`; nil, after a look, where it would not.
    func condition(
        _ precondition: Precondition, on key: ObjectKey, absent: Bool, match: Bool
    ) async throws(VFSError) -> S3Signer.Field? {
        switch precondition {
        case .none: return nil
        case .absent:
            if absent { return S3Signer.Field(name: "if-none-match", value: "*") }
            if try await looks.ask(key, { await self.look(at: $0) }) != nil {
                throw VFSError(.preconditionFailed, "there is an object with this key already")
            }
        case .match(let etag):
            if match { return S3Signer.Field(name: "if-match", value: "\"\(etag.value)\"") }
            if try await current(key)?.etag != etag { throw Self.changed }
        }
        return nil
    }

    /// Nil when the store says that there is none.
    func current(_ key: ObjectKey) async throws(VFSError) -> ObjectInfo? {
        do throws(VFSError) {
            return try await head(key)
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
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
            try await self.current(object.key)?.etag
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
                failures.append(DeleteFailure(key: object.key, error: Self.changed))
            }
        }
        return (going, failures)
    }

    // MARK: Many at once

    /// Fewer keys are looked at one by one.
    private static let listedFrom = 4
    private static let lookWidth = 16

    /// The versions that there are now under `keys`; one by one also what a listing shows, as it may show folders that it makes up.
    private func look(at keys: [ObjectKey]) async -> [ObjectKey: Result<ETag?, VFSError>] {
        let listed = await listed(keys, pages: 1)
        var found: [ObjectKey: Result<ETag?, VFSError>] = [:]
        var rest: [ObjectKey] = []
        for key in keys {
            if case .some(.none) = listed[key] { found[key] = .success(nil) } else { rest.append(key) }
        }
        let looked = try? await inParallel(rest, width: Self.lookWidth) { key async throws(VFSError) in
            await attempt { () async throws(VFSError) in try await self.current(key)?.etag }
        }
        for (key, result) in zip(rest, looked ?? []) { found[key] = result }
        return found
    }

    /// What a listing of the keys' common prefix says of them within `pages` pages: an ETag, or that there is none. What is
    /// missing it says nothing of; nothing at all when it fails.
    private func listed(_ keys: [ObjectKey], pages: Int) async -> [ObjectKey: ETag?] {
        guard keys.count >= Self.listedFrom, features.sortedListing, let first = keys.min(), let last = keys.max()
        else { return [:] }
        let wanted = Set(keys)
        var known: [ObjectKey: ETag?] = [:]
        var request = ListRequest(prefix: first.commonPrefix(with: last), delimited: false)
        var start: ObjectKey? = first.before
        for _ in 0..<pages {
            guard let page = try? await list(request, after: start) else { return known }
            for object in page.objects where wanted.contains(object.key) { known[object.key] = .some(object.etag) }
            guard let end = page.continuation == nil ? last : page.objects.last?.key else { return known }
            for key in wanted where key <= end && known[key] == nil { known[key] = .some(nil) }
            guard let continuation = page.continuation, end < last else { return known }
            (request.continuation, start) = (continuation, nil)
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

    /// A key that comes a little before it.
    fileprivate var before: ObjectKey { ObjectKey(String(string.unicodeScalars.dropLast())) }
}

/// Answers many who ask by few looks: who asks while a look is under way is answered by the next, with all who asked
/// meanwhile. Each answer is of a look that began after the question.
final class GatheredLooks<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    typealias Look = @Sendable ([Key]) async -> [Key: Result<Value, VFSError>]
    private typealias Asker = CheckedContinuation<Result<Value, VFSError>, Never>

    private let state = Mutex<(isLooking: Bool, waiting: [Key: [Asker]])>((false, [:]))

    func ask(_ key: Key, _ look: @escaping Look) async throws(VFSError) -> Value {
        try await withCheckedContinuation { asker in
            let begins = state.withLock { state in
                state.waiting[key, default: []].append(asker)
                defer { state.isLooking = true }
                return !state.isLooking
            }
            if begins { Task(executorPreference: HTTPEngine.shared) { await self.run(look) } }
        }.get()
    }

    private func run(_ look: Look) async {
        while let askers = next() {
            let found = await look(Array(askers.keys))
            for (key, askers) in askers {
                let result = found[key] ?? .failure(VFSError(.io, "a look that says nothing of what was asked"))
                for asker in askers { asker.resume(returning: result) }
            }
        }
    }

    private func next() -> [Key: [Asker]]? {
        state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.isLooking = false
                return nil
            }
            defer { state.waiting = [:] }
            return state.waiting
        }
    }
}

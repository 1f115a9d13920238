package import CloudMountStaging
package import CloudMountVFS
import Synchronization

/// Sends the parts of a new file while it is still being written from front to back, so that close waits for the tail
/// only. Bytes that are written again after their part went out make that part go out again at the end.
package final class StreamingUpload: Sendable {
    private struct State {
        var upload: Task<Result<Upload, VFSError>, Never>?
        /// Where the parts end that are complete on disk: part `i` is `bounds[i] ..< bounds[i + 1]`.
        var bounds = [0]
        var next = 0
        var inFlight = 0
        var sent: [Int: UploadedPart] = [:]
        /// Counts changes of a part's bytes since it was cut.
        var touched: [Int: Int] = [:]
        /// The count when it was last sent, arrived or not.
        var sentTouched: [Int: Int] = [:]
        /// The file's generation when its end was last sent without success.
        var triedGeneration: UInt64?
        var isAbandoned = false
        var isFinishing = false
        var failure: VFSError?
        /// Of the parts in flight.
        var tasks: [Int: Task<Void, Never>] = [:]
    }

    package static let parallel = 16
    /// A file shorter than this goes up in one piece at the end.
    package static let threshold = 16 << 20

    private let provider: any ObjectProvider
    private let staged: StagedFile
    private let key: ObjectKey
    private let metadata: ObjectMetadata
    /// Proves later that the object is of this upload.
    package let nonce: String
    private let state = Mutex(State())
    private let idle = Waiters()

    /// - Parameter metadata: without a nonce; the upload's own is added.
    package init(
        provider: any ObjectProvider, staged: StagedFile, key: ObjectKey, metadata: ObjectMetadata, nonce: String
    ) {
        self.provider = provider
        self.staged = staged
        self.key = key
        self.nonce = nonce
        var metadata = metadata
        metadata.nonce = nonce
        self.metadata = metadata
    }

    package var begunMetadata: ObjectMetadata { metadata }

    /// Whether it can become the object of `key` whose new bytes are in `staged`. A rename before the commit makes the upload
    /// useless.
    package func serves(_ key: ObjectKey, _ staged: StagedFile?) -> Bool { self.key == key && self.staged === staged }

    /// Whether its end may be sent for the bytes of `generation`: once it was sent for others without an answer, an object with its
    /// nonce proves nothing of these.
    package func isGood(for generation: UInt64) -> Bool {
        state.withLock { $0.triedGeneration == nil || $0.triedGeneration == generation }
    }

    /// Bytes of the staged file change. To be called before they do and again when they have, and only then is the change
    /// published: so no part that was read meanwhile passes for what a later commit wants.
    package func touch(_ extent: Extent) {
        state.withLock { state in
            guard extent.lowerBound < state.bounds[state.next] else { return }
            for index in 0..<state.next where Extent(state.bounds[index], state.bounds[index + 1]).overlaps(extent) {
                state.touched[index, default: 0] += 1
            }
        }
    }

    /// The file has been written without a gap up to `end`.
    package func grew(to end: Int) {
        let capabilities = provider.capabilities
        state.withLock { state in
            var bound = state.bounds[state.bounds.count - 1]
            while let step = UploadPlan.partSize(forPart: state.bounds.count, capabilities: capabilities),
                bound + step <= end
            {
                bound += step
                state.bounds.append(bound)
            }
        }
        pump()
    }

    /// The file is cut.
    /// - Returns: false when bytes have gone up that it has not any more: the upload is of no use.
    package func cut(to size: Int) -> Bool {
        state.withLock { state in
            guard size >= state.bounds[state.next] else { return false }
            while let last = state.bounds.last, last > size { state.bounds.removeLast() }
            return true
        }
    }

    private func pump() {
        while true {
            let part: (Int, Extent)? = state.withLock { state in
                guard !state.isAbandoned, !state.isFinishing, state.failure == nil, state.inFlight < Self.parallel,
                    state.next + 1 < state.bounds.count
                else { return nil }
                state.inFlight += 1
                state.next += 1
                return (state.next - 1, Extent(state.bounds[state.next - 1], state.bounds[state.next]))
            }
            guard let (index, extent) = part else { return }
            let task = Task(executorPreference: provider.executor) {
                await self.send(index, extent)
                self.pump()
            }
            let isUseless = state.withLock { state in
                if state.sentTouched[index] == nil { state.tasks[index] = task }
                return state.isAbandoned
            }
            if isUseless { task.cancel() }
        }
    }

    private func send(_ index: Int, _ extent: Extent) async {
        let touched = state.withLock { $0.touched[index] ?? 0 }
        let result: Result<UploadedPart, VFSError>
        do throws(VFSError) {
            let source = StagedSource(file: staged, extent: extent, zeroFilled: true)
            result = .success(try await provider.uploadPart(begun(), number: index + 1, from: source))
        } catch {
            result = .failure(error)
        }
        let isIdle = state.withLock { state in
            state.sentTouched[index] = touched
            state.tasks[index] = nil
            switch result {
            case .success(let part): state.sent[index] = part
            case .failure(let error): state.failure = error
            }
            state.inFlight -= 1
            return state.inFlight == 0
        }
        if isIdle { idle.resume() }
    }

    private func begun() async throws(VFSError) -> Upload {
        let task = state.withLock { state in
            if let task = state.upload { return task }
            let (provider, key, metadata) = (provider, key, metadata)
            let task = Task(executorPreference: provider.executor) { () async -> Result<Upload, VFSError> in
                do throws(VFSError) {
                    return .success(try await provider.beginUpload(key, metadata: metadata))
                } catch {
                    return .failure(error)
                }
            }
            state.upload = task
            return task
        }
        return try await task.value.get()
    }

    /// Sends what has not been sent as it is now, and completes the object. Called again after a failure, it asks which
    /// parts the store holds, and sends the others.
    /// - Parameters:
    ///   - size: bytes of the file; more than nothing.
    ///   - generation: of the file's bytes.
    ///   - complete: makes the object of the parts.
    package func finish(
        size: Int, generation: UInt64, _ complete: (Upload, [UploadedPart]) async throws(VFSError) -> ObjectInfo
    ) async throws(VFSError) -> ObjectInfo {
        state.withLock { $0.isFinishing = true }
        await quiet()
        if Task.isCancelled { throw .cancelled }
        let tried = state.withLock { state in
            defer { state.triedGeneration = generation }
            return state.triedGeneration
        }
        // What failed while the file was still being written may succeed by now.
        if tried == nil, let failure = state.withLock({ $0.failure }), !failure.mayPass { throw failure }
        if let task = state.withLock({ $0.upload }), case .failure = await task.value {
            state.withLock { $0.upload = nil }
        }
        let upload = try await begun()
        var held: [Int: UploadedPart] = [:]
        if tried == generation {
            for part in try await provider.listParts(upload) { held[part.number] = part }
        }
        let found = held
        let capabilities = provider.capabilities
        let (good, plan): ([UploadedPart], [UploadPlan.Part]?) = state.withLock { state in
            var rewritten = ExtentMap()
            var good: [UploadedPart] = []
            let parts = (0..<state.next).map { Extent(state.bounds[$0], state.bounds[$0 + 1]) }
            for (index, extent) in parts.enumerated() {
                let isAsSent = state.sentTouched[index] == state.touched[index] ?? 0
                if isAsSent, let part = state.sent[index] ?? found[index + 1], part.size == extent.count {
                    good.append(part)
                } else {
                    rewritten.insert(extent)
                }
            }
            return (
                good, UploadPlan.finishing(sent: parts, rewritten: rewritten, size: size, capabilities: capabilities)
            )
        }
        guard capabilities.partTagsAreOfBytes || state.withLock({ $0.touched.isEmpty }) else {
            throw VFSError(.uploadNotFound, "of which bytes its parts are the store cannot tell, and some have changed")
        }
        // Parts that end beyond this size have gone up: it has been written to since.
        guard size >= state.withLock({ $0.bounds[$0.next] }) else {
            throw VFSError(.uploadNotFound, "more has gone up of \(key) than it is to have")
        }
        guard let plan else { throw VFSError(.tooLarge, "\(key) is larger than the store allows") }
        let (provider, staged) = (provider, staged)
        let streamed = state.withLock { $0.next }
        let rest = try await inParallel(plan, width: Self.parallel) { part throws(VFSError) in
            // Of what was sent while the file grew, the store may hold an older state.
            if part.number > streamed, let held = found[part.number], held.size == part.extent.count { return held }
            return try await provider.uploadPart(
                upload, number: part.number, from: StagedSource(file: staged, extent: part.extent, zeroFilled: true))
        }
        return try await complete(upload, (good + rest).sorted { $0.number < $1.number })
    }

    /// Returns when no part is in flight, or when the task is cancelled.
    private func quiet() async { await idle.wait(unless: { state.withLock { $0.inFlight == 0 } }) }

    /// Frees what the store holds; the file goes up anew.
    package func abandon() {
        let (upload, tasks) = state.withLock { state in
            state.isAbandoned = true
            return (state.upload, state.tasks.values)
        }
        for task in tasks { task.cancel() }
        guard let upload else { return }
        let provider = provider
        Task(executorPreference: provider.executor) {
            await self.quiet()
            if case .success(let upload) = await upload.value { try? await provider.abortUpload(upload) }
        }
    }
}

import CloudMountCache
import CloudMountVFS
import Synchronization

/// Sends the parts of a new file while it is still being written from front to back, so that close waits for the tail
/// only. Bytes that are written again after their part went out make that part go out again at the end.
final class StreamingUpload: Sendable {
    private struct State {
        var upload: Task<Result<Upload, VFSError>, Never>?
        /// Parts that are complete on disk and wait to be sent, by index.
        var ready = 0
        var next = 0
        var inFlight = 0
        var sent: [Int: UploadedPart] = [:]
        /// Counts changes of a part's bytes since it was cut.
        var touched: [Int: Int] = [:]
        var sentTouched: [Int: Int] = [:]
        var isAbandoned = false
        var failure: VFSError?
        var idle: CheckedContinuation<Void, Never>?
    }

    static let parallel = 8
    /// A file shorter than this goes up in one piece at the end.
    static let threshold = 16 << 20

    private let provider: any ObjectProvider
    private let staged: StagedFile
    private let key: ObjectKey
    private let metadata: ObjectMetadata
    private let partSize: Int
    private let state = Mutex(State())

    init(provider: any ObjectProvider, staged: StagedFile, key: ObjectKey, metadata: ObjectMetadata, partSize: Int) {
        self.provider = provider
        self.staged = staged
        self.key = key
        self.metadata = metadata
        self.partSize = partSize
    }

    /// Where the object will be; a rename before the commit makes the upload useless.
    var target: ObjectKey { key }
    var begunMetadata: ObjectMetadata { metadata }

    /// The staged file has new bytes.
    func wrote(_ extent: Extent, size: Int) {
        let first = extent.lowerBound / partSize
        let last = (extent.upperBound - 1) / partSize
        state.withLock { state in
            if first < state.next {
                for index in first...min(last, state.next - 1) { state.touched[index, default: 0] += 1 }
            }
            state.ready = max(state.ready, size / partSize)
        }
        pump()
    }

    private func pump() {
        while true {
            let index: Int? = state.withLock { state in
                guard !state.isAbandoned, state.failure == nil, state.inFlight < Self.parallel, state.next < state.ready
                else { return nil }
                state.inFlight += 1
                state.next += 1
                return state.next - 1
            }
            guard let index else { return }
            Task {
                await send(index)
                pump()
            }
        }
    }

    private func send(_ index: Int) async {
        let touched = state.withLock { $0.touched[index] ?? 0 }
        let result: Result<UploadedPart, VFSError>
        do throws(VFSError) {
            let source = StagedSource(staged, Extent(offset: index * partSize, count: partSize))
            result = .success(try await provider.uploadPart(begun(), number: index + 1, from: source))
        } catch {
            result = .failure(error)
        }
        let idle = state.withLock { state in
            switch result {
            case .success(let part):
                state.sent[index] = part
                state.sentTouched[index] = touched
            case .failure(let error): state.failure = error
            }
            state.inFlight -= 1
            guard state.inFlight == 0 else { return nil as CheckedContinuation<Void, Never>? }
            defer { state.idle = nil }
            return state.idle
        }
        idle?.resume()
    }

    private func begun() async throws(VFSError) -> Upload {
        let task = state.withLock { state in
            if let task = state.upload { return task }
            let (provider, key, metadata) = (provider, key, metadata)
            let task = Task { () async -> Result<Upload, VFSError> in
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

    /// Sends what has not been sent as it is now, and completes the object.
    /// - Parameter size: bytes of the file; more than nothing.
    func finish(size: Int, precondition: Precondition) async throws(VFSError) -> ObjectInfo {
        state.withLock { $0.ready = 0 }
        await quiet()
        if let failure = state.withLock({ $0.failure }) { throw failure }
        let upload = try await begun()
        let count = (size + partSize - 1) / partSize
        let (good, missing): ([UploadedPart], [Int]) = state.withLock { state in
            var good: [UploadedPart] = []
            var missing: [Int] = []
            for index in 0..<count {
                let length = min(partSize, size - index * partSize)
                if let part = state.sent[index], part.size == length,
                    state.sentTouched[index] == state.touched[index] ?? 0
                {
                    good.append(part)
                } else {
                    missing.append(index)
                }
            }
            return (good, missing)
        }
        let (provider, staged, partSize) = (provider, staged, partSize)
        let rest = try await inParallel(missing, width: Self.parallel) { index throws(VFSError) in
            let extent = Extent(index * partSize, min(size, (index + 1) * partSize))
            return try await provider.uploadPart(upload, number: index + 1, from: StagedSource(staged, extent))
        }
        return try await provider.completeUpload(
            upload, parts: (good + rest).sorted { $0.number < $1.number }, precondition: precondition)
    }

    private func quiet() async {
        await withCheckedContinuation { continuation in
            let now = state.withLock { state in
                if state.inFlight == 0 { return true }
                state.idle = continuation
                return false
            }
            if now { continuation.resume() }
        }
    }

    /// Frees what the store holds; the file goes up anew.
    func abandon() {
        let upload = state.withLock { state in
            state.isAbandoned = true
            return state.upload
        }
        guard let upload else { return }
        let provider = provider
        Task {
            await quiet()
            if case .success(let upload) = await upload.value { try? await provider.abortUpload(upload) }
        }
    }
}

/// Runs `body` for every item, `width` at a time; results in the order of the items. The first error ends it.
func inParallel<Item: Sendable, Value: Sendable>(
    _ items: [Item], width: Int, _ body: @escaping @Sendable (Item) async throws(VFSError) -> Value
) async throws(VFSError) -> [Value] {
    if items.isEmpty { return [] }
    if items.count == 1 { return [try await body(items[0])] }
    let result: Result<[Value], VFSError> = await withTaskGroup(of: (Int, Result<Value, VFSError>).self) { group in
        var values: [Value?] = Array(repeating: nil, count: items.count)
        var next = 0
        func start() {
            let index = next
            let item = items[index]
            next += 1
            group.addTask {
                do throws(VFSError) { return (index, .success(try await body(item))) } catch {
                    return (index, .failure(error))
                }
            }
        }
        while next < min(width, items.count) { start() }
        for await (index, result) in group {
            switch result {
            case .success(let value): values[index] = value
            case .failure(let error):
                group.cancelAll()
                return .failure(error)
            }
            if next < items.count { start() }
        }
        return .success(values.compactMap { $0 })
    }
    return try result.get()
}

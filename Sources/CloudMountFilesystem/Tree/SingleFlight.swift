import CloudMountVFS
import Synchronization

/// Joins equal requests: the first caller for a key starts the work, the others wait for the same result.
///
/// A caller that is cancelled does not stop the work of the others.
final class SingleFlight<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private let running = Mutex<[Key: Task<Result<Value, VFSError>, Never>]>([:])

    private let executor: (any TaskExecutor)?

    init(executor: (any TaskExecutor)?) { self.executor = executor }

    func run(
        _ key: Key, _ work: @escaping @Sendable () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        let task = running.withLock { running in
            if let task = running[key] { return task }
            let task = Task(executorPreference: self.executor) { () async -> Result<Value, VFSError> in
                let result: Result<Value, VFSError>
                do throws(VFSError) { result = .success(try await work()) } catch { result = .failure(error) }
                self.running.withLock { $0[key] = nil }
                return result
            }
            running[key] = task
            return task
        }
        return try await task.value.get()
    }
}

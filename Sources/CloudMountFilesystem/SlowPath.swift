import CloudMountVFS
import Synchronization

/// Work that waits for the store, for a caller who may be interrupted meanwhile.
struct SlowPath: Sendable {
    let context: MountContext

    /// Whether the caller of the work that runs has been interrupted. Work that has changed nothing yet ends then.
    @TaskLocal static var interruption: Flag?

    /// To be called before the first change that others can see.
    /// - Throws: `cancelled` when nobody waits for the change any more: what it was meant for may not be there.
    static func begin() throws(VFSError) {
        if interruption?.isUp() ?? false { throw .cancelled }
    }

    /// What the kernel remembers something of.
    enum Subject: Sendable {
        case name(Place)
        case inode(InodeID)
    }

    /// Answers with what `work` brings; an interrupted caller is answered at once.
    /// - Parameters:
    ///   - subjects: the work changes these in the store. It is then brought to its end, or to its own undoing, also when
    ///     nobody waits for it any more, and the kernel is told to look again. Without any, an interruption cancels it.
    ///   - discard: lets go of a value that came after the interruption.
    func run<Value: Sendable>(
        _ reply: consuming Reply<Value>, changing subjects: [Subject],
        discard: @escaping @Sendable (Value) -> Void, _ work: @escaping @Sendable () async throws(VFSError) -> Value
    ) {
        let canceller = Canceller()
        let box = ReplyBox(reply)
        let interruption = Flag()
        box.onInterrupt {
            interruption.raise()
            if subjects.isEmpty { canceller.cancel() }
            box.fail(.cancelled)
        }
        canceller.set(
            Task(executorPreference: context.provider.executor) {
                let result = await Self.$interruption.withValue(interruption) { await attempt(work) }
                if let reply = box.take() {
                    switch result {
                    case .success(let value): reply.send(value)
                    case .failure(let error): reply.fail(error)
                    }
                } else {
                    if case .success(let value) = result { discard(value) }
                    letKernelForget(subjects)
                }
            })
    }

    private func letKernelForget(_ subjects: [Subject]) {
        if subjects.isEmpty { return }
        context.tellKernel { kernel in
            for subject in subjects {
                switch subject {
                case .name(let place): kernel.invalidateEntry(parent: place.parent, name: place.name)
                case .inode(let inode): kernel.invalidateInode(inode, extent: Extent(0, .max))
                }
            }
        }
    }
}

/// Cancels a task that may not have been made yet.
private final class Canceller: Sendable {
    private let state = Mutex<(task: Task<Void, Never>?, isCancelled: Bool)>((nil, false))

    func set(_ task: Task<Void, Never>) {
        let cancelled = state.withLock { state in
            state.task = task
            return state.isCancelled
        }
        if cancelled { task.cancel() }
    }

    func cancel() {
        let task = state.withLock { state in
            state.isCancelled = true
            return state.task
        }
        task?.cancel()
    }
}

/// Something that has happened.
final class Flag: Sendable {
    private let state = Atomic(false)
    func raise() { state.store(true, ordering: .relaxed) }
    func isUp() -> Bool { state.load(ordering: .relaxed) }
}

import Glibc
import Synchronization

/// Named threads for work that blocks on local disk, so that the cooperative pool never does.
///
/// Jobs belong to lanes, such as one for each mount. Those of one lane start in order, and none waits while a thread may be
/// started for it: a lane has `laneWidth` threads at most, and all but the first of each lane together leave half of
/// `width` to lanes that have none. So a disk that hangs holds up its own lane. Threads start when there is work and end
/// after some idle seconds.
public final class BlockingPool: Sendable {
    public static let shared = BlockingPool(name: "cm-disk", width: 48, laneWidth: 8)

    private struct Job {
        let lane: String
        let work: @Sendable () -> Void
    }

    private struct Lane {
        /// From `head` on: those that wait. Those before are gone: what a job holds may come back to the pool when it is let go of, so that
        /// is never done under the lock.
        var jobs: [Job?] = []
        var head = 0
        var running = 0

        var isWaiting: Bool { head < jobs.count }

        mutating func next() -> Job? {
            defer {
                jobs[head] = nil
                head += 1
                if head == jobs.count {
                    jobs.removeAll(keepingCapacity: true)
                    head = 0
                } else if head > 1024, head * 2 > jobs.count {
                    jobs.removeFirst(head)
                    head = 0
                }
            }
            return jobs[head]
        }
    }

    /// The place where a thread finds its next job.
    private final class Idler: Sendable {
        let job = Mutex<Job?>(nil)
        let wakeup = Semaphore()
    }

    private struct State {
        /// Lanes that run or wait.
        var lanes: [String: Lane] = [:]
        /// Lanes that wait, the one whose turn is next in front.
        var waiting: [String] = []
        var threads = 0
        /// The last to become idle is the first to work.
        var idlers: [Idler] = []
    }

    private let name: String
    private let width: Int
    private let laneWidth: Int
    private let idleSeconds: Int
    private let state = Mutex(State())

    /// - Parameters:
    ///   - width: the most threads.
    ///   - laneWidth: the most of one lane; nil: all, for a pool whose jobs are all of one lane.
    ///   - idleSeconds: how long a thread waits for another job.
    public init(name: String, width: Int, laneWidth: Int? = nil, idleSeconds: Int = 10) {
        self.name = name
        self.width = max(1, width)
        self.laneWidth = max(1, laneWidth ?? width)
        self.idleSeconds = idleSeconds
    }

    /// Threads that there are, idle ones included.
    public var threads: Int { state.withLock { $0.threads } }
    /// Threads that wait for a job.
    public var idleThreads: Int { state.withLock { $0.idlers.count } }

    private enum Start {
        case waits
        case handed(Idler)
        case thread(Idler)
    }

    /// Runs `work` on one of the pool's threads.
    /// - Parameter lane: whom it may hold up.
    public func submit(_ lane: String = "", _ work: @escaping @Sendable () -> Void) {
        let job = Job(lane: lane, work: work)
        let start: Start = state.withLock { state in
            if mayRun(state, lane), !(state.lanes[lane]?.isWaiting ?? false) {
                if let idler = state.idlers.popLast() {
                    state.lanes[lane, default: Lane()].running += 1
                    idler.job.withLock { $0 = job }
                    return .handed(idler)
                }
                if state.threads < width {
                    state.lanes[lane, default: Lane()].running += 1
                    state.threads += 1
                    let idler = Idler()
                    idler.job.withLock { $0 = job }
                    return .thread(idler)
                }
            }
            let isFirst = !(state.lanes[lane]?.isWaiting ?? false)
            if isFirst { state.waiting.append(lane) }
            state.lanes[lane, default: Lane()].jobs.append(job)
            return .waits
        }
        switch start {
        case .waits: break
        case .handed(let idler): idler.wakeup.signal()
        case .thread(let idler):
            // A system that has no thread to give has the caller's: late, but done.
            if !NamedThread.start(name, { self.work(idler) }) { workHere(idler) }
        }
    }

    /// Runs `work` on one of the pool's threads and waits for it without holding a thread of the caller's.
    public func run<Value: Sendable, Failure: Error>(
        _ lane: String = "", _ work: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
            submit(lane) {
                do throws(Failure) {
                    continuation.resume(returning: .success(try work()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }

    /// The first thread of a lane only needs to be there; more of one leave half of all to other lanes.
    private func mayRun(_ state: State, _ lane: String) -> Bool {
        guard let running = state.lanes[lane]?.running, running > 0 else { return true }
        guard running < laneWidth else { return false }
        return laneWidth >= width || state.threads - state.idlers.count < max(1, width / 2)
    }

    /// A thread's life, which begins with the job of `first`. What a job holds goes with it, not with the thread.
    private func work(_ first: Idler) {
        var idler = first
        while let lane = perform(idler) {
            let idle = Idler()
            let isIdle = state.withLock { state in
                ended(&state, lane)
                if let next = nextJob(&state) {
                    idle.job.withLock { $0 = next }
                    return false
                }
                state.idlers.append(idle)
                return true
            }
            idler = idle
            if !isIdle || idle.wakeup.wait(seconds: idleSeconds) { continue }
            let isOver = state.withLock { state in
                guard let index = state.idlers.firstIndex(where: { $0 === idle }) else { return false }
                state.idlers.remove(at: index)
                state.threads -= 1
                return true
            }
            // Else it has been given a job just now.
            if isOver { return }
        }
    }

    /// Returns the lane of the job that `idler` was given.
    private func perform(_ idler: Idler) -> String? {
        let job = idler.job.withLock { $0.take() }
        job?.work()
        return job?.lane
    }

    private func workHere(_ first: Idler) {
        var idler = first
        while let lane = perform(idler) {
            let (next, isHanded): (Idler?, Bool) = state.withLock { state in
                ended(&state, lane)
                state.threads -= 1
                // Those that busy threads will come to are theirs; one that waits for a job does not look.
                guard !state.idlers.isEmpty || state.threads == 0, let next = nextJob(&state) else {
                    return (nil, false)
                }
                let idle = state.idlers.popLast()
                if idle == nil { state.threads += 1 }
                let idler = idle ?? Idler()
                idler.job.withLock { $0 = next }
                return (idler, idle != nil)
            }
            if isHanded { next?.wakeup.signal() }
            guard let next, !isHanded, !NamedThread.start(name, { self.work(next) }) else { return }
            idler = next
        }
    }

    private func ended(_ state: inout State, _ lane: String) {
        state.lanes[lane]?.running -= 1
        if let left = state.lanes[lane], left.running == 0, !left.isWaiting { state.lanes[lane] = nil }
    }

    /// The next job that may run: lanes take turns, those of which nothing runs first.
    private func nextJob(_ state: inout State) -> Job? {
        let index =
            state.waiting.firstIndex { state.lanes[$0]?.running == 0 }
            ?? state.waiting.firstIndex { mayRun(state, $0) }
        guard let index else { return nil }
        let lane = state.waiting.remove(at: index)
        guard var found = state.lanes[lane] else { return nil }
        state.lanes[lane] = nil
        guard let job = found.next() else { return nil }
        found.running += 1
        if found.isWaiting { state.waiting.append(lane) }
        state.lanes[lane] = found
        return job
    }
}

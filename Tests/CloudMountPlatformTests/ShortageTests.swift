import CloudMountPlatform
import Glibc
import Synchronization
import Testing

/// In a process of its own, which can make no more threads.
@Suite("Without threads")
struct ShortageTests {
    @Test("Jobs run where they are given, however many give others, and a thread that there is not is nil")
    func noThreads() async {
        await #expect(processExitsWith: .success) {
            final class Chain: Sendable {
                let pool = BlockingPool(name: "test", width: 1)
                let left = Atomic(200_000)
                func next() {
                    guard left.subtract(1, ordering: .relaxed).newValue > 0 else { return }
                    pool.submit { self.next() }
                }
            }
            // No room for another stack.
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
            let before = limit.rlim_cur
            limit.rlim_cur = 1
            setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
            let chain = Chain()
            chain.next()
            let thread = NamedThread("none") {}
            let isPolled = Poller() != nil
            limit.rlim_cur = before
            setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
            #expect(chain.left.load(ordering: .relaxed) == 0)
            #expect(thread == nil)
            #expect(isPolled)
        }
    }
}

import CloudMountHTTP
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Testing

@testable import CloudMountHTTP

/// Each in a process of its own, whose limits it changes.
@Suite("Without descriptors or threads")
struct ShortageTests {
    @Test("A transfer that finds no descriptors for the engine fails, and the next one finds it running")
    func noDescriptors() async {
        await #expect(processExitsWith: .success) {
            func outcome() async -> HTTPError.Kind? {
                do throws(HTTPError) {
                    _ = try await HTTPEngine.shared.perform(HTTPRequest(.get, "http://127.0.0.1:1/"))
                    return nil
                } catch {
                    return error.kind
                }
            }
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            let whole = limit.rlim_cur
            let next = dup(0)
            close(next)
            // Room for the poller and for the wakeup, and for none of what libcurl wants; then for one less, and for nothing.
            for room in [2, 1, 0] {
                limit.rlim_cur = rlim_t(next) + rlim_t(room)
                setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
                let kind = await outcome()
                #expect(kind == .noRoom)
                let ran = await Task(executorPreference: HTTPEngine.shared) { true }.value
                #expect(ran)
            }
            limit.rlim_cur = whole
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            let kind = await outcome()
            #expect(kind == .connect)
        }
    }

    @Test("A transfer that finds no thread for the engine fails, and the next one finds it running")
    func noThread() async {
        await #expect(processExitsWith: .success) {
            let before = Room.take()
            var kind: HTTPError.Kind?
            do throws(HTTPError) {
                _ = try await HTTPEngine.shared.perform(HTTPRequest(.get, "http://127.0.0.1:1/"))
            } catch {
                kind = error.kind
            }
            Room.giveBack(before)
            #expect(kind == .noRoom)
            #expect(NamedThread("again") {} != nil)
        }
    }
}

/// Address space, without which no thread can be made.
enum Room {
    static func take() -> rlimit {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
        let before = limit
        limit.rlim_cur = 1
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
        return before
    }

    static func giveBack(_ limit: rlimit) {
        var limit = limit
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    }
}

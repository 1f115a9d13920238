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
            limit.rlim_cur = 256
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            var taken: [Int32] = []
            func take() {
                while case let next = dup(0), next >= 0 { taken.append(next) }
            }
            // For nothing; for the poller; for its wakeup as well, but for nothing of libcurl's.
            for room in 0...2 {
                take()
                for _ in 0..<room { _ = taken.popLast().map { close($0) } }
                let kind = await outcome()
                #expect(kind == .noRoom || room == 2 && kind != nil)
                let ran = await Task(executorPreference: HTTPEngine.shared) { true }.value
                #expect(ran)
            }
            for descriptor in taken { close(descriptor) }
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

import CloudMountVFS
import Testing

@testable import CloudMountCommit

@Suite("Calls that make a write visible")
struct LandingTests {
    private let info = ObjectInfo(key: "f", size: 1, etag: ETag("v"), stored: Timestamp(seconds: 1))

    @Test("One that ends is told, and cannot be given up any more")
    func ends() async {
        let landing = Landing()
        landing.end(.success(info))
        landing.giveUp { Issue.record("it has ended") }
        #expect(await landing.outcome() == .success(info))
    }

    @Test("One that is given up is over for who waits, before it ends and after")
    func givenUp() async {
        let landing = Landing()
        async let outcome = landing.outcome()
        var announced = 0
        landing.giveUp { announced += 1 }
        landing.giveUp { announced += 1 }
        #expect(announced == 1)
        #expect(await outcome == .failure(.cancelled))
        landing.end(.success(info))
        #expect(await landing.outcome() == .success(info))
    }
}

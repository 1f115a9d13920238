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
        #expect(!landing.giveUp())
        #expect(await landing.outcome() == .success(info))
    }

    @Test("One that is given up is over for who waits, before it ends and after")
    func givenUp() async {
        let landing = Landing()
        async let outcome = landing.outcome()
        #expect(landing.giveUp())
        #expect(!landing.giveUp())
        #expect(await outcome == .failure(.cancelled))
        landing.end(.success(info))
        #expect(await landing.outcome() == .success(info))
    }
}

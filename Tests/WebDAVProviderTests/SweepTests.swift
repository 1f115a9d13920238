import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import WebDAVProvider

/// What lies in the folder for unfinished things when a mount starts; others may have put any number of it there.
@Suite("WebDAV: what others have left") struct SweepTests {
    private func aside(_ number: Int) -> String {
        "/dav/" + WebDAVAside.Name(ObjectKey("d\(number)/")).fresh(in: ".cloudmount/").string.dropLast()
    }

    private func fake(asides: Int, holding: Bool, staged: Int = 0) -> FakeDAV {
        let fake = FakeDAV()
        fake.makeFolder("/dav/.cloudmount")
        for number in 0..<asides {
            let folder = aside(number)
            fake.makeFolder(folder)
            if holding { fake.put(folder + "/f", "f") }
        }
        for number in 0..<staged { fake.put("/dav/.cloudmount/put-1000-\(number)", "x") }
        return fake
    }

    private func left(_ fake: FakeDAV) -> Int {
        fake.paths.count { $0.hasPrefix("/dav/.cloudmount/gone-") && !$0.hasSuffix("/f") }
    }

    @Test("One start ends fifty of each kind, when the mount is ready, and the next goes on")
    func bounded() async throws {
        let fake = fake(asides: 70, holding: true, staged: 70)
        let server = try ScriptedServer { request, _ in fake.answer(request) }
        let provider = try provider(server)
        let early = Atomic(0)
        fake.before.withLock {
            $0 = { _, request in
                let isOfSweep = request.path.contains("gone-") || request.path.contains("put-1000-")
                if isOfSweep, provider.dav.server == WebDAVServer() { early.add(1, ordering: .relaxed) }
                return nil
            }
        }
        func staged() -> Int { fake.paths.count { $0.contains("/put-1000-") } }
        try await provider.prepare(writable: true)
        await provider.swept()
        #expect(early.load(ordering: .relaxed) == 0)
        #expect(left(fake) == 20 && staged() == 20)
        try await provider.prepare(writable: true)
        await provider.swept()
        #expect(left(fake) == 0 && staged() == 0)
    }

    @Test(
        "A folder that could not be looked at or removed stays aside: its user has removed it",
        arguments: ["PROPFIND", "DELETE"])
    func unseen(method: String) async throws {
        let fake = fake(asides: 1, holding: false)
        fake.before.withLock {
            $0 = { _, request in
                request.method == method && request.path.contains("gone-") ? ScriptedAnswer(status: 504) : nil
            }
        }
        let (provider, server) = try await prepared(fake)
        await provider.swept()
        #expect(left(fake) == 1 && fake.node("/dav/d0") == nil)
        #expect(server.seen.contains { $0.method == method && $0.path.contains("gone-") })
        #expect(!server.seen.contains { $0.method == "MOVE" && $0.path.contains("gone-") })
    }

    @Test("It ends when it is cancelled, as by the end of its provider")
    func cancelled() async throws {
        let fake = fake(asides: 10, holding: true)
        let server = try ScriptedServer { request, _ in fake.answer(request) }
        let provider = try provider(server)
        fake.before.withLock {
            $0 = { [weak provider] _, request in
                if request.path.contains("gone-") { provider?.endSweep() }
                return nil
            }
        }
        try await provider.prepare(writable: true)
        await provider.swept()
        let touched = Set(server.seen.map(\.path).filter { $0.contains("gone-") }.map { $0.split(separator: "/")[2] })
        #expect(touched.count <= 1 && left(fake) >= 9)
    }
}

import CloudMountVFS
import Glibc
import TestServers
import Testing

@testable import B2Provider

@Suite("Leftovers of earlier processes")
struct LeftoverTests {
    private static let own = B2Leftovers.Owner(
        machine: "m", boot: "b", namespace: "n", process: "10", start: "100")

    private static let day = B2Leftovers.maxAge

    @Test(
        "Only what nobody goes on with is cancelled",
        arguments: [
            // This process, another one that lives, one that does not, one whose id is in use again.
            ("m.b.n.10.100", 0, false), ("m.b.n.11.110", 0, false), ("m.b.n.12.120", 0, true),
            ("m.b.n.11.999", 0, true),
            // Before this boot or in another namespace: by age.
            ("m.old.n.10.100", 0, false), ("m.old.n.10.100", day + 1, true), ("m.b.other.12.120", 10, false),
            ("m.b.other.12.120", day + 1, true),
            // Another machine: never.
            ("x.b.n.12.120", 100 * day, false), ("x.old.n.12.120", 100 * day, false),
        ])
    func rule(tag: String, age: Int, isLeftover: Bool) throws {
        let owner = try #require(B2Leftovers.Owner(tag))
        let living = ["10": "100", "11": "110"]
        #expect(
            B2Leftovers.isLeftover(owner, own: Self.own, began: 1_000_000, now: 1_000_000 + age) { living[$0] }
                == isLeftover)
    }

    @Test("The mark of this process is read back, and this process is alive")
    func own() throws {
        let owner = try #require(B2Leftovers.Owner(B2Leftovers.tag))
        #expect(owner == B2Leftovers.own)
        #expect(owner.process == "\(getpid())")
        #expect(B2Leftovers.start(ofProcess: "\(getpid())") == owner.start)
        #expect(!B2Leftovers.isLeftover(owner, began: 0, now: 10 * Self.day))
        #expect(B2Leftovers.start(ofProcess: "../self") == nil)
        #expect(B2Leftovers.Owner("junk") == nil)
        #expect(B2Leftovers.tag.utf8.count < 100)
    }

    @Test("A writable mount cancels them below its prefix; others' uploads and a read-only mount are left alone")
    func cancelling() async throws {
        var dead = B2Leftovers.own
        dead.process = "999999999"
        let tag = dead.text
        let script = try ScriptedB2 { request, _ in
            switch request.operation {
            case "b2_list_unfinished_large_files":
                .json(
                    """
                    {"files": [\(file("p/a", id: "ours", action: "start", info: "{\"cm_session\": \"\(tag)\"}")),
                    \(file("p/b", id: "theirs", action: "start")),
                    \(file("p/c", id: "living", action: "start", info: "{\"cm_session\": \"\(B2Leftovers.tag)\"}"))],
                    "nextFileId": null}
                    """)
            case "b2_cancel_large_file": .json("{\"fileId\": \"4_z\"}")
            default: nil
            }
        }
        let provider = try script.provider(prefix: "p/")
        try await provider.prepare(writable: false)
        #expect(!script.operations.contains("b2_list_unfinished_large_files"))
        try await provider.prepare(writable: true)
        let asked = script.seen.first { $0.operation == "b2_list_unfinished_large_files" }
        #expect(asked?.text == "{\"bucketId\":\"b1\",\"maxFileCount\":100,\"namePrefix\":\"p/\"}")
        let cancelled = script.seen.filter { $0.operation == "b2_cancel_large_file" }.map(\.text)
        #expect(cancelled == ["{\"fileId\":\"ours\"}"])
    }
}

import TestSeeds
import Testing

@testable import CloudMountDaemon

@Suite("Damaged messages")
struct DamageTests {
    @Test("Whatever comes through the control socket is a message or an error")
    func messages() throws {
        let report = ReloadReport(
            isDryRun: true, mounts: [ReloadReport.Mount(name: "m", outcome: .failed, reason: "r")], warnings: ["w"])
        var answer = ControlAnswer(ok: false, error: "e", remarks: ["r"])
        answer.reload = report
        let samples = [
            String(decoding: try ControlJSON.line(ControlRequest(.unmount, target: "/m", lazy: true)), as: UTF8.self),
            String(
                decoding: try ControlJSON.line(ControlRequest(.remount, target: "ü", readOnly: false, done: true)),
                as: UTF8.self),
            String(decoding: try ControlJSON.line(answer), as: UTF8.self),
        ]
        var whole = 0
        for bytes in Damage(samples, marks: "{}[]:,\"\\utrefalsn0-. ", count: 6000) {
            if (try? ControlJSON.decode(ControlRequest.self, from: bytes)) != nil { whole += 1 }
            guard let answer = try? ControlJSON.decode(ControlAnswer.self, from: bytes) else { continue }
            whole += 1
            _ = answer.reload?.text
            _ = try ControlJSON.pretty(answer)
        }
        #expect(whole > 100)
        for depth in [600, 30_000] {
            let deep = Array(String(repeating: "{\"command\":", count: depth).utf8)
            #expect(throws: (any Error).self) { try ControlJSON.decode(ControlRequest.self, from: deep) }
        }
    }
}

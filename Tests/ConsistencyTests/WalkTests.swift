import Glibc
import MountHarness
import TestSeeds
import Testing

/// The whole against its promises: `make test` takes ten thousand steps, `make soak` as many as STEPS says.
@Suite("Three actors, one bucket")
struct WalkTests {
    private static let stepsOfRound = 240

    @Test("Nothing is lost and nothing mixed, whatever the line, the other client and the restarts do")
    func walk() async throws {
        let steps = getenv("STEPS").flatMap { Int(String(cString: $0)) } ?? 10_000
        let repeated = getenv("SEED").flatMap { UInt64(String(cString: $0)) }
        let rounds = repeated == nil ? max(1, steps / Self.stepsOfRound) : 1
        let all = repeated.map { [$0] } ?? seeds(rounds, "consistency")
        var found: [String: (count: Int, rounds: Int, example: String)] = [:]
        try await withThrowingTaskGroup(of: (Round.Setting, [String: (count: Int, example: String)]).self) { group in
            var rest = all[...]
            func next() {
                guard let seed = rest.popFirst() else { return }
                group.addTask {
                    let round = try Round(seed: seed)
                    return (round.setting, try await round.run(steps: Self.stepsOfRound))
                }
            }
            for _ in 0..<4 { next() }
            while let (setting, violations) = try await group.next() {
                for (kind, violation) in violations {
                    let old = found[kind] ?? (0, 0, "\(setting): \(violation.example)")
                    found[kind] = (old.count + violation.count, old.rounds + 1, old.example)
                }
                next()
            }
        }
        for (kind, violation) in found.sorted(by: { $0.key < $1.key }) {
            Issue.record("\(kind), \(violation.count) times in \(violation.rounds) rounds; \(violation.example)")
        }
    }
}

import CloudMountVFS
import Testing

@testable import CloudMountLayers

@Suite("When a breaker opens and closes") struct BreakerMachineTests {
    private func seconds(_ value: Double) -> Duration { .milliseconds(Int(value * 1000)) }

    private struct Call {
        var verdict: BreakerMachine.Verdict
        var start: Double
        var end: Double
    }

    private func run(_ calls: [Call]) -> (machine: BreakerMachine, changes: [BreakerMachine.Change]) {
        var machine = BreakerMachine()
        var changes: [BreakerMachine.Change] = []
        for call in calls {
            let change = machine.record(call.verdict, start: seconds(call.start), now: seconds(call.end))
            if let change { changes.append(change) }
        }
        return (machine, changes)
    }

    /// Calls that end so, one every `gap` seconds.
    private func run(_ count: Int, every gap: Double = 1, _ verdict: (Int) -> BreakerMachine.Verdict) -> (
        machine: BreakerMachine, changes: [BreakerMachine.Change]
    ) {
        run((0..<count).map { Call(verdict: verdict($0), start: Double($0) * gap, end: Double($0) * gap) })
    }

    @Test("five failures in a row open it, four do not, and an answer in between begins anew")
    func failures() {
        #expect(run(5) { _ in .failed }.changes == [.opened])
        let four = run(4) { _ in .failed }
        #expect(four.changes.isEmpty)
        #expect(!four.machine.isUntroubled)
        let mixed = run(20) { $0 % 5 == 4 ? .answered : .failed }
        #expect(mixed.changes.isEmpty)
        #expect(mixed.machine.isUntroubled)
    }

    @Test("two time-outs in a row open it, for in ten seconds nothing was heard")
    func silence() {
        let first = Call(verdict: .failed, start: 0, end: 20)
        let second = Call(verdict: .failed, start: 0.1, end: 20.1)
        #expect(run([first, second]).changes == [.opened])
        #expect(run([first]).changes.isEmpty)
        #expect(run([first, Call(verdict: .answered, start: 20, end: 20), second]).changes.isEmpty)
    }

    @Test("what was cancelled says nothing")
    func nothing() {
        #expect(run(50) { _ in .nothing }.machine.isUntroubled)
    }

    @Test("kept-alive connections that had died say nothing of the endpoint, however many")
    func dropped() {
        let dropped = VFSError(.connectionFailed, "the connection had died", retry: .immediately)
        #expect(dropped.verdict == .nothing)
        #expect(VFSError(.connectionFailed, "no connection", retry: .backoff).verdict == .failed)
        #expect(run(20) { _ in dropped.verdict }.machine.isUntroubled)
    }

    @Test("an odd answer that the store would give again says that it is there; one that may be a proxy's does not")
    func oddAnswers() {
        let wire = VFSError.Wire(operation: "HeadObject", endpoint: "e", status: 200)
        let own = VFSError(.malformedResponse, "no length", retry: .never, wire: wire)
        #expect(own.verdict == .answered)
        #expect(run(50) { _ in own.verdict }.machine.isUntroubled)
        #expect(VFSError(.malformedResponse, "a page", retry: .backoff, wire: wire).verdict == .failed)
    }

    @Test("throttling opens it only when there is nothing else for half a minute")
    func throttling() {
        #expect(run(500, every: 0.01) { _ in .throttled }.changes.isEmpty)
        #expect(run(40) { _ in .throttled }.changes == [.opened])
        #expect(run(400) { $0 % 20 == 19 ? .answered : .throttled }.changes.isEmpty)
    }

    @Test("callers wait while the outage is young, then are refused, each after its own patience from the beginning")
    func admission() {
        let silent = Call(verdict: .failed, start: 0, end: 20)
        let machine = run([silent, silent]).machine
        #expect(machine.admit(now: seconds(21), patience: seconds(30)) == .wait(until: seconds(30)))
        #expect(machine.admit(now: seconds(29.9), patience: seconds(30)) == .wait(until: seconds(30)))
        #expect(machine.admit(now: seconds(30), patience: seconds(30)) == .refuse)
        #expect(machine.admit(now: seconds(21), patience: seconds(5)) == .refuse)
        #expect(BreakerMachine().admit(now: .zero, patience: .zero) == .go)
    }

    @Test("one probe at a time, at growing intervals of five seconds at most")
    func probes() {
        var machine = run(5, every: 0.01) { _ in .failed }.machine
        var now = 0.05
        var starts: [Double] = []
        while now < 40 {
            if machine.beginProbe(now: seconds(now)) {
                let begunTwice = machine.beginProbe(now: seconds(now + 100))
                #expect(!begunTwice, "one at a time")
                starts.append(now)
                let change = machine.endProbe(.failed, now: seconds(now))
                #expect(change == nil)
            }
            now += 0.01
        }
        let gaps = zip(starts.dropFirst(), starts).map { ($0 - $1) }
        #expect((starts.first ?? 9) < 0.4)
        #expect(zip(gaps, gaps.dropFirst()).allSatisfy { $0 <= $1 + 0.02 })
        #expect(gaps.allSatisfy { $0 < 5.1 })
        #expect(gaps.count > 8)
    }

    @Test("an answered probe closes it, also one that asks for less; so does any call that was under way")
    func closing() {
        for verdict in [BreakerMachine.Verdict.answered, .throttled] {
            var machine = run(5) { _ in .failed }.machine
            let begun = machine.beginProbe(now: seconds(10))
            let change = machine.endProbe(verdict, now: seconds(12))
            #expect(begun)
            #expect(change == .closed(after: seconds(12)))
            #expect(machine.isUntroubled)
        }
        var machine = run(5) { _ in .failed }.machine
        let change = machine.record(.answered, start: .zero, now: seconds(7))
        #expect(change == .closed(after: seconds(7)))
        #expect(machine.admit(now: seconds(8), patience: .zero) == .go)
    }

    @Test("random courses: never closed without an answer, never open without a reason")
    func random() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var state = seed
        func next(_ bound: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % bound
        }
        for _ in 0..<200 {
            var machine = BreakerMachine()
            var failedInARow = 0
            var now = 0.0
            for _ in 0..<200 {
                now += Double(next(1000)) / 500
                let wasOpen = machine.outage != nil
                if wasOpen, machine.beginProbe(now: seconds(now)) {
                    let verdict: BreakerMachine.Verdict = next(3) == 0 ? .answered : .failed
                    _ = machine.endProbe(verdict, now: seconds(now))
                    #expect((machine.outage == nil) == (verdict == .answered), "seed \(seed)")
                    if verdict == .answered { failedInARow = 0 }
                    continue
                }
                let verdict: BreakerMachine.Verdict = next(4) == 0 ? .answered : .failed
                _ = machine.record(verdict, start: seconds(now - Double(next(3))), now: seconds(now))
                failedInARow = verdict == .answered ? 0 : failedInARow + 1
                if verdict == .answered { #expect(machine.outage == nil, "seed \(seed)") }
                if !wasOpen, machine.outage != nil { #expect(failedInARow >= 2, "seed \(seed)") }
                if failedInARow >= 5 { #expect(machine.outage != nil, "seed \(seed)") }
            }
        }
    }
}

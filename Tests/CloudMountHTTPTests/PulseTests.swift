import Testing

@testable import CloudMountHTTP

@Suite("Stall detection")
struct PulseTests {
    private static func options(patience: Int = 10, rate: Int = 1) -> HTTPOptions {
        var options = HTTPOptions()
        options.stallTimeout = .seconds(patience)
        options.stallBytesPerSecond = rate
        return options
    }

    /// The second at which the transfer counts as stalled, asked four times a second for a minute.
    private static func stall(
        _ options: HTTPOptions, unsent: (Double) -> Int? = { _ in 0 }, moving: (Double, inout TransferPulse) -> Void
    ) -> Double? {
        var pulse = TransferPulse(options)
        for step in 0..<240 {
            let second = Double(step) / 4
            moving(second, &pulse)
            let now = 1_000_000_000 * 1000 + UInt64(step) * 250_000_000
            if pulse.isStalled(at: now, unsent: { unsent(second) }) { return second }
        }
        return nil
    }

    @Test("What never moves stalls when the patience is over")
    func silent() {
        #expect(Self.stall(Self.options()) { _, _ in } == 10)
    }

    @Test("What moves at the wanted speed never stalls, however coarse its steps")
    func moving() {
        #expect(
            Self.stall(Self.options()) { second, pulse in if second == second.rounded() { pulse.moved += 1 } } == nil)
        #expect(
            Self.stall(Self.options(rate: 100)) { second, pulse in
                if Int(second * 4).isMultiple(of: 32) { pulse.moved += 801 }
            } == nil)
    }

    @Test("What moves below the wanted speed stalls")
    func slow() {
        #expect(Self.stall(Self.options(rate: 1000)) { _, pulse in pulse.moved += 10 } == 10)
    }

    @Test("A burst before the silence does not shorten the patience")
    func burst() {
        #expect(Self.stall(Self.options()) { second, pulse in if second == 7 { pulse.moved += 1_000_000 } } == 17)
    }

    @Test("An upload whose bytes leave the socket moves, though no callback is called")
    func draining() {
        let unsent: (Double) -> Int? = { second in max(0, 30_000 - Int(second * 1000)) }
        #expect(Self.stall(Self.options(rate: 500), unsent: unsent) { _, _ in } == 40)
        #expect(Self.stall(Self.options(), unsent: { _ in 30_000 }) { _, _ in } == 10)
        #expect(Self.stall(Self.options(), unsent: { _ in nil }) { _, _ in } == 10)
    }

    @Test("An answer that never ends is overdue five minutes after its head, and later by what the work is worth")
    func overdue() {
        for (work, expected) in [(0, 300), (5 << 30, 836), (Int.max, 3900)] {
            var options = HTTPOptions()
            options.stallBytesPerSecond = 0
            options.allowWork(on: work)
            var pulse = TransferPulse(options)
            let start: UInt64 = 1_000_000_000_000
            let second = (0..<5000).first { second in
                pulse.moved += 1
                let now = start + UInt64(second) * 1_000_000_000
                return pulse.isStalled(at: now, unsent: { 0 }) || pulse.isOverdue(at: now)
            }
            #expect(second == expected)
        }
    }

    @Test("What has a limit for the whole of it is over then, however it moves, and whatever it waits for")
    func whole() {
        var options = HTTPOptions()
        options.wholeTimeout = .seconds(20)
        for (options, expected) in [(options, 20), (HTTPOptions(), nil)] {
            var pulse = TransferPulse(options)
            let start: UInt64 = 1_000_000_000_000
            let second = (0..<5000).first { second in
                pulse.moved += 1_000_000
                pulse.hold()
                return pulse.isOver(at: start + UInt64(second) * 1_000_000_000)
            }
            #expect(second == expected)
        }
    }

    @Test("Time on hold does not count")
    func held() {
        #expect(Self.stall(Self.options()) { second, pulse in if second <= 30 { pulse.hold() } } == 40)
    }
}

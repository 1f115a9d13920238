import CloudMountVFS
import Testing

@testable import CloudMountLayers

@Suite("How long a transfer may crawl") struct PaceTests {
    private final class Idle: TransferMeter.Expirable {
        func expire() {}
    }

    /// The second at which a transfer's time is over, looked at once a second; nil when it is not within ten minutes.
    private func end(limit: Int = 30, _ step: (Int, TransferMeter) -> Void) -> Int? {
        let meter = TransferMeter()
        let start = ContinuousClock.now
        var pace = Pace(meter, limit: .seconds(limit), now: start)
        for second in 0..<600 {
            step(second, meter)
            if pace.deadline(start + .seconds(second)) <= start + .seconds(second) { return second }
        }
        return nil
    }

    @Test("a connection on which nothing comes, or one byte a second, ends when the deadline has passed")
    func crawling() {
        #expect(end { _, meter in meter.enter(Idle()) } == 30)
        #expect(
            end { _, meter in
                meter.enter(Idle())
                meter.add(1)
            }.map { $0 <= 32 } == true)
        #expect(end(limit: 5) { _, meter in meter.enter(Idle()) } == 5)
    }

    @Test("an honest slow line goes on for as long as it takes")
    func slow() {
        #expect(
            end { _, meter in
                meter.enter(Idle())
                meter.add(200)
            } == nil)
        // In gulps, as a congested line has them.
        #expect(
            end { second, meter in
                meter.enter(Idle())
                if second.isMultiple(of: 25) { meter.add(20_000) }
            } == nil)
    }

    @Test("what began well and then stops ends a deadline after the last bytes")
    func stopping() {
        let second = end { second, meter in
            meter.enter(Idle())
            if second < 100 { meter.add(20_000) }
        }
        #expect(second.map { (128...131).contains($0) } == true)
    }

    @Test("time in which the receiver has no room does not count, nor does work that no transport carries")
    func held() {
        #expect(
            end { _, meter in
                meter.enter(Idle())
                meter.hold()
            } == nil)
        #expect(end { _, _ in } == nil)
    }

    @Test(
        "a store that is silent over a copy is asked something else, and given up when it does not answer that either")
    func silentWork() async {
        let asked = Shared(0)
        let expired = await Watchdog().pace(
            .milliseconds(40),
            unless: {
                asked.change { $0 += 1 }
                return asked.value < 4
            },
            {
                let (ends, end) = AsyncStream.makeStream(of: Void.self)
                let transfer = Silent(end: end)
                TransferMeter.current?.enter(transfer)
                for await _ in ends {}
                TransferMeter.current?.leave(transfer)
            }
        ).expired
        #expect(expired)
        #expect(asked.value == 4)
    }

    private final class Silent: TransferMeter.Expirable {
        private let end: AsyncStream<Void>.Continuation
        init(end: AsyncStream<Void>.Continuation) { self.end = end }
        func expire() { end.finish() }
    }
}

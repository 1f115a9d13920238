import CloudMountPlatform
import Glibc
import Synchronization
import Testing

@testable import CloudMountFUSE

@Suite("Signals")
struct SignalTests {
    @Test("What is blocked or ignored is not pending")
    func status() {
        let text = """
            Name:\tcp
            SigPnd:\t0000000000000100
            ShdPnd:\t0000000000400002
            SigBlk:\t0000000000400000
            SigIgn:\t0000000000000000
            SigCgt:\t0000000000000002
            """
        #expect(PendingSignals(status: text) == PendingSignals(mask: 0x102))
        #expect(PendingSignals(status: "Name:\tcp\n") == nil)
        #expect(PendingSignals(thread: 0) == nil)
        // But for the end of a child of another test.
        let now = PendingSignals(thread: getpid())
        #expect(now.map { $0.mask & ~(1 << UInt64(SIGCHLD - 1)) } == 0)
    }

    @Test("Who is to end is answered at once, a timer's owner after a while, news never")
    func verdicts() {
        func signals(_ number: Int32) -> PendingSignals { PendingSignals(mask: 1 << UInt64(number - 1)) }
        for number in [SIGINT, SIGTERM, SIGKILL, SIGHUP, SIGQUIT] { #expect(signals(number).endWait(after: .zero)) }
        for number in [SIGALRM, SIGUSR1, SIGUSR2] {
            #expect(!signals(number).endWait(after: .seconds(1)))
            #expect(signals(number).endWait(after: .seconds(4)))
        }
        for number in [SIGURG, SIGCHLD, SIGWINCH, SIGPROF] { #expect(!signals(number).endWait(after: .seconds(99))) }
        #expect(!PendingSignals(mask: 0).endWait(after: .seconds(99)))
    }

    @Test("An interruption that was no reason to give up becomes one with the next signal")
    func later() async {
        let mask = Atomic<UInt64>(1 << UInt64(SIGURG - 1))
        let heard = Atomic(0)
        let interrupts = Interrupts(pending: { _ in PendingSignals(mask: mask.load(ordering: .relaxed)) })
        interrupts.watch(7, thread: 1) { heard.add(1, ordering: .relaxed) }
        interrupts.interrupt(7)
        try? await Task.sleep(for: .milliseconds(200))
        #expect(heard.load(ordering: .relaxed) == 0)
        mask.store(1 << UInt64(SIGINT - 1), ordering: .relaxed)
        for _ in 0..<400 where heard.load(ordering: .relaxed) == 0 { try? await Task.sleep(for: .milliseconds(10)) }
        #expect(heard.load(ordering: .relaxed) == 1)
        interrupts.interrupt(7)
        #expect(heard.load(ordering: .relaxed) == 1)
    }
}

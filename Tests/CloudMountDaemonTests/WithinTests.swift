import Glibc
import Synchronization
import Testing

@testable import CloudMountDaemon

@Suite("Waiting with a limit", .timeLimit(.minutes(15)))
struct WithinTests {
    @Test("what comes in time is returned, what comes late goes elsewhere, once each")
    func both() async {
        let late = Lines()
        #expect(await within(.seconds(3600), late: { (value: Int) in late.add("\(value)") }) { 1 } == 1)
        let gate = Flag()
        let value = await within(.milliseconds(5), late: { (value: Int) in late.add("\(value)") }) {
            while !gate.isSet { try? await Task.sleep(for: .milliseconds(1)) }
            return 2
        }
        #expect(value == nil && late.all.isEmpty)
        gate.set()
        while late.all != ["2"] { try? await Task.sleep(for: .milliseconds(1)) }
    }

    @Test("a limit cancels the work only where that is asked for")
    func cancelling() async {
        for cancels in [true, false] {
            let over = Lines()
            let end = Flag()
            let value = await within(
                .milliseconds(5), cancelling: cancels, late: { (wasCancelled: Bool) in over.add("\(wasCancelled)") }
            ) {
                while !Task.isCancelled, !end.isSet { try? await Task.sleep(for: .milliseconds(1)) }
                return Task.isCancelled
            }
            #expect(value == nil)
            if !cancels { end.set() }
            while over.all != ["\(cancels)"] { try? await Task.sleep(for: .milliseconds(1)) }
        }
    }

    @Test("a cancelled wait ends at once and cancels the work; with a grace it takes what that brings")
    func cancelled() async {
        for grace in [Duration.zero, .seconds(3600)] {
            let begun = Flag()
            let task = Task {
                await within(.seconds(3600), grace: grace) {
                    begun.set()
                    while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) }
                    return 3
                }
            }
            while !begun.isSet { await Task.yield() }
            task.cancel()
            #expect(await task.value == (grace == .zero ? nil : 3))
        }
    }

    @Test("a call that hangs ends its wait; until it is over others of its kind are not begun, of other kinds they are")
    func work() async {
        let work = MountWork()
        let (gate, late) = (Flag(), Lines())
        let first = await work.run(.unmount, limit: .milliseconds(20), late: { (value: String) in late.add(value) }) {
            while !gate.isSet { usleep(1000) }
            return "late"
        }
        #expect(first == nil)
        #expect(await work.run(.unmount, limit: .seconds(3600)) { "second" } == nil)
        #expect(await work.run(.detach, limit: .seconds(3600)) { "other" } == "other")
        gate.set()
        while late.all != ["late"] { try? await Task.sleep(for: .milliseconds(1)) }
        #expect(await work.run(.unmount, limit: .seconds(3600)) { "third" } == "third")
    }
}

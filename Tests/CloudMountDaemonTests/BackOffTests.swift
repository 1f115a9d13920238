import Testing

@testable import CloudMountDaemon

@Test("pauses double from one second to a minute")
func pauses() {
    var backOff = BackOff()
    let seconds = (0..<8).map { _ in backOff.pause().components.seconds }
    #expect(seconds == [1, 2, 4, 8, 16, 32, 60, 60])
}

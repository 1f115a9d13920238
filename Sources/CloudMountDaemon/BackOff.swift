/// The pauses between attempts to bring a mount up: 1 s, doubled up to 60 s.
struct BackOff: Sendable {
    private var next: Duration = .seconds(1)

    mutating func pause() -> Duration {
        defer { next = min(next * 2, .seconds(60)) }
        return next
    }
}

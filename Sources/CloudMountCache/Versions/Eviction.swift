import Glibc

/// Chooses what goes when room is short. A value.
///
/// What was used only once is the first to go: going through a large tree once must not throw out what is read every day. So a
/// version that was used again a minute or more after it came counts as sixteen times as young as it is.
struct Eviction {
    struct Candidate: Equatable, Sendable {
        var id: VersionID
        /// Bytes of the version.
        var size: Int
        /// Seconds since it was last used.
        var age: Int
        /// It was used again.
        var isSettled: Bool
        /// Bytes on the disk.
        var bytes: Int
    }

    /// The mode of a file that was used again: where the store keeps that. The sticky bit means nothing for a file.
    static let settledMode: mode_t = 0o1600

    /// So many are looked at before one is chosen, and so many bytes as are wanted four times over.
    static let sample = 256

    private(set) var candidates: [Candidate] = []
    private var bytes = 0

    mutating func add(_ candidate: Candidate) {
        candidates.append(candidate)
        bytes += candidate.bytes
    }

    func isEnough(for wanted: Int) -> Bool { candidates.count >= Self.sample && bytes / 4 >= wanted }

    /// In the order in which they should go.
    var order: [Candidate] {
        candidates.sorted { Self.weight($0) > Self.weight($1) }
    }

    private static func weight(_ candidate: Candidate) -> Int {
        max(0, min(candidate.age, 1 << 40)) * (candidate.isSettled ? 1 : 16)
    }
}

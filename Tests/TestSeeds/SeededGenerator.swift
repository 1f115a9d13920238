import Glibc

/// SplitMix64: the same numbers for the same seed, everywhere.
public struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// Fresh seeds, printed; `SEED` in the environment repeats a run.
public func seeds(_ count: Int, _ name: String) -> [UInt64] {
    if let text = getenv("SEED"), let seed = UInt64(String(cString: text)) { return [seed] }
    let first = UInt64.random(in: 0...UInt64(UInt32.max))
    print("\(name): seeds \(first) to \(first + UInt64(count) - 1)")
    return (0..<UInt64(count)).map { first + $0 }
}

/// What a change of a file's bytes has led to. The later of two has the higher generation, whoever is told of them first.
struct ContentChange: Sendable {
    let size: Int
    let generation: UInt64
}

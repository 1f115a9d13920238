/// What providers have found out about stores, kept on this machine from one start to the next.
///
/// It may be lost at any time, and says only what was seen once: who reads it decides how long that holds.
public protocol ProviderMemory: Sendable {
    /// Nil when nothing is kept under `name`, or nothing that can be read.
    /// - Parameter name: letters and digits.
    func recall(_ name: String) async -> [UInt8]?

    /// Keeps up to 4 KiB in the place of what was kept before. What cannot be kept is lost.
    func keep(_ bytes: [UInt8], as name: String) async
}

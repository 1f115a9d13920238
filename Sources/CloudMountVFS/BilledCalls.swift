/// Calls that a store's vendor bills alike.
public struct BilledCalls: Sendable, Hashable {
    /// The vendor's word for them, such as `class C`.
    public var group: String
    /// Since the mount began, as the vendor counts them.
    public var calls: Int

    public init(group: String, calls: Int) {
        self.group = group
        self.calls = calls
    }
}

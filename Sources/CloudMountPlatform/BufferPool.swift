/// A budget of reusable memory.
public final class BufferPool: Sendable {
    public init() {}
}

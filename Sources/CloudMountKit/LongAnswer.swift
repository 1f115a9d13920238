/// Answers that take long to read.
public enum LongAnswer {
    /// Reads an answer where it may take its time: a long one away from the thread that all transfers share.
    /// - Parameters:
    ///   - size: of the answer, in bytes.
    ///   - limit: what is longer is read on a thread of the common pool.
    public static func read<Value: Sendable>(
        _ size: Int, over limit: Int = 256 << 10, _ work: @escaping @Sendable () -> Value
    ) async -> Value {
        size > limit ? await Task.detached { work() }.value : work()
    }
}

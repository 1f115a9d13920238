/// Work on so much that a step of it would hold up others.
package enum LongWork {
    /// As many names or objects as one step goes through.
    package static let slice = 1000

    /// Works on `count` things: on many away from the thread that all transfers share. It is not interrupted.
    package static func run<Value: Sendable>(_ count: Int, _ work: @escaping @Sendable () -> Value) async -> Value {
        count > slice ? await Task.detached { work() }.value : work()
    }

    /// Lets others of the same thread have their turn after each slice of a loop.
    package static func pause(after count: Int) async {
        if count % slice == 0 { await Task.yield() }
    }
}

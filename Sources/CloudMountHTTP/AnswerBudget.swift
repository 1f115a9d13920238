import Synchronization

/// What the answers that are collected in memory may take together, so that endpoints cannot fill it however much they send at a time.
final class AnswerBudget: Sendable {
    /// Of the process.
    static let shared = AnswerBudget(limit: 128 << 20)
    /// Bytes of each answer that do not count: nearly all answers are smaller, and need no room.
    static let free = 1 << 20

    private let limit: Int
    private let taken = Atomic(0)

    init(limit: Int) { self.limit = limit }

    var used: Int { taken.load(ordering: .relaxed) }

    fileprivate func take(_ count: Int) -> Bool {
        if taken.wrappingAdd(count, ordering: .relaxed).newValue <= limit { return true }
        give(count)
        return false
    }

    fileprivate func give(_ count: Int) { taken.wrappingSubtract(count, ordering: .relaxed) }
}

/// The part of the budget that one answer has, until nobody has the answer any more.
final class AnswerRoom: Sendable {
    private let budget: AnswerBudget
    private let held = Atomic(0)

    init(_ budget: AnswerBudget) { self.budget = budget }

    deinit { budget.give(held.load(ordering: .relaxed)) }

    /// - Parameter bytes: that the answer takes in memory.
    /// - Returns: false when there is no room for so many.
    func cover(_ bytes: Int) -> Bool {
        let more = bytes - AnswerBudget.free - held.load(ordering: .relaxed)
        if more <= 0 { return true }
        guard budget.take(more) else { return false }
        held.wrappingAdd(more, ordering: .relaxed)
        return true
    }
}

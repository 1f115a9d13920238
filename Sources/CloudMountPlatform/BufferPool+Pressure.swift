import Synchronization

extension BufferPool {
    /// A callback that itself takes memory gets what there is, and asks nobody.
    @TaskLocal private static var isReclaiming = false

    /// Has buffers given back that nobody waits for, until `size` bytes have room: by the share itself, then by others that
    /// have more than their guarantee, the one with most beyond it first. Less than a guarantee would make no room: it
    /// stays promised. Called without a lock.
    /// - Parameter pressure: `ahead`: room that leaves some to those who wait.
    /// - Returns: whether there is room.
    @discardableResult
    func reclaim(_ size: Int, for share: Int, _ pressure: MemoryPressure = .needed) -> Bool {
        if BufferPool.isReclaiming { return false }
        var asked: Set<Int> = []
        let ahead = pressure == .ahead
        while true {
            let next = state.withLock { state -> (share: Int, count: Int, reclaim: Reclaimer)? in
                let limit = ahead ? limitAhead(state, for: share) : state.limit
                if size > limit || hasRoom(state, size, for: share, within: limit) { return nil }
                return whomToAsk(state, size, for: share, within: limit, asked: asked)
            }
            guard let next else { break }
            asked.insert(next.share)
            _ = BufferPool.$isReclaiming.withValue(true) { next.reclaim(next.count, pressure) }
        }
        return state.withLock { state in
            hasRoom(state, size, for: share, within: ahead ? limitAhead(state, for: share) : state.limit)
        }
    }

    private func whomToAsk(
        _ state: State, _ size: Int, for share: Int, within limit: Int, asked: Set<Int>
    ) -> (share: Int, count: Int, reclaim: Reclaimer)? {
        let missing = max(
            state.used + size - limit, state.used + size + othersPromised(state, except: share) - state.limit)
        let own = state.shares[share] ?? 0
        if own > 0, !asked.contains(share), let reclaim = state.reclaimers[share] {
            // When there is room that others wait for, what it has itself is all that can help it.
            return (share, min(own, missing > 0 ? missing : size), reclaim)
        }
        let guarantee = guarantee(state)
        let others = state.shares.filter {
            $0.key != share && $0.value > guarantee && !asked.contains($0.key) && state.reclaimers[$0.key] != nil
        }
        guard missing > 0, let most = others.max(by: { ($0.value, $1.key) < ($1.value, $0.key) }),
            let reclaim = state.reclaimers[most.key]
        else { return nil }
        return (most.key, min(missing, most.value - guarantee), reclaim)
    }

    func onPressure(_ share: Int, _ reclaim: @escaping Reclaimer) {
        state.withLock { $0.reclaimers[share] = reclaim }
        lookAgain()
    }

    /// Has what may have become reclaimable given back to those who wait. One does it at a time, for all who ask meanwhile too.
    func lookAgain() {
        let isMine = state.withLock { state in
            guard !state.waiters.isEmpty, !state.reclaimers.isEmpty else { return false }
            state.isToLook = true
            defer { state.isLooking = true }
            return !state.isLooking
        }
        guard isMine else { return }
        while true {
            let waiters = state.withLock { state -> [(share: Int, size: Int)]? in
                guard state.isToLook else {
                    state.isLooking = false
                    return nil
                }
                state.isToLook = false
                return state.waiters.map { (share: $0.share, size: $0.size) }
            }
            guard let waiters else { return }
            for waiter in waiters { reclaim(waiter.size, for: waiter.share) }
        }
    }
}

import Synchronization

extension StagingArea {
    /// Bytes that other copies exist of, which whoever keeps them gives back when writers want the room.
    struct Clean: Sendable {
        var bytes = 0
        /// Gives back so many bytes, if it can; returns how many it has. Blocks on local disk.
        var evict: (@Sendable (Int) -> Int)?
    }

    /// Names who keeps clean bytes in the directory.
    public func onPressure(_ evict: @escaping @Sendable (Int) -> Int) {
        state.withLock { $0.clean.evict = evict }
    }

    /// Bytes of the limit that are clean.
    public var clean: Int { state.withLock { $0.clean.bytes } }

    /// What clean bytes leave to writers, so that these seldom have to wait for room.
    private static func reserve(of limit: Int) -> Int { min(limit / 8, 256 << 20) }

    /// What the disk is short of for `count` more bytes; `count` at least.
    func shortage(of count: Int) -> Int { count + max(0, -(spareBytes() ?? 0)) }

    /// Bytes of which no more than that may be clean.
    public var mostClean: Int {
        state.withLock { $0.limit - Self.reserve(of: $0.limit) }
    }

    /// Takes room for clean bytes. Asks the disk now and then how much of it is free.
    /// - Parameter isOnDisk: they lie there already.
    /// - Returns: false when there is none.
    public func takeClean(_ count: Int, isOnDisk: Bool = false) -> Bool {
        for _ in 0..<2 {
            let isTaken: Bool? = state.withLock { state in
                guard state.used + state.clean.bytes + count <= state.limit - Self.reserve(of: state.limit) else {
                    return false
                }
                guard isOnDisk || state.allowance >= count else { return nil }
                state.clean.bytes += count
                if !isOnDisk { state.allowance -= count }
                return true
            }
            if let isTaken { return isTaken }
            guard let spare = spareBytes(), spare >= count else { return false }
            state.withLock { $0.allowance = max(count, min(spare, Self.allowanceStep)) }
        }
        return false
    }

    /// More or fewer clean bytes than were taken.
    public func changeClean(by count: Int) { state.withLock { $0.clean.bytes = max(0, $0.clean.bytes + count) } }

    /// Has clean bytes given back, where there are some.
    /// - Returns: how many.
    func evict(_ count: Int) -> Int { state.withLock { $0.clean.evict }?(count) ?? 0 }
}

public import CloudMountVFS
import Glibc

/// Cheap readings of the system's clocks.
public enum SystemClock {
    /// Wall time, nanosecond resolution.
    public static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(seconds: time.tv_sec, nanoseconds: time.tv_nsec)
    }

    /// Nanoseconds since boot, never stepping back.
    public static func monotonic() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

extension UInt64 {
    /// How long ago `earlier` was at this moment, both of one monotonic clock; 0 when it was later. Two threads may read the clock in one order
    /// and take a lock in the other.
    public func elapsed(since earlier: UInt64) -> UInt64 { self > earlier ? self - earlier : 0 }
}

import CLinux
import Glibc

/// An `epoll(7)` instance, for one thread that drives many sockets.
public final class Poller {
    public struct Interest: OptionSet, Sendable, Hashable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        public static let read = Interest(rawValue: 0x001)
        public static let write = Interest(rawValue: 0x004)
        /// Reported whether asked for or not.
        public static let error = Interest(rawValue: 0x008)
        /// Reported whether asked for or not.
        public static let hangUp = Interest(rawValue: 0x010)
        /// Reports a change once instead of a state again and again.
        public static let edge = Interest(rawValue: 1 << 31)
    }

    private let descriptor: Descriptor
    private let events: UnsafeMutablePointer<epoll_event>
    private let capacity: Int

    /// Nil when the process has no descriptor left.
    /// - Parameter capacity: the most events that one `wait` reports.
    public init?(capacity: Int = 256) {
        let raw = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard raw >= 0 else { return nil }
        descriptor = Descriptor(owning: raw)
        events = .allocate(capacity: capacity)
        self.capacity = capacity
    }

    deinit { events.deallocate() }

    /// Watches `fd`, whether or not it is watched already. False when it cannot be watched.
    @discardableResult
    public func set(_ fd: Int32, _ interest: Interest, isNew: Bool) -> Bool {
        var event = epoll_event(events: interest.rawValue, data: epoll_data_t(fd: fd))
        if epoll_ctl(descriptor.raw, isNew ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0 { return true }
        guard errno == EEXIST || errno == ENOENT else { return false }
        return epoll_ctl(descriptor.raw, isNew ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) == 0
    }

    /// Closing a descriptor does that by itself.
    public func remove(_ fd: Int32) {
        var event = epoll_event()
        _ = epoll_ctl(descriptor.raw, EPOLL_CTL_DEL, fd, &event)
    }

    /// Waits for events, which `subscript` then tells.
    /// - Parameter milliseconds: -1 waits without end.
    /// - Returns: their number.
    public func wait(milliseconds: Int32) -> Int {
        let count = epoll_wait(descriptor.raw, events, Int32(capacity), milliseconds)
        return max(0, Int(count))
    }

    public subscript(index: Int) -> (fd: Int32, ready: Interest) {
        precondition(index < capacity)
        return (events[index].data.fd, Interest(rawValue: events[index].events))
    }
}

/// The bytes that a TCP socket has taken and its peer has not acknowledged; nil when that is unknown.
public func unsentBytes(onSocket fd: Int32) -> Int? {
    let count = cm_unsent_bytes(fd)
    return count < 0 ? nil : Int(count)
}

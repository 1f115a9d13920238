import CLinux
import Glibc

/// Owns a file descriptor: closed once, when the owner goes.
public final class Descriptor: Sendable {
    public let raw: Int32

    public init(owning raw: Int32) { self.raw = raw }

    deinit { close(raw) }

    /// `syncfs(2)`: what the kernel holds of the file system that the file is on is written. Blocks.
    public func syncFileSystem() { _ = cm_syncfs(raw) }

    /// Both ends of a `pipe(2)`, which children do not inherit; nil when the process has no descriptor left.
    public static func pipe() -> (read: Descriptor, write: Descriptor)? {
        var ends: [Int32] = [-1, -1]
        guard cm_pipe(&ends) == 0 else { return nil }
        return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    }

    /// The next connection of this listening socket (`accept(2)`), which children do not inherit: one that holds it would
    /// keep it open after its end here. Blocks; nil when there is none any more or no descriptor left.
    public func accept() -> Descriptor? {
        while true {
            let connection = cm_accept(raw)
            if connection >= 0 { return Descriptor(owning: connection) }
            guard errno == EINTR || errno == ECONNABORTED else { return nil }
        }
    }
}

/// An `eventfd(2)`: wakes a thread that polls it.
public struct EventDescriptor: Sendable {
    private let descriptor: Descriptor

    /// Nil when the process has no descriptor left.
    public init?() {
        let raw = cm_eventfd()
        guard raw >= 0 else { return nil }
        descriptor = Descriptor(owning: raw)
    }

    public var raw: Int32 { descriptor.raw }

    public func signal() {
        var one: UInt64 = 1
        _ = Glibc.write(raw, &one, 8)
    }

    /// Back to unsignalled.
    public func clear() {
        var count: UInt64 = 0
        _ = Glibc.read(raw, &count, 8)
    }
}

import CloudMountVFS
import Synchronization

/// Stands before the caller's sink through all attempts of one read and knows how much that one has taken.
final class ResumingSink: ByteSink {
    private let sink: any ByteSink
    private let count = Atomic(0)
    private let attempt = Attempt()

    /// How the attempt that is under way is resumed. Apart, for the caller's sink holds on to it.
    private final class Attempt: Sendable {
        let resume = Mutex<(@Sendable () -> Void)?>(nil)
    }

    init(_ sink: any ByteSink) {
        self.sink = sink
        // The caller's sink is attached once; a pause is ended in whichever attempt is under way.
        sink.attach { [attempt] in attempt.resume.withLock { $0 }?() }
    }

    /// Bytes that the caller's sink has taken. Exact when no attempt is under way.
    var delivered: Int { count.load(ordering: .acquiring) }

    func attach(resume: @escaping @Sendable () -> Void) { attempt.resume.withLock { $0 = resume } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        let verdict = sink.receive(bytes)
        if verdict == .proceed { count.add(bytes.count, ordering: .releasing) }
        return verdict
    }
}

package import CloudMountLayers
import CloudMountVFS
import Synchronization
import TestSeeds

/// A bad line to a moody store: delays before and after each effect, lost and late replies, refusals, uploads that the
/// store drops. Its choices come from a seed; who meets them depends on the scheduling.
package final class Chaos: Sendable {
    package struct Rates: Sendable {
        /// Microseconds at most, before the effect and after it.
        package var delay: UInt64 = 1500
        /// In a thousand calls.
        package var lost = 12
        package var late = 8
        package var refused = 12
        package var forbidden = 3
        package var dropped = 60
        package init() {}
    }

    enum Choice: Sendable { case plain, lost, late, refuse, forbid }

    private let random: Mutex<SeededGenerator>
    private let isOn = Atomic(true)
    private let rates: Rates

    package init(seed: UInt64, _ rates: Rates = Rates()) {
        random = Mutex(SeededGenerator(seed: seed))
        self.rates = rates
    }

    /// From now on the line is good.
    package func end() { isOn.store(false, ordering: .sequentiallyConsistent) }

    private func number(_ range: Range<UInt64>) -> UInt64 { random.withLock { UInt64.random(in: range, using: &$0) } }

    func pause() async {
        guard isOn.load(ordering: .sequentiallyConsistent) else { return }
        let time = number(0..<rates.delay + 1)
        if time < rates.delay / 3 { return await Task.yield() }
        try? await Task.sleep(for: .microseconds(time))
    }

    func choose(_ verb: Verb) -> Choice {
        guard isOn.load(ordering: .sequentiallyConsistent) else { return .plain }
        var dice = Int(number(0..<1000))
        for (rate, choice) in [
            (rates.lost, Choice.lost), (rates.late, .late), (rates.refused, .refuse), (rates.forbidden, .forbid),
        ] {
            if dice < rate { return choice }
            dice -= rate
        }
        return .plain
    }

    func dropsUpload() -> Bool {
        isOn.load(ordering: .sequentiallyConsistent) && Int(number(0..<1000)) < rates.dropped
    }
}

/// A call of a life that has ended: the process is gone, nothing leaves it any more.
package final class Lifeline: Sendable {
    private let cut = Atomic(false)
    package init() {}
    package func sever() { cut.store(true, ordering: .sequentiallyConsistent) }
    var isCut: Bool { cut.load(ordering: .sequentiallyConsistent) }
}

struct ChaosLayer: ProviderLayer {
    let inner: any ObjectProvider
    let chaos: Chaos
    let lifeline: Lifeline

    static let gone = VFSError(.connectionFailed, "the line is dead", retry: .backoff)

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        if lifeline.isCut { throw Self.gone }
        await chaos.pause()
        switch chaos.choose(call.verb) {
        case .plain: break
        case .refuse: throw VFSError(.unavailable, "slow down", retry: .backoff)
        case .forbid: throw VFSError(.permissionDenied, "not now")
        case .lost:
            _ = try await body(inner)
            throw Self.gone
        case .late where call.verb.changes:
            // The caller hears of a failure; the effect comes later.
            let inner = inner
            Task {
                try? await Task.sleep(for: .milliseconds(3))
                await Ledger.$isLate.withValue(true) {
                    _ = await outcome { () async throws(VFSError) in try await body(inner) }
                }
            }
            throw VFSError(.timedOut, "no answer in time", retry: .backoff)
        case .late: throw VFSError(.timedOut, "no answer in time", retry: .backoff)
        }
        let value = try await body(inner)
        await chaos.pause()
        if lifeline.isCut { throw Self.gone }
        return value
    }

    // What is late has left this machine in time: its bytes are those of the call.

    func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        let sent = BytesSource(try source.all())
        return try await perform(ProviderCall(.put, request.key, bytesUp: sent.count)) { inner throws(VFSError) in
            try await inner.put(request, from: sent)
        }
    }

    func uploadPart(
        _ upload: Upload, number: Int, from source: any ByteSource
    ) async throws(VFSError) -> UploadedPart {
        let sent = BytesSource(try source.all())
        await dropNowAndThen(upload)
        return try await perform(ProviderCall(.uploadPart, upload.key, bytesUp: sent.count)) {
            inner throws(VFSError) in try await inner.uploadPart(upload, number: number, from: sent)
        }
    }

    func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        await dropNowAndThen(upload)
        return try await perform(ProviderCall(.completeUpload, upload.key)) { inner throws(VFSError) in
            try await inner.completeUpload(upload, parts: parts, precondition: precondition)
        }
    }

    /// An administrator, or a rule of the bucket, has thrown the upload away.
    private func dropNowAndThen(_ upload: Upload) async {
        if chaos.dropsUpload() { try? await inner.abortUpload(upload) }
    }
}

extension Verb {
    /// Whether it can change what a key shows.
    package var changes: Bool {
        switch self {
        case .put, .copy, .move, .delete, .completeUpload: true
        default: false
        }
    }
}

extension ByteSource {
    /// Its bytes as they are now.
    func all() throws(VFSError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        var failure: VFSError?
        bytes.withUnsafeMutableBytes { buffer in
            do throws(VFSError) {
                while filled < buffer.count {
                    let some = try read(at: filled, into: UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]))
                    if some == 0 { throw VFSError(.io, "the bytes to upload ended early") }
                    filled += some
                }
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }
}

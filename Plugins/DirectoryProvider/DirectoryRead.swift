import CloudMountPlatform
public import CloudMountVFS
import Glibc
import Synchronization

extension DirectoryProvider {
    public func read(_ request: ReadRequest, into sink: any ByteSink) async throws(VFSError) -> ObjectInfo {
        let feed = SinkFeed(sink)
        let reading = try await blocking { rooms throws(VFSError) in try Reading(request, of: rooms.objects) }
        let cancelled = Flag()
        while true {
            let verdict = try await onCancellation({ cancelled.raise() }) { () throws(VFSError) in
                try await blocking { _ throws(VFSError) in try reading.run(into: sink, until: cancelled) }
            }
            switch verdict {
            case .proceed: return reading.entry.info
            case .pause: try await feed.resumed()
            case .stop: throw .cancelled
            }
        }
    }

    /// `withTaskCancellationHandler` for typed errors.
    private func onCancellation<Value: Sendable>(
        _ handler: @Sendable () -> Void, _ body: () async throws(VFSError) -> Value
    ) async throws(VFSError) -> Value {
        let result: Result<Value, VFSError> = await withTaskCancellationHandler {
            do throws(VFSError) {
                return .success(try await body())
            } catch {
                return .failure(error)
            }
        } onCancel: {
            handler()
        }
        return try result.get()
    }
}

final class Flag: Sendable {
    private let value = Atomic(false)
    var isRaised: Bool { value.load(ordering: .acquiring) }
    func raise() { value.store(true, ordering: .releasing) }
}

/// One read of one version: the file stays open through pauses, so that a replacement does not touch it.
final class Reading: Sendable {
    let entry: DirectoryEntry
    private let objects: DirectoryObjects
    private let end: Int
    private let position: Atomic<Int>
    private static let slice = 512 << 10

    init(_ request: ReadRequest, of objects: DirectoryObjects) throws(VFSError) {
        self.objects = objects
        let entry: DirectoryEntry
        do throws(VFSError) {
            entry = try objects.existing(request.key)
        } catch {
            // An object that is gone is not the version that was asked for.
            if error.code == .notFound, request.version != nil { throw DirectoryErrors.stale(request.key) }
            throw error
        }
        if let version = request.version, version != entry.etag { throw DirectoryErrors.stale(request.key) }
        self.entry = entry
        let whole = Extent(0, entry.size)
        let extent = request.extent.map(whole.intersection) ?? whole
        position = Atomic(extent.lowerBound)
        end = extent.upperBound
    }

    /// Delivers until the end (`proceed`), a pause, or a stop.
    func run(into sink: any ByteSink, until cancelled: Flag) throws(VFSError) -> ByteSinkVerdict {
        var position = position.load(ordering: .relaxed)
        defer { self.position.store(position, ordering: .relaxed) }
        if position >= end { return .proceed }
        if case .link(let target) = entry.content {
            let verdict = target.withUnsafeBytes { sink.receive(UnsafeRawBufferPointer(rebasing: $0[position..<end])) }
            if verdict == .proceed { position = end }
            return verdict
        }
        guard case .file(let file) = entry.content else { return .proceed }
        let room = min(Self.slice, end - position)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 4096)
        defer { buffer.deallocate() }
        while position < end {
            if cancelled.isRaised { throw .cancelled }
            let count = try system("reading “\(entry.key)”") { () throws(SystemError) in
                try SystemError.check { pread(file.raw, buffer.baseAddress, min(room, end - position), position) }
            }
            if count == 0 { throw DirectoryErrors.stale(entry.key) }
            // Before the bytes go out: another program may have written into the file in place.
            try objects.demandUnchanged(entry, file)
            let verdict = sink.receive(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            guard verdict == .proceed else { return verdict }
            position += count
        }
        return .proceed
    }
}

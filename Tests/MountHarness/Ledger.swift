package import CloudMountLayers
package import CloudMountVFS
import Synchronization

/// Who calls the store.
package enum Actor: Sendable, Hashable {
    /// The mount, by the number of its life.
    case mount(Int)
    case foreign
}

/// One version that was current once.
package struct Version: Sendable {
    package var etag: ETag
    package var key: String
    package var maker: Actor
    package var verb: Verb
    /// The key that it was copied of.
    package var source: String?
    /// When it became visible.
    package var made: Int
    /// Its bytes, where the ledger keeps them.
    package var bytes: [UInt8] = []
}

/// One version that is current no more.
package struct Loss: Sendable {
    package var version: Version
    package var by: Actor
    package var verb: Verb
    /// The key that a copy was made of.
    package var source: String?
    /// The caller had given up on the call before it took effect.
    package var wasLate: Bool
    /// When the call was made, and when it took effect.
    package var called: Int
    package var time: Int
    /// What has its key now.
    package var successor: ETag?
}

/// One call of the mount that took effect and changed nothing.
package struct Look: Sendable {
    package var by: Actor
    package var verb: Verb
    package var key: String
    package var time: Int
}

/// What became of every version of a bucket, by whom, and what each life of the mount had been told of it. Every change
/// of the bucket goes through a `LedgerLayer`, one at a time, so the account is exact.
package final class Ledger: Sendable {
    package struct State: Sendable {
        var time = 0
        package var current: [String: ETag] = [:]
        package var versions: [ETag: Version] = [:]
        package var destroyed: [Loss] = []
        /// When an answer that names a version first reached a life.
        package var seen: [Int: [ETag: Int]] = [:]
        package var looks: [Look] = []
        package var uploads: [Upload] = []
        /// Copies whose caller thought their source to be larger or smaller than it is.
        package var misdescribed: [String] = []
    }

    @TaskLocal static var isLate = false

    private let state = Mutex(State())
    let turnstile = Turnstile()
    let keepsBytes: Bool

    package init(keepsBytes: Bool) { self.keepsBytes = keepsBytes }

    /// A moment later than all before.
    package func tick() -> Int {
        state.withLock { state in
            state.time += 1
            return state.time
        }
    }

    package var account: State { state.withLock { $0 } }

    /// What the mount destroyed, all its lives together.
    package var destroyedByMount: [Loss] {
        state.withLock { $0.destroyed }.filter { $0.by != .foreign }
    }

    /// What the mount destroyed without having been told that it exists. Its own versions it knows.
    package var unseen: [Loss] {
        state.withLock { state in
            state.destroyed.filter { loss in
                guard case .mount(let life) = loss.by, loss.version.maker != loss.by else { return false }
                return (state.seen[life]?[loss.version.etag] ?? .max) > loss.time
            }
        }
    }

    func hasSeen(_ tags: [ETag], life: Int) {
        state.withLock { state in
            state.time += 1
            for tag in tags where state.seen[life]?[tag] == nil { state.seen[life, default: [:]][tag] = state.time }
        }
    }

    func looked(_ look: Look) {
        state.withLock { state in
            state.time += 1
            var look = look
            look.time = state.time
            state.looks.append(look)
        }
    }

    func misdescribed(_ copy: String) { state.withLock { $0.misdescribed.append(copy) } }
    func began(_ upload: Upload) { state.withLock { $0.uploads.append(upload) } }

    /// Compares the bucket with what it was.
    func changed(
        _ now: [String: ETag], bytes: [ETag: [UInt8]], by actor: Actor, _ verb: Verb, source: String?, called: Int
    ) {
        state.withLock { state in
            state.time += 1
            // What is moved goes on under another key.
            for (key, etag) in now where verb == .move && state.current[key] != etag {
                state.versions[etag]?.key = key
            }
            let moved = verb == .move ? Set(now.values) : []
            for (key, etag) in state.current where now[key] != etag && !moved.contains(etag) {
                guard let version = state.versions[etag] else { continue }
                state.destroyed.append(
                    Loss(
                        version: version, by: actor, verb: verb, source: source,
                        wasLate: Ledger.isLate, called: called, time: state.time,
                        successor: now[key]))
            }
            for (key, etag) in now where state.current[key] != etag && (verb != .move || state.versions[etag] == nil) {
                state.versions[etag] = Version(
                    etag: etag, key: key, maker: actor, verb: verb, source: source, made: state.time,
                    bytes: bytes[etag] ?? [])
            }
            state.current = now
        }
    }

    func unknown(in now: [String: ETag]) -> [(String, ETag)] {
        state.withLock { state in now.filter { state.versions[$0.value] == nil }.map { ($0.key, $0.value) } }
    }
}

/// Between one actor and the bucket: writes into the ledger what each call did.
package struct LedgerLayer: ProviderLayer {
    package let inner: any ObjectProvider
    package let ledger: Ledger
    package let actor: Actor

    package init(_ inner: any ObjectProvider, _ ledger: Ledger, _ actor: Actor) {
        self.inner = inner
        self.ledger = ledger
        self.actor = actor
    }

    package func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        try await perform(call, source: nil, body)
    }

    package func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        if let there = try? await inner.head(request.source.key), there.etag == request.source.etag,
            there.size != request.source.size
        {
            ledger.misdescribed("\(request.source.key): \(request.source.size) instead of \(there.size)")
        }
        return try await perform(ProviderCall(.copy, request.destination), source: request.source.key.string) {
            inner throws(VFSError) in try await inner.copy(request)
        }
    }

    private func perform<Value: Sendable>(
        _ call: ProviderCall, source: String?, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        switch call.verb {
        case .put, .copy, .move, .delete, .completeUpload:
            let called = ledger.tick()
            await ledger.turnstile.enter()
            let result = await outcome { () async throws(VFSError) in try await body(inner) }
            await record(call.verb, source, called)
            ledger.turnstile.leave()
            return try result.get()
        default:
            let value = try await body(inner)
            ledger.looked(Look(by: actor, verb: call.verb, key: call.key?.string ?? "", time: 0))
            if let upload = value as? Upload { ledger.began(upload) }
            return value
        }
    }

    private func record(_ verb: Verb, _ source: String?, _ called: Int) async {
        var now: [String: ETag] = [:]
        var continuation: String?
        repeat {
            let request = ListRequest(prefix: "", delimited: false, continuation: continuation)
            guard let page = try? await inner.list(request) else { return }
            for object in page.objects { now[object.key.string] = object.etag }
            continuation = page.continuation
        } while continuation != nil
        var bytes: [ETag: [UInt8]] = [:]
        if ledger.keepsBytes {
            for (key, etag) in ledger.unknown(in: now) {
                let sink = CollectingSink()
                _ = try? await inner.read(ReadRequest(key: ObjectKey(key)), into: sink)
                bytes[etag] = sink.bytes
            }
        }
        ledger.changed(now, bytes: bytes, by: actor, verb, source: source, called: called)
    }
}

/// Next to the mount: notes which versions its answers name.
struct SeenLayer: ProviderLayer {
    let inner: any ObjectProvider
    let ledger: Ledger
    let life: Int

    func perform<Value: Sendable>(
        _ call: ProviderCall, _ body: @escaping CallBody<Value>
    ) async throws(VFSError) -> Value {
        let value = try await body(inner)
        switch value {
        case let info as ObjectInfo: ledger.hasSeen([info.etag], life: life)
        case let page as ListPage: ledger.hasSeen(page.objects.map(\.etag), life: life)
        case let versions as [ObjectVersion]: ledger.hasSeen(versions.map(\.info.etag), life: life)
        default: break
        }
        return value
    }
}

package final class CollectingSink: ByteSink {
    private let collected = Mutex<[UInt8]>([])
    package var bytes: [UInt8] { collected.withLock { $0 } }
    package init() {}

    package func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        collected.withLock { $0 += bytes }
        return .proceed
    }
}

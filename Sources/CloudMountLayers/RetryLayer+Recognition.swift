public import CloudMountVFS
import Synchronization

// A write whose answer was lost may have been carried out. Repeating it is harmless as long as it is unconditional; a
// conditional one then fails against its own success, `completeUpload` no longer finds its upload, and a copy of an
// object onto itself no longer finds its source. What the bucket holds now decides: an object with the write's own nonce
// and size is the write's own (`WriteMark`). Sizes and times alone prove nothing, and without a nonce the failure stands.
//
// It does not matter whether an answer is known to have been lost: the write may have been sent by an earlier call,
// or by this mount before it was started anew. But a copy with its source's nonce may be anybody's.

extension RetryLayer {
    public func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        let mark = request.metadata.nonce.map { Proof.mark(WriteMark(nonce: $0, size: source.count)) }
        return try await recognising(ProviderCall(.put, request.key, bytesUp: source.count), { mark }) {
            inner throws(VFSError) in try await inner.put(request, from: source)
        }
    }

    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        // A copy that keeps its source's metadata has the mark of everybody's copies of it: only where one of its own may have been
        // carried out is what is there taken for that.
        let isTold = Mutex(request.metadata != nil)
        let mayBeOthers = request.metadata == nil && request.mayBeOthers
        return try await recognising(
            ProviderCall(.copy, request.destination), { isTold.withLock { $0 } ? await proof(of: request) : nil }
        ) { inner throws(VFSError) in
            do throws(VFSError) {
                return try await inner.copy(request)
            } catch {
                if error.leavesOpen, !mayBeOthers { isTold.withLock { $0 = true } }
                throw error
            }
        }
    }

    public func beginUpload(_ key: ObjectKey, metadata: ObjectMetadata) async throws(VFSError) -> Upload {
        var upload = try await perform(ProviderCall(.beginUpload, key)) { inner throws(VFSError) in
            try await inner.beginUpload(key, metadata: metadata)
        }
        upload.nonce = metadata.nonce
        return upload
    }

    public func completeUpload(
        _ upload: Upload, parts: [UploadedPart], precondition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let size = parts.reduce(0) { $0 + $1.size }
        let mark = upload.nonce.map { WriteMark(nonce: $0, size: size) }
        let isInDoubt = Mutex(false)
        let proof = mark.map(Proof.mark)
        return try await recognising(ProviderCall(.completeUpload, upload.key), { proof }) { inner throws(VFSError) in
            if isInDoubt.withLock({ $0 }), let made = try await outcome(of: upload, mark) { return made }
            do throws(VFSError) {
                return try await inner.completeUpload(upload, parts: parts, precondition: precondition)
            } catch {
                if error.leavesOpen { isInDoubt.withLock { $0 = true } }
                throw error
            }
        }
    }

    /// What has become of an upload that was to be completed without an answer; nil while it is open: then the same may be asked for again.
    /// - Throws: `uploadNotFound` when it has ended and the object is not, or no longer, what it became.
    private func outcome(of upload: Upload, _ mark: WriteMark?) async throws(VFSError) -> ObjectInfo? {
        func made() async throws(VFSError) -> ObjectInfo? {
            guard let mark, let there = try await inner.headIfThere(upload.key), mark.isOn(there) else { return nil }
            return there
        }
        if let made = try await made() { return made }
        do throws(VFSError) {
            _ = try await inner.listParts(upload)
            return nil
        } catch {
            if error.code.isUnreachable || error.code == .cancelled { throw error }
            // Who may not ask sends it again.
            guard error.code == .uploadNotFound else { return nil }
            // Without a mark only the provider can know its own.
            if mark == nil { return nil }
            // It may have ended between the two questions.
            if let made = try await made() { return made }
            throw error
        }
    }

    /// A move whose answer was lost is asked about before it is sent again, and before what the store says to a repeat is believed: the
    /// source that is gone, or the destination that is taken, may be its own doing.
    public func move(_ request: MoveRequest) async throws(VFSError) -> ObjectInfo? {
        let call = ProviderCall(.move, request.destination)
        return try await bounded(call) {
            await attempt { () async throws(VFSError) in try await moved(request, call) }
        }
    }

    private func moved(_ request: MoveRequest, _ call: ProviderCall) async throws(VFSError) -> ObjectInfo? {
        var course = RetryCourse(call, self, limitedFromStart: false)
        var doubt: VFSError?
        while true {
            do throws(VFSError) {
                if doubt != nil, case .done(let made) = try await inner.whatBecame(of: request) { return made }
                do throws(VFSError) {
                    let made = try await inner.move(request)
                    course.succeeded()
                    return made
                } catch {
                    if doubt != nil, error.couldBeOurOwnMove,
                        case .done(let made) = try await inner.whatBecame(of: request)
                    {
                        return made
                    }
                    if error.leavesOpen { doubt = error }
                    throw error
                }
            } catch {
                // What is said of a repeat says nothing of the first, which may still be under way; but not where its source is gone.
                if let doubt, !error.leavesOpen, error.code != .cancelled, error.code != .notFound {
                    throw course.gaveUp(doubt)
                }
                try await course.pause(after: error)
            }
        }
    }

    /// A deletion whose answer was lost may have been carried out, and the name may have been given to something new with the same bytes,
    /// which have the same ETag: it is repeated only for what is still the version that was meant.
    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        let call = ProviderCall(.delete, objects.first?.key)
        return try await bounded(call) {
            await attempt { () async throws(VFSError) in try await deleted(objects, call) }
        }
    }

    private func deleted(_ objects: [DeleteRequest], _ call: ProviderCall) async throws(VFSError) -> [DeleteFailure] {
        var course = RetryCourse(call, self, limitedFromStart: true)
        var (left, refused): ([DeleteRequest], [DeleteFailure]) = (objects, [])
        var isInDoubt = false
        while true {
            do throws(VFSError) {
                if isInDoubt {
                    let (standing, changed) = try await standing(left)
                    (left, isInDoubt) = (standing, false)
                    refused += changed
                }
                if left.isEmpty { return refused }
                let failures = try await inner.delete(left)
                // Of some of many the store may say that it is busy, or has failed.
                let passing = failures.filter { $0.error.retry != .never }
                refused += failures.filter { $0.error.retry == .never }
                guard let first = passing.first else {
                    course.succeeded()
                    return refused
                }
                isInDoubt = passing.contains { $0.error.leavesOpen }
                let again = Set(passing.map(\.key))
                left = left.filter { again.contains($0.key) }
                do throws(VFSError) { try await course.pause(after: first.error) } catch {
                    // What the store has said of each is known.
                    if error.code == .cancelled { throw error }
                    return refused + passing
                }
            } catch {
                if error.leavesOpen { isInDoubt = true }
                try await course.pause(after: error)
            }
        }
    }

    /// Of versions whose nonces are known: those that are still there; and those that others have come in the place of.
    private func standing(
        _ objects: [DeleteRequest]
    ) async throws(VFSError) -> (standing: [DeleteRequest], changed: [DeleteFailure]) {
        let inner = inner
        let found = try await inParallel(objects, width: 16) {
            object async throws(VFSError) -> (isThere: Bool, isChanged: Bool) in
            guard object.version != nil, let nonce = object.nonce else { return (true, false) }
            let there = try await inner.headIfThere(object.key)
            return (there != nil, there?.metadata?.nonce != nonce)
        }
        var (standing, changed): ([DeleteRequest], [DeleteFailure]) = ([], [])
        for (object, found) in zip(objects, found) where found.isThere {
            if found.isChanged {
                let error = VFSError(.preconditionFailed, "the object has been replaced meanwhile")
                changed.append(DeleteFailure(key: object.key, error: error))
            } else {
                standing.append(object)
            }
        }
        return (standing, changed)
    }

    private func proof(of request: CopyRequest) async -> Proof? {
        let size = request.source.size
        if let metadata = request.metadata { return metadata.nonce.map { .mark(WriteMark(nonce: $0, size: size)) } }
        var source: ObjectInfo? = request.source
        if source?.metadata == nil {
            source = (try? await head(request.source.key)).flatMap { $0.etag == request.source.etag ? $0 : nil }
        }
        guard let source, let metadata = source.metadata else { return nil }
        if let nonce = metadata.nonce { return .mark(WriteMark(nonce: nonce, size: size)) }
        return request.precondition == .absent ? .copy(of: source) : nil
    }

    private func recognising(
        _ call: ProviderCall, _ proof: @escaping @Sendable () async -> Proof?, _ body: @escaping CallBody<ObjectInfo>
    ) async throws(VFSError) -> ObjectInfo {
        try await bounded(call) {
            do throws(VFSError) {
                return .success(try await recognised(call, proof, body))
            } catch {
                return .failure(error)
            }
        }
    }

    private func recognised(
        _ call: ProviderCall, _ proof: @Sendable () async -> Proof?, _ body: CallBody<ObjectInfo>
    ) async throws(VFSError) -> ObjectInfo {
        var course = RetryCourse(call, self, limitedFromStart: false)
        while true {
            do throws(VFSError) {
                let info = try await body(inner)
                course.succeeded()
                return info
            } catch {
                if error.couldBeOurOwnWrite, let key = call.key, let proof = await proof() {
                    let found = await attempt { () async throws(VFSError) in try await head(key) }
                    switch found {
                    case .success(let info): if proof.isOn(info) { return info }
                    // Whose it is stays unknown, and must not be taken for somebody else's.
                    case .failure(let unknown) where unknown.code.isUnreachable || unknown.code == .cancelled:
                        throw course.gaveUp(unknown)
                    case .failure: break
                    }
                }
                try await course.pause(after: error)
            }
        }
    }
}

/// What shows that an object is what a call has stored.
private enum Proof: Sendable {
    case mark(WriteMark)
    /// Where nobody else makes the same copy, and nothing was there before. Its tag is the source's where tags are of bytes.
    case copy(of: ObjectInfo)

    func isOn(_ info: ObjectInfo) -> Bool {
        switch self {
        case .mark(let mark): mark.isOn(info)
        case .copy(let source):
            info.size == source.size && info.etag == source.etag && info.metadata == source.metadata
        }
    }
}

extension VFSError {
    /// The call may have been carried out.
    fileprivate var leavesOpen: Bool {
        switch code {
        case .timedOut, .connectionFailed, .unavailable, .malformedResponse, .corrupted: true
        default: false
        }
    }

    fileprivate var couldBeOurOwnMove: Bool { code == .notFound || couldBeOurOwnWrite }

    fileprivate var couldBeOurOwnWrite: Bool {
        switch code {
        case .preconditionFailed, .alreadyExists, .uploadNotFound, .conflict, .stale: true
        default: false
        }
    }
}

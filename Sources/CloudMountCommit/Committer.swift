import CloudMountPlatform
package import CloudMountStaging
package import CloudMountVFS

/// The bytes of a sealed write on this machine.
package struct LocalBytes: Sendable {
    package var staged: StagedFile?
    /// An upload that began while the file was still being written.
    package var stream: StreamingUpload?
    /// Counts changes of the file's bytes.
    package var generation: UInt64
    /// The upload is of no use any more, or has become the object: its owner forgets it.
    package var dropStream: @Sendable (StreamingUpload) -> Void
    /// Told when the call that makes the write visible goes on though the commit has been given up: with what it ends.
    package var givenUp: @Sendable (Task<Result<ObjectInfo, VFSError>, Never>, SealedWrite) -> Void
    /// Told when what is stored may yet get another version by this very write, with the same bytes.
    package var mayChange: @Sendable () -> Void

    package init(
        staged: StagedFile?, stream: StreamingUpload?, generation: UInt64,
        dropStream: @escaping @Sendable (StreamingUpload) -> Void,
        givenUp: @escaping @Sendable (Task<Result<ObjectInfo, VFSError>, Never>, SealedWrite) -> Void,
        mayChange: @escaping @Sendable () -> Void = {}
    ) {
        self.staged = staged
        self.stream = stream
        self.generation = generation
        self.dropStream = dropStream
        self.givenUp = givenUp
        self.mayChange = mayChange
    }
}

/// A sealed write in, a stored version out. Knows keys and versions, no inode and no handle.
package struct Committer: Sendable {
    private let provider: any ObjectProvider
    private let capabilities: Capabilities
    private let reader: ImageReader
    /// Told of attributes of ours that found no room beside those of others.
    private let dropped: @Sendable (ObjectKey, [String]) -> Void
    /// How long who has given a write up waits for the call that makes it visible.
    private static let grace = Duration.milliseconds(200)
    /// Attempts that end each time with a store that has changed in between.
    private static let mostAttempts = 5
    /// Images of more pieces are planned away from the thread that all transfers share.
    private static let manyPieces = 1000

    package init(
        provider: any ObjectProvider, reader: ImageReader, dropped: @escaping @Sendable (ObjectKey, [String]) -> Void
    ) {
        self.provider = provider
        capabilities = provider.capabilities
        self.reader = reader
        self.dropped = dropped
    }

    // MARK: The whole

    /// Stores `write`, or what the rule makes of a conflict.
    /// - Parameters:
    ///   - write: keeps, after an error, what the next attempt goes on with.
    ///   - earlier: nonces of writes of the same file whose end is not known.
    ///   - now: for the name of a version that lost.
    /// - Throws: why it has not been stored; `stale`: somebody else has changed the object, and the rule is `fail`.
    package func commit(
        _ write: inout SealedWrite, _ local: LocalBytes, rule: CachePolicy.OnConflict, earlier: [WriteMark],
        now: Timestamp
    ) async throws(VFSError) -> CommitOutcome {
        var local = local
        var attempt = 1
        while true {
            let failure: VFSError
            do throws(VFSError) {
                return .stored(try await store(&write, local, write.precondition))
            } catch {
                failure = error
            }
            guard CommitVerdict.needsLook(failure) else { throw failure }
            let there: ObjectInfo?
            do throws(VFSError) {
                there = try await provider.headIfThere(write.key, after: failure)
            } catch {
                // What is gone for good is not said by who could not look.
                throw failure.code == .stale && error.mayPass ? error : failure
            }
            let verdict = CommitVerdict(failure.code, of: write, there: there, earlier: earlier, rule: rule)
            if verdict != .stored, verdict != .fail, verdict != .earlier { abandonStream(&local) }
            attempt += 1
            switch verdict {
            case .stored:
                guard let there else { throw failure }
                guard let stream = local.stream else { return .stored(there) }
                local.dropStream(stream)
                // Its end may have been sent with other times than the write has by now.
                guard there.metadata?.nonce == stream.nonce else { return .stored(there) }
                return .stored(try await described(there, write, stream, try metadata(write), local))
            case .earlier:
                if let there { return .earlier(there) }
                throw failure
            case .replace where attempt <= Self.mostAttempts:
                if await isBaseGone(write, there) { return .stranded(Self.changed(write, failure)) }
                write.replaces = there?.etag
            case .again where attempt <= Self.mostAttempts:
                abandonUpload(&write)
                // Its unchanged bytes were those of the version that is gone.
                if failure.code == .stale, await isBaseGone(write, there) {
                    return .stranded(Self.changed(write, failure))
                }
            case .storeAnew where attempt <= Self.mostAttempts:
                if await isBaseGone(write, there) { return .stranded(Self.changed(write, failure)) }
                write.replaces = nil
            case .keepBoth:
                // Local disk may have all that is wanted of a version that is gone from the store.
                let isBaseGone = await isBaseGone(write, there)
                return try await keepBoth(&write, local, failure, now, isBaseGone)
            case .refuse:
                if await isBaseGone(write, there) { return .stranded(Self.changed(write, failure)) }
                throw Self.changed(write, failure)
            // Nothing stands in the way but that the bytes it was to be completed with are nowhere.
            case .fail where failure.code == .stale || failure.code == .notFound:
                if await isBaseGone(write, there) { return .stranded(Self.changed(write, failure)) }
                throw failure
            default: throw failure
            }
        }
    }

    private static func changed(_ write: SealedWrite, _ error: VFSError) -> VFSError {
        VFSError(.stale, "\(write.key) was changed by somebody else since it was opened", wire: error.wire)
    }

    /// Bytes are wanted of a version that cannot be had any more.
    /// - Parameter there: what is under the write's key.
    private func isBaseGone(_ write: SealedWrite, _ there: ObjectInfo?) async -> Bool {
        guard write.layers.image.needsBase, let base = write.layers.base, !capabilities.readsOldVersions else {
            return false
        }
        if base.key == write.key { return base.etag != there?.etag }
        // A copy of another file: nothing of it is here that could be kept.
        guard write.layers.staged != nil || !write.isBase else { return false }
        guard
            case .success(let under) = await attempt({ () async throws(VFSError) in
                try await provider.headIfThere(base.key)
            })
        else { return false }
        return base.etag != under?.etag
    }

    /// Neither version is lost: this one goes under a name of its own.
    private func keepBoth(
        _ write: inout SealedWrite, _ local: LocalBytes, _ failure: VFSError, _ now: Timestamp, _ isBaseGone: Bool
    ) async throws(VFSError) -> CommitOutcome {
        abandonUpload(&write)
        var copy = write
        copy.replaces = nil
        // Of its own: one that was given up before goes again, and must not be taken for this.
        copy.nonce = ObjectMetadata.newNonce()
        write.nonce = copy.nonce
        for attempt in 1...ConflictName.most {
            copy.key = ConflictName.key(beside: write.key, now: now, attempt: attempt)
            do throws(VFSError) {
                return .kept(try await store(&copy, local, .absent))
            } catch {
                switch error.code {
                case .preconditionFailed, .alreadyExists:
                    if let there = try? await provider.headIfThere(copy.key), WriteMark(copy).isOn(there) {
                        return .kept(there)
                    }
                case .stale: return .stranded(Self.changed(write, failure))
                case .notFound where isBaseGone: return .stranded(Self.changed(write, failure))
                default:
                    // The next attempt may choose another name.
                    abandonUpload(&copy)
                    throw error
                }
            }
        }
        throw failure
    }

    // MARK: One attempt

    /// What goes beside the bytes.
    package func metadata(_ write: SealedWrite) throws(VFSError) -> ObjectMetadata {
        var attributes = write.attributes
        if !write.isBase { attributes.contentWillChange() }
        var (metadata, left) = try AttributeCodec.encodeWhatFits(
            attributes, limit: capabilities.maxMetadataBytes, reserve: capabilities.reservedMetadataBytes)
        if !left.isEmpty { dropped(write.key, left) }
        if metadata.contentType == nil {
            metadata.contentType = AttributeCodec.contentType(forName: write.key.string)
        }
        // Where it has no room, a write whose answer is lost is taken for somebody else's, and both are kept.
        if !left.contains("nonce") { metadata.nonce = write.nonce }
        return metadata
    }

    private func store(
        _ write: inout SealedWrite, _ local: LocalBytes, _ condition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        var metadata = try metadata(write)
        if let base = write.layers.base, write.isBase, capabilities.serverCopy, base.size <= capabilities.maxCopySize {
            let request = CopyRequest(
                source: base, destination: write.key, metadata: metadata, precondition: condition)
            do throws(VFSError) {
                return try await completing(local, write) { provider async throws(VFSError) in
                    try await provider.copy(request)
                }
            } catch {
                // Another version may have our mark now, and is never ours.
                if error.code == .busy { write.nonce = ObjectMetadata.newNonce() }
                throw error
            }
        }
        if let stream = local.stream {
            if stream.serves(write.key, local.staged), stream.isGood(for: local.generation) {
                metadata.nonce = stream.nonce
                write.nonce = stream.nonce
                do throws(VFSError) {
                    return try await finish(stream, write, local, metadata, condition)
                } catch {
                    // Some stores take no part twice.
                    guard error.code == .notSupported, local.staged != nil else { throw error }
                }
            } else {
                // Renamed while it was on its way, or changed after its end was sent: the bytes go up anew.
                local.dropStream(stream)
                stream.abandon()
            }
        }
        let plan = try await plan(write.layers.image, write.layers.base)
        switch plan.method {
        case .put:
            let source = try await source(Extent(0, write.size), write.layers, local.staged)
            let request = PutRequest(key: write.key, metadata: metadata, precondition: condition)
            return try checked(
                try await completing(local, write) { provider async throws(VFSError) in
                    try await provider.put(request, from: source)
                },
                write)
        case .multipart(let parts):
            return try checked(try await upload(parts, &write, local, metadata, condition), write)
        }
    }

    private func checked(_ info: ObjectInfo, _ write: SealedWrite) throws(VFSError) -> ObjectInfo {
        guard info.size == write.size else {
            throw VFSError(.io, "\(write.key): the store has \(info.size) bytes of \(write.size)")
        }
        return info
    }

    private func plan(_ image: FileImage, _ base: ObjectInfo?) async throws(VFSError) -> UploadPlan {
        let capabilities = capabilities
        guard image.pieceCount > Self.manyPieces else {
            return try UploadPlan(image: image, base: base, capabilities: capabilities)
        }
        return try await Task.detached {
            attemptNow { () throws(VFSError) in
                try UploadPlan(image: image, base: base, capabilities: capabilities)
            }
        }.value.get()
    }

    /// Runs the call that makes a write visible.
    private func completing(
        _ local: LocalBytes, _ write: SealedWrite,
        _ body: @escaping @Sendable (any ObjectProvider) async throws(VFSError) -> ObjectInfo
    ) async throws(VFSError) -> ObjectInfo {
        if Task.isCancelled { throw .cancelled }
        let provider = provider
        let landing = Landing()
        let call = Task(executorPreference: provider.executor) { () -> Result<ObjectInfo, VFSError> in
            let result = await attempt { () async throws(VFSError) in try await body(provider) }
            landing.end(result)
            return result
        }
        return try await withTaskCancellationHandler {
            await landing.outcome()
        } onCancel: {
            Task {
                try? await Task.sleep(for: Self.grace)
                landing.giveUp { local.givenUp(call, write) }
            }
        }.get()
    }

    private func source(
        _ extent: Extent, _ layers: SealedWrite.Layers, _ staged: StagedFile?
    ) async throws(VFSError) -> any ByteSource {
        if let source = ImageSource(layers.image, extent, staged: staged) { return source }
        let buffer = try await reader.read(layers.image.pieces(in: extent), extent, base: layers.base, staged: staged)
        return BufferSource(buffer: buffer, count: extent.count)
    }

    // MARK: Sent while it was written

    private func finish(
        _ stream: StreamingUpload, _ write: SealedWrite, _ local: LocalBytes, _ metadata: ObjectMetadata,
        _ condition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        var info: ObjectInfo
        do throws(VFSError) {
            info = try await stream.finish(size: write.size, generation: local.generation) {
                begun, parts async throws(VFSError) in
                var upload = begun
                if self.capabilities.completeSetsMetadata { upload.metadata = metadata }
                let ended = upload
                return try await self.completing(local, write) { provider async throws(VFSError) in
                    try await provider.completeUpload(ended, parts: parts, precondition: condition)
                }
            }
        } catch {
            // What the store holds is of use to the next attempt, unless the cause will last.
            if !error.mayPass {
                local.dropStream(stream)
                stream.abandon()
            }
            throw error
        }
        local.dropStream(stream)
        return try await described(try checked(info, write), write, stream, metadata, local)
    }

    /// Sees to it that what `stream` became has the times and the attributes of `write`, and tells them.
    private func described(
        _ info: ObjectInfo, _ write: SealedWrite, _ stream: StreamingUpload, _ metadata: ObjectMetadata,
        _ local: LocalBytes
    ) async throws(VFSError) -> ObjectInfo {
        var info = info
        let isDescribed: Bool
        if capabilities.completeSetsMetadata {
            info = try await told(info, write.key)
            // The end of an earlier attempt may have been the one that counted, with the times of then.
            isDescribed = info.metadata.map { $0.user == metadata.user && $0.modified == metadata.modified } ?? false
        } else {
            // The upload began before the last byte was written: its metadata has no times.
            let begun = try AttributeCodec.encodeWhatFits(
                write.attributes.withoutTimes, limit: capabilities.maxMetadataBytes
            ).metadata
            isDescribed = !write.hasExplicitTime && begun.user == stream.begunMetadata.user
        }
        guard !isDescribed, capabilities.serverCopy else { return try await told(info, write.key) }
        let request = CopyRequest(
            source: info, destination: write.key, metadata: metadata, precondition: .match(info.etag))
        do throws(VFSError) {
            return try await completing(local, write) { provider async throws(VFSError) in
                try await provider.copy(request)
            }
        } catch {
            // The bytes are stored: what fails here is the times alone. Which of the two versions is there, the store tells; of a call
            // without an answer not for good.
            if CommitVerdict.isUnclear(error) { local.mayChange() }
            guard CommitVerdict.needsLook(error) || error.code == .cancelled else { return info }
            guard let there = try await provider.headIfThere(write.key, after: error), WriteMark(write).isOn(there)
            else {
                return info
            }
            return there
        }
    }

    /// With its metadata, where it is still the version that is there.
    private func told(_ info: ObjectInfo, _ key: ObjectKey) async throws(VFSError) -> ObjectInfo {
        guard info.metadata == nil, let there = try await provider.headIfThere(key), there.etag == info.etag else {
            return info
        }
        return there
    }

    private func abandonStream(_ local: inout LocalBytes) {
        guard let stream = local.stream else { return }
        local.dropStream(stream)
        stream.abandon()
        local.stream = nil
    }

    // MARK: In parts

    /// Commits in parts, some of which the store copies.
    private func upload(
        _ parts: [UploadPlan.Part], _ write: inout SealedWrite, _ local: LocalBytes, _ metadata: ObjectMetadata,
        _ condition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let (upload, held) = try await begin(parts, &write, metadata)
        write.upload = UnfinishedUpload(
            upload: upload, parts: parts, metadata: metadata, base: write.layers.base?.etag)
        let layers = write.layers
        do throws(VFSError) {
            let sent = try await inParallel(parts, width: StreamingUpload.parallel) {
                part async throws(VFSError) -> UploadedPart in
                if let held = held[part.number], held.size == part.extent.count { return held }
                switch part.kind {
                case .copy(let extent):
                    guard let base = layers.base else { throw VFSError(.io, "a plan copies from nothing") }
                    return try await self.provider.copyPart(upload, number: part.number, source: base, extent: extent)
                case .upload:
                    let source = try await self.source(part.extent, layers, local.staged)
                    return try await self.provider.uploadPart(upload, number: part.number, from: source)
                }
            }
            let info = try await completing(local, write) { provider async throws(VFSError) in
                try await provider.completeUpload(upload, parts: sent, precondition: condition)
            }
            write.upload = nil
            return info
        } catch {
            if !error.mayPass { abandonUpload(&write) }
            throw error
        }
    }

    /// The upload to send into, and the parts that the store holds of it.
    private func begin(
        _ parts: [UploadPlan.Part], _ write: inout SealedWrite, _ metadata: ObjectMetadata
    ) async throws(VFSError) -> (Upload, held: [Int: UploadedPart]) {
        if let before = write.upload {
            if before.isContinued(by: parts, write, metadata) {
                do throws(VFSError) {
                    let held = try await provider.listParts(before.upload)
                    return (before.upload, Dictionary(held.map { ($0.number, $0) }, uniquingKeysWith: { $1 }))
                } catch {
                    if error.code != .uploadNotFound { throw error }
                    write.upload = nil
                }
            } else {
                abandonUpload(&write)
            }
        }
        return (try await provider.beginUpload(write.key, metadata: metadata), [:])
    }

    private func abandonUpload(_ write: inout SealedWrite) {
        abandon(write.upload)
        write.upload = nil
    }

    /// Frees what the store holds of an upload that nobody goes on with.
    package func abandon(_ unfinished: UnfinishedUpload?) {
        guard let unfinished else { return }
        let provider = provider
        Task(executorPreference: provider.executor) { try? await provider.abortUpload(unfinished.upload) }
    }
}

extension ObjectProvider {
    /// Stores an object that has a nonce. The answer to an earlier attempt may have been lost: then what is there is our own.
    package func putOnce(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        do throws(VFSError) {
            return try await put(request, from: source)
        } catch {
            guard CommitVerdict.needsLook(error), let nonce = request.metadata.nonce,
                let there = try? await headIfThere(request.key, after: error),
                WriteMark(nonce: nonce, size: source.count).isOn(there)
            else { throw error }
            return there
        }
    }
}

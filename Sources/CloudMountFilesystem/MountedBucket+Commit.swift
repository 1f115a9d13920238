import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
import Logging
import Synchronization

/// How the bytes and attributes of a file reach the store.
extension MountedBucket {
    /// A file as it was when its commit began.
    struct Snapshot: Sendable {
        var key: ObjectKey
        /// What the store has under the key as far as this mount knows; nil: nothing.
        var version: ETag?
        var attributes: StoredAttributes
        var hasExplicitTime: Bool
        var generation: UInt64
        var size: Int
        var image: FileImage?
        var base: ObjectInfo?
        var staged: StagedFile?
        var stream: StreamingUpload?

        /// The bytes are those of the base.
        var isBase: Bool { base != nil && image?.isWholeBase ?? true }
    }

    /// Returns when the store has all that was changed before the call.
    /// - Throws: why it has not. The bytes stay staged, and the next call tries again.
    func commit(_ inode: InodeID, _ content: FileContent) async throws(VFSError) {
        let wanted = content.state.withLock { $0.generation }
        while true {
            let (task, generation): (Task<Result<Void, VFSError>, Never>?, UInt64) = content.state.withLock { state in
                if state.isDetached || state.committed >= wanted { return (nil, state.generation) }
                if let running = state.commit { return (running, state.generation) }
                let task = Task(executorPreference: self.provider.executor) { await self.runCommit(inode, content) }
                state.commit = task
                return (task, state.generation)
            }
            guard let task else { return }
            if case .failure(let error) = await task.value {
                // Changed under the transfer, which may be all that was wrong with it.
                let hasChanged = content.state.withLock { $0.generation != generation }
                guard hasChanged, error.code == .io || error.code == .uploadNotFound else { throw error }
            }
        }
    }

    private func runCommit(_ inode: InodeID, _ content: FileContent) async -> Result<Void, VFSError> {
        let result = await attempt { () async throws(VFSError) in
            _ = try await self.holding([inode]) { () async throws(VFSError) in
                try await self.commitOnce(inode, content)
            }
        }
        // What could not be stored is on disk before anybody is told.
        if case .failure = result { await spill(content) }
        let place = content.state.withLock { state in
            state.commit = nil
            switch result {
            case .success:
                state.commitError = nil
                state.failedSince = nil
            case .failure(let error):
                state.commitError = error
                state.failedSince = state.failedSince ?? SystemClock.now()
            }
            return state.staged?.place
        }
        if case .failure(let error) = result, error.code != .cancelled {
            log.error(
                "commit failed; the bytes are kept", metadata: ["staged": "\(place ?? "-")", "error": "\(error)"])
        }
        return result
    }

    /// Brings what is staged in memory to disk.
    private func spill(_ content: FileContent) async {
        guard let staged = content.state.withLock({ $0.staged }) else { return }
        do throws(VFSError) {
            try await BlockingPool.shared.run(settings.name) { () throws(VFSError) in try staged.spill() }
        } catch {
            log.error("bytes that are not stored stay in memory", metadata: ["error": "\(error)"])
        }
    }

    private func commitOnce(_ inode: InodeID, _ content: FileContent) async throws(VFSError) {
        let needsLearning = namespace.withLock { names in
            names[inode].map { $0.version != nil && !$0.isKnown && !$0.isOrphan } ?? false
        }
        if needsLearning { try await learnForCommit(inode) }
        guard let snapshot = try snapshot(inode, content) else {
            if content.state.withLock({ $0.isDetached }) { return }
            throw VFSError(.stale, "somebody else has replaced or removed the file")
        }
        let rule = policy.onConflict
        let precondition: Precondition =
            rule == .overwrite ? .none : snapshot.version.map { .match($0) } ?? .absent
        if precondition == .absent, try await createdBeside(inode, content, snapshot) { return }
        do throws(VFSError) {
            let info = try await store(snapshot, content, try await guarded(precondition, snapshot))
            try settle(inode, content, snapshot, info)
        } catch {
            guard error.code == .preconditionFailed || error.code == .uploadNotFound || error.code == .notFound else {
                throw error
            }
            // The answer to an earlier attempt may have been lost: is what is there our own?
            let there = try await headIfThere(snapshot.key)
            if let there, there.size == snapshot.size, there.metadata?.modified != nil,
                there.metadata?.modified == snapshot.attributes.modified, there.etag != snapshot.version
            {
                return try settle(inode, content, snapshot, there)
            }
            if error.code == .uploadNotFound { throw error }
            guard rule == .keepBoth else {
                throw VFSError(
                    .stale, "\(snapshot.key) was changed by somebody else since it was opened", wire: error.wire)
            }
            if there == nil, snapshot.version != nil {
                // Somebody else has removed what was here: nothing is in the way of the name.
                var anew = snapshot
                anew.version = nil
                anew.stream = nil
                let info = try await store(anew, content, capabilities.conditionalCreate ? .absent : .none)
                return try settle(inode, content, anew, info)
            }
            try await keepBoth(inode, content, snapshot)
        }
    }

    /// The metadata of what is going to be replaced; its own entries are carried over.
    private func learnForCommit(_ inode: InodeID) async throws(VFSError) {
        let key: ObjectKey? = namespace.withLock { names in names[inode].flatMap { names.key(of: $0) } }
        guard let key, let info = try await headIfThere(key), let metadata = info.metadata else { return }
        namespace.withLock { names in
            guard let node = names[inode], node.version == info.etag else { return }
            let (size, modified, changed) = (node.size, node.modified, node.changed)
            node.adopt(AttributeCodec.decode(metadata, key: key), defaults: settings)
            (node.size, node.modified, node.changed) = (size, modified, changed)
        }
    }

    /// Nil for a file that has no name any more.
    private func snapshot(_ inode: InodeID, _ content: FileContent) throws(VFSError) -> Snapshot? {
        namespace.withLock { names in
            guard let node = names[inode], !node.isOrphan, let key = names.key(of: node) else { return nil }
            return content.state.withLock { state in
                Snapshot(
                    key: key, version: node.version, attributes: node.storedAttributes,
                    hasExplicitTime: node.hasExplicitTime, generation: state.generation, size: state.size,
                    image: state.image, base: state.base, staged: state.staged, stream: state.stream)
            }
        }
    }

    /// The precondition as far as the store honours it; else the comparison just before.
    private func guarded(_ wanted: Precondition, _ snapshot: Snapshot) async throws(VFSError) -> Precondition {
        switch wanted {
        case .none: return .none
        case .absent where capabilities.conditionalCreate: return wanted
        case .match where capabilities.conditionalReplace: return wanted
        default:
            let there = try await headIfThere(snapshot.key)
            guard there?.etag == snapshot.version else {
                throw VFSError(.preconditionFailed, "\(snapshot.key) was changed by somebody else")
            }
            return .none
        }
    }

    // MARK: Storing

    private func metadata(_ snapshot: Snapshot) throws(VFSError) -> ObjectMetadata {
        var attributes = snapshot.attributes
        if !snapshot.isBase { attributes.contentWillChange() }
        var metadata = try AttributeCodec.encode(attributes, limit: capabilities.maxMetadataBytes)
        if metadata.contentType == nil {
            metadata.contentType = AttributeCodec.contentType(forName: snapshot.key.string)
        }
        return metadata
    }

    func store(
        _ snapshot: Snapshot, _ content: FileContent, _ condition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let metadata = try metadata(snapshot)
        if let base = snapshot.base, snapshot.isBase, capabilities.serverCopy, base.size <= capabilities.maxCopySize {
            return try await provider.copy(
                CopyRequest(
                    source: base, destination: snapshot.key, metadata: metadata,
                    precondition: base.key == snapshot.key ? .none : condition))
        }
        if let stream = snapshot.stream {
            if stream.serves(snapshot.key, snapshot.staged) {
                return try await finish(stream, snapshot, content, metadata, condition)
            }
            // Renamed while it was on its way: the bytes go up anew, under the name that the file has now.
            giveUp(stream, content)
        }
        let image = snapshot.image ?? FileImage(size: snapshot.size, baseSize: snapshot.base?.size ?? 0)
        let plan = try UploadPlan(image: image, base: snapshot.base, capabilities: capabilities)
        switch plan.method {
        case .put:
            let source = try await source(Extent(0, image.size), image, snapshot, content)
            return try await provider.put(
                PutRequest(key: snapshot.key, metadata: metadata, precondition: condition), from: source)
        case .multipart(let parts):
            return try await upload(parts, image, snapshot, content, metadata, condition)
        }
    }

    func source(
        _ extent: Extent, _ image: FileImage, _ snapshot: Snapshot, _ content: FileContent
    ) async throws(VFSError) -> any ByteSource {
        if let source = ImageSource(image, extent, staged: snapshot.staged) { return source }
        let buffer = try await content.assemble(
            image.pieces(in: extent), extent, base: snapshot.base, staged: snapshot.staged)
        return BufferSource(buffer: buffer, count: extent.count)
    }

    private func finish(
        _ stream: StreamingUpload, _ snapshot: Snapshot, _ content: FileContent, _ metadata: ObjectMetadata,
        _ condition: Precondition
    ) async throws(VFSError) -> ObjectInfo {
        let isFirst = !stream.wasTried
        do throws(VFSError) {
            var info = try await stream.finish(
                size: snapshot.size, generation: snapshot.generation, precondition: condition)
            forget(stream, content)
            // The upload began before the last byte was written: its metadata has no times.
            let begun = try AttributeCodec.encode(
                snapshot.attributes.withoutTimes, limit: capabilities.maxMetadataBytes)
            if snapshot.hasExplicitTime || begun.user != stream.begunMetadata.user, capabilities.serverCopy {
                return try await provider.copy(
                    CopyRequest(source: info, destination: snapshot.key, metadata: metadata))
            }
            if info.metadata == nil { info = try await headIfThere(snapshot.key) ?? info }
            return info
        } catch {
            // What the store holds is of use to the next attempt, unless the cause will last.
            if error.mayPass { throw error }
            giveUp(stream, content)
            guard error.code == .uploadNotFound, !isFirst else { throw error }
            // The store has given it up since the first attempt.
            var rest = snapshot
            rest.stream = nil
            return try await store(rest, content, condition)
        }
    }

    private func giveUp(_ stream: StreamingUpload, _ content: FileContent) {
        forget(stream, content)
        stream.abandon()
    }

    private func forget(_ stream: StreamingUpload, _ content: FileContent) {
        content.state.withLock { state in if state.stream === stream { state.stream = nil } }
    }

    // MARK: Afterwards

    func settle(
        _ inode: InodeID, _ content: FileContent, _ snapshot: Snapshot, _ info: ObjectInfo
    ) throws(VFSError) {
        guard info.size == snapshot.size else {
            throw VFSError(.corrupted, "\(snapshot.key): the store has \(info.size) bytes of \(snapshot.size)")
        }
        drop(content.state.withLock { state in state.unfinished.take() })
        let now = SystemClock.monotonic()
        var stored = info
        stored.key = snapshot.key
        let reads: FileContent.Reads = namespace.withLock { names in
            let (unchanged, reads) = content.committed(
                snapshot.generation, over: snapshot.base, as: stored, attributesOnly: snapshot.isBase)
            guard let node = names[inode] else { return reads }
            node.keepsAttributes = false
            node.isToReplace = false
            node.version = info.etag
            node.stored = info.stored
            node.touched = now
            node.isKnown = true
            node.validUntil = self.expiry(now)
            if unchanged, let modified = self.timeOf(info, snapshot) {
                node.modified = modified
                node.changed = max(node.changed, modified)
            }
            if let parent = names[node.parent]?.directory { node.seenIn = parent.generation }
            return reads
        }
        content.redirect(reads)
    }

    /// A file sent while it was written has the time at which the store took it in; it could not be told another.
    private func timeOf(_ info: ObjectInfo, _ snapshot: Snapshot) -> Timestamp? {
        guard snapshot.stream != nil, let metadata = info.metadata, metadata.modified == nil else { return nil }
        return info.stored
    }

    /// Somebody else has changed the object: neither version is lost. This one goes under a name of its own, and the
    /// open file with it.
    func keepBoth(
        _ inode: InodeID, _ content: FileContent, _ snapshot: Snapshot
    ) async throws(VFSError) {
        let old = snapshot.key.string
        let start = old.utf8.lastIndex(of: UInt8(ascii: "/")).map { old.utf8.index(after: $0) } ?? old.startIndex
        let name = FileName(unchecked: Self.conflictName(String(old[start...])))
        var copy = snapshot
        copy.key = ObjectKey(String(old[..<start]) + name.string)
        copy.version = nil
        copy.stream = nil
        if let stream = snapshot.stream { giveUp(stream, content) }
        let info = try await store(copy, content, capabilities.conditionalCreate ? .absent : .none)
        let parent: InodeID? = namespace.withLock { names in
            guard let node = names[inode], let directory = names[node.parent], !node.isOrphan else { return nil }
            directory.directory?.children[node.name] = nil
            // What somebody else has made of the old name has not been seen here.
            directory.directory?.setAbsent(node.name, nil)
            directory.directory?.completeUntil = 0
            node.name = name
            names.attach(node, to: directory)
            return directory.id
        }
        try settle(inode, content, copy, info)
        log.warning(
            "changed here and elsewhere: both are kept",
            metadata: ["key": "\(snapshot.key)", "kept": "\(copy.key)"])
        guard let parent else { return }
        tellKernel { $0.invalidateEntry(parent: parent, name: FileName(unchecked: String(old[start...]))) }
    }

    /// `report.txt` becomes `report (conflict HOST 2026-01-31T12-00-00).txt`.
    static func conflictName(_ name: String, now: Timestamp = SystemClock.now()) -> String {
        var host = [CChar](repeating: 0, count: 65)
        gethostname(&host, host.count - 1)
        var seconds = now.seconds
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let time =
            "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T\(two(parts.tm_hour))-"
            + "\(two(parts.tm_min))-\(two(parts.tm_sec))"
        let label =
            " (conflict \(String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)) \(time))"
        var stem = Substring(name)
        var suffix = Substring("")
        if let dot = name.lastIndex(of: "."), dot > name.startIndex {
            stem = name[..<dot]
            suffix = name[dot...]
        }
        while !stem.isEmpty, stem.utf8.count + label.utf8.count + suffix.utf8.count > 255 { stem = stem.dropLast() }
        return stem + label + suffix
    }

    // MARK: The end

    /// Commits what open files hold that the store does not have, once it is all on disk. Failures stay in `statistics`,
    /// their bytes on disk.
    public func drain() async {
        isEnding.store(true, ordering: .relaxed)
        let contents: [(InodeID, FileContent)] = namespace.withLock { names in
            names.all.compactMap { node in node.isLocal ? node.content.map { (node.id, $0) } : nil }
        }
        for (_, content) in contents { await spill(content) }
        _ = await attempt { () async throws(VFSError) in
            try await inParallel(contents, width: 16) { entry async throws(VFSError) in
                let (inode, content) = entry
                let result = await attempt { () async throws(VFSError) in try await self.commit(inode, content) }
                if case .failure = result { content.state.withLock { $0.staged }?.keep() }
            }
        }
    }

    public func statistics() -> MountStatistics {
        var statistics = MountStatistics()
        namespace.withLock { names in
            statistics.inodes = names.count
            statistics.hiddenKeys = names.hiddenKeys
            statistics.hiddenKeyExamples = names.hiddenExamples
            for node in names.all {
                if node.isStale { statistics.staleNodes += 1 }
                guard node.content != nil else { continue }
                if node.openCount > 0 { statistics.openFiles += 1 }
                guard node.isLocal, let content = node.content else { continue }
                statistics.dirtyFiles += 1
                content.state.withLock { state in
                    statistics.dirtyBytes += state.image?.dirty.total ?? 0
                    guard let error = state.commitError, let since = state.failedSince else { return }
                    statistics.failedCommits.append(
                        MountStatistics.FailedCommit(
                            path: names.key(of: node)?.string ?? node.name.string,
                            stagedPath: state.staged?.place ?? "",
                            bytes: state.image?.dirty.total ?? 0, error: error.description, since: since))
                }
            }
        }
        return statistics
    }
}

extension FileImage {
    /// The same bytes over a base that a commit has just made of them, or of an earlier state of them.
    func rebased(onto baseSize: Int) -> FileImage {
        var image = FileImage(size: size, baseSize: baseSize)
        for piece in pieces(in: Extent(0, size)) {
            switch piece {
            case .staged(let extent): image.write(extent)
            case .zero(let extent): image.zero(extent)
            case .base: break
            }
        }
        return image
    }
}

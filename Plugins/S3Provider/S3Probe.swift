import CloudMountHTTP
import CloudMountVFS
import Synchronization

/// Finds out by harmless requests what an endpoint does: preconditions that are ignored, ranges that are, folder
/// objects that lose their metadata. Everything is written below the mount's prefix, under names that are the same at each
/// start of a mount and no other's, and deleted again: by the next start if need be. Conditions of copies and deletes are in `S3Probe+Conditions.swift`.
struct S3Probe: Sendable {
    /// What the names of all probes of a prefix begin with.
    static func stem(below prefix: String) -> ObjectKey { ObjectKey(prefix + ".cloudmount-probe-") }

    static let content = BytesSource("0123456789abcdef")

    let bucket: S3Bucket
    private let known: S3Features
    private let key: ObjectKey
    private let folder: ObjectKey
    private let neighbour: ObjectKey
    private let copied: ObjectKey
    let conditions: Conditions
    private let leftovers: ObjectKey
    private let remains: S3Remains
    private let name: S3ProbeName

    init(_ bucket: S3Bucket, believing known: S3Features, remains: S3Remains) {
        self.bucket = bucket
        self.known = known
        self.remains = remains
        leftovers = Self.stem(below: bucket.client.options.prefix)
        self.name = S3ProbeName(bucket.client)
        key = self.name.key
        let name = key.string
        // In byte order `…-d-x` comes before `…-d/`; in the order of a tree it does not.
        folder = ObjectKey(name + "-d/")
        neighbour = ObjectKey(name + "-d-x")
        copied = ObjectKey(name + "-c")
        conditions = Conditions(name)
    }

    /// - Throws: why the bucket cannot be written to, or that the endpoint went away meanwhile.
    func run() async throws(VFSError) -> S3Features {
        // What stands there would be taken for what is written now.
        await delete(remains.objects.filter { $0 == key || $0.hasPrefix(ObjectKey(key.string + "-")) })
        await abort(remains.uploads.filter { $0.key == key })
        let outcome = await attempt { () async throws(VFSError) in try await findOut() }
        let stale = (try? outcome.get())?.stale ?? []
        // Outside the task, whose cancellation may be the reason to stop.
        await Task { await clean(stale) }.value
        return try outcome.get().features
    }

    private struct Findings: Sendable {
        var features: S3Features
        /// Remains of probes that were cut short.
        var stale: [ObjectKey] = []
    }

    private func findOut() async throws(VFSError) -> Findings {
        let profile = bucket.client.profile
        var features = known

        async let createdObject = attempt { () async throws(VFSError) in try await create() }
        async let createdFolder = attempt { () async throws(VFSError) in try await createFolder() }
        async let createdNeighbour = attempt { () async throws(VFSError) in
            try await bucket.writer.put(neighbour, ObjectMetadata(), nil, from: Self.content)
        }
        async let begunFirst = attempt { () async throws(VFSError) in
            try await bucket.uploader.beginUpload(key, metadata: ObjectMetadata(), keeping: nil)
        }
        // One for each precondition: some servers forget an upload whose completion they have refused.
        async let begunSecond = attempt { () async throws(VFSError) in
            try await bucket.uploader.beginUpload(key, metadata: ObjectMetadata(), keeping: nil)
        }
        async let createdTargets = targets()
        let (objectResult, folderResult, neighbourResult, firstResult, secondResult) = await (
            createdObject, createdFolder, createdNeighbour, begunFirst, begunSecond
        )
        let targets = await createdTargets
        let (first, second) = (try? firstResult.get(), try? secondResult.get())
        do throws(VFSError) {
            let object = try objectResult.get()
            // What is read and copied is another object than the one that is written meanwhile.
            let source = try neighbourResult.get()
            let folderTaken = try folderResult.get()

            async let created = refuses { () async throws(VFSError) in
                _ = try await bucket.writer.put(
                    key, ObjectMetadata(), S3Signer.Field(name: "if-none-match", value: "*"), from: Self.content)
            }
            async let replaced = refuses { () async throws(VFSError) in
                _ = try await bucket.writer.put(
                    key, ObjectMetadata(), S3Signer.Field(name: "if-match", value: Self.wrongTag), from: Self.content)
            }
            async let copiedPinned = copies(source)
            async let copiedConditionally = copiesConditionally(source, targets)
            async let ranged = readsRange()
            async let folderKept = keepsFolder()
            async let listed = lists()
            async let firstPart = uploads(first)
            async let secondPart = uploads(second)
            async let rangeCopied = copiesRange(first, source)
            let answers = try await (
                created.get(), replaced.get(), copiedPinned.get(), ranged.get(), folderKept.get(), listed.get(),
                firstPart.get(), secondPart.get(), rangeCopied.get()
            )
            let copies = try await copiedConditionally.get()

            let trusted = profile.conditionalWrites
            features.putAbsent = decide(trusted, object.conditional && answers.0)
            features.putMatch = decide(trusted, answers.1)
            features.serverCopy = decide(profile.serverCopy, answers.2 != .fails)
            features.copyAbsent = decide(profile.conditionalCopy, copies.absent)
            features.copyMatch = decide(profile.conditionalCopy, copies.match)
            features.pinnedCopy = decide(profile.pinnedCopy, answers.2 == .pinned)
            features.rangedRead = decide(profile.rangedRead, answers.3)
            features.folderObjects = decide(profile.folderObjects, answers.4 && answers.5.folder)
            features.emptyFolders = folderTaken.map { $0 && answers.5.takesFolder } ?? true
            features.sortedListing = decide(profile.sortedListing, folderTaken == true && answers.5.sorted)
            features.multipart = decide(profile.multipart, answers.6 != nil)
            features.rangeCopy = decide(profile.rangeCopy, answers.8)

            async let absent = completes(first, answers.6, S3Signer.Field(name: "if-none-match", value: "*"))
            async let match = completes(
                second, answers.7, S3Signer.Field(name: "if-match", value: Self.wrongTag))
            async let deleted = deletesConditionally(source, copies.targets)
            let refused = try await (absent.get(), match.get())
            let deletes = try await deleted.get()
            features.deleteMatch = decide(profile.conditionalDelete, deletes.one)
            features.deleteManyMatch = decide(profile.conditionalDelete, deletes.many)
            features.completeAbsent = decide(trusted, refused.0)
            features.completeMatch = decide(trusted, refused.1)
            await abort([first, second])
            // Some make a file of a folder (rclone).
            let file = features.emptyFolders ? [] : [ObjectKey(String(folder.string.dropLast()))]
            return Findings(features: features, stale: file + answers.5.stale)
        } catch {
            await abort([first, second])
            throw error
        }
    }

    static let wrongTag = "\"00000000000000000000000000000000\""

    private func decide(_ trust: S3Profile.Trust, _ shown: Bool) -> Bool {
        switch trust {
        case .proven: true
        case .probe: shown
        case .never: false
        }
    }

    /// An endpoint that does not answer has shown nothing: `prepare` fails and is tried again.
    func unanswered(_ error: VFSError) -> Bool { error.wire?.status == 0 || error.code == .cancelled }

    // MARK: Steps

    /// The object of the probe; whether the endpoint took it with `If-None-Match`.
    private func create() async throws(VFSError) -> (info: ObjectInfo, conditional: Bool) {
        do throws(VFSError) {
            let condition = S3Signer.Field(name: "if-none-match", value: "*")
            if bucket.client.profile.conditionalWrites == .probe {
                return (try await bucket.writer.put(key, ObjectMetadata(), condition, from: Self.content), true)
            }
        } catch {
            // Some refuse the header instead of passing over it.
            guard [.notSupported, .invalidArgument, .preconditionFailed].contains(error.code) else { throw error }
        }
        return (try await bucket.writer.put(key, ObjectMetadata(), nil, from: Self.content), false)
    }

    /// Whether the endpoint takes an object whose key ends in `/`; nil when its answer says nothing of that.
    private func createFolder() async throws(VFSError) -> Bool? {
        // Twice, since the first refusal may be a passing fault.
        for _ in 0..<2 {
            do throws(VFSError) {
                let metadata = ObjectMetadata(user: ["cloudmount": "probe"])
                _ = try await bucket.writer.put(folder, metadata, nil, from: BytesSource([]))
                return true
            } catch {
                if unanswered(error) { throw error }
                if error.code == .permissionDenied || error.code == .throttled { return nil }
            }
        }
        return false
    }

    /// Whether a condition that does not hold is answered by 412.
    private func refuses(_ body: @Sendable () async throws(VFSError) -> Void) async -> Result<Bool, VFSError> {
        guard bucket.client.profile.conditionalWrites == .probe else { return .success(false) }
        switch await attempt(body) {
        case .success: return .success(false)
        case .failure(let error):
            return unanswered(error) ? .failure(error) : .success(error.code == .preconditionFailed)
        }
    }

    private enum Copying { case fails, unpinned, pinned }

    private func copies(_ source: ObjectInfo) async -> Result<Copying, VFSError> {
        var source = source
        source.etag = ETag("00000000000000000000000000000000")
        let request = CopyRequest(source: source, destination: copied)
        switch await attempt({ () async throws(VFSError) in try await bucket.copier.copy(request, nil, pinned: true) })
        {
        case .success: return .success(.unpinned)
        case .failure(let error):
            if unanswered(error) { return .failure(error) }
            return .success(error.code == .stale ? .pinned : .fails)
        }
    }

    private func readsRange() async -> Result<Bool, VFSError> {
        let sink = ProbeSink()
        let request = ReadRequest(key: neighbour, extent: Extent(4, 8))
        switch await attempt({ () async throws(VFSError) in try await bucket.reader.read(request, into: sink) }) {
        case .success: return .success(sink.bytes == Array("4567".utf8))
        case .failure(let error): return unanswered(error) ? .failure(error) : .success(false)
        }
    }

    private func keepsFolder() async -> Result<Bool, VFSError> {
        switch await attempt({ () async throws(VFSError) in try await bucket.reader.head(folder) }) {
        case .success(let info): return .success(info.metadata?.user["cloudmount"] == "probe")
        case .failure(let error): return unanswered(error) ? .failure(error) : .success(false)
        }
    }

    private struct Listed: Sendable {
        var sorted = false
        var folder = false
        /// Not listed although what was written beside it is.
        var takesFolder = true
        var stale: [ObjectKey] = []
    }

    /// Whether `…-d-x` is listed before `…-d/`, and what other probes have left behind an hour ago or earlier.
    private func lists() async -> Result<Listed, VFSError> {
        let request = ListRequest(prefix: leftovers, delimited: false)
        switch await attempt({ () async throws(VFSError) in try await bucket.lister.list(request) }) {
        case .success(let page):
            let keys = page.objects.map(\.key)
            let now = page.objects.first { $0.key == neighbour }?.stored.seconds
            let stale = page.objects.filter { object in now.map { object.stored.seconds < $0 - 3600 } ?? false }
            let places = (keys.firstIndex(of: neighbour), keys.firstIndex(of: folder))
            guard let first = places.0, let second = places.1 else {
                return .success(
                    Listed(folder: places.1 != nil, takesFolder: places.0 == nil, stale: stale.map(\.key)))
            }
            return .success(Listed(sorted: first < second, folder: true, stale: stale.map(\.key)))
        case .failure(let error): return unanswered(error) ? .failure(error) : .success(Listed())
        }
    }

    private func uploads(_ upload: Upload?) async -> Result<UploadedPart?, VFSError> {
        guard let upload else { return .success(nil) }
        switch await attempt({ () async throws(VFSError) in
            try await bucket.uploader.uploadPart(upload, number: 1, from: Self.content)
        }) {
        case .success(let part): return .success(part)
        case .failure(let error): return unanswered(error) ? .failure(error) : .success(nil)
        }
    }

    private func copiesRange(_ upload: Upload?, _ source: ObjectInfo) async -> Result<Bool, VFSError> {
        guard let upload, bucket.client.profile.rangeCopy == .probe else { return .success(false) }
        switch await attempt({ () async throws(VFSError) in
            try await bucket.uploader.copyPart(upload, number: 2, source: source, extent: Extent(0, 8), pinned: true)
        }) {
        case .success: return .success(true)
        case .failure(let error): return unanswered(error) ? .failure(error) : .success(false)
        }
    }

    private func completes(
        _ upload: Upload?, _ part: UploadedPart?, _ condition: S3Signer.Field
    ) async -> Result<Bool, VFSError> {
        guard let upload, let part else { return .success(false) }
        return await refuses { () async throws(VFSError) in
            _ = try await bucket.uploader.completeUpload(upload, parts: [part], condition)
        }
    }

    // MARK: Cleaning

    private func abort(_ uploads: [Upload?]) async {
        await Task {
            await withTaskGroup { group in
                for case let upload? in uploads { group.addTask { try? await bucket.uploader.abortUpload(upload) } }
            }
        }.value
    }

    private func clean(_ stale: [ObjectKey]) async {
        await delete([key, folder, neighbour, copied] + conditions.keys + stale.prefix(100))
    }

    private func delete(_ keys: [ObjectKey]) async {
        await withTaskGroup { group in
            for key in keys where !key.isEmpty {
                group.addTask { _ = try? await bucket.deleter.delete([DeleteRequest(key)]) }
            }
        }
    }
}

/// Collects the few bytes of a probe.
private final class ProbeSink: ByteSink {
    private let collected = Mutex<[UInt8]>([])

    var bytes: [UInt8] { collected.withLock { $0 } }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        collected.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}

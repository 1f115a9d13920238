import CloudMountPlatform
public import CloudMountVFS
import Synchronization

extension B2Provider {
    /// b2_copy_file; above its limit a large file made of copied parts.
    public func copy(_ request: CopyRequest) async throws(VFSError) -> ObjectInfo {
        try B2Names.check(request.destination)
        try await compare(request.precondition, request.destination)
        return try await copy(request.source, to: request.destination, metadata: request.metadata)
    }

    /// Copies one version, whether it is current or not.
    func copy(
        _ source: ObjectInfo, to destination: ObjectKey, metadata: ObjectMetadata?
    ) async throws(VFSError) -> ObjectInfo {
        if source.size > copyLimit { return try await copyInParts(source, to: destination, metadata: metadata) }
        let name = B2Names.name(destination)
        var call = B2Call("b2_copy_file", destination)
        call.worksOn = source.size
        call.body.add("sourceFileId", source.etag.value)
        call.body.add("fileName", name)
        if let metadata {
            call.body.add("metadataDirective", "REPLACE")
            call.body.add("contentType", try contentType(metadata))
            call.body.add("fileInfo", B2FileInfo.json(try entries(metadata, name: name)))
        } else {
            call.body.add("metadataDirective", "COPY")
        }
        call.body.add("sourceServerSideEncryption", client.encryption.source)
        call.body.add("destinationServerSideEncryption", client.encryption.destination)
        let file: B2File = try await client.send(call) { reader throws(B2JSONError) in try B2File.read(&reader) }
        seen(destination, file.id)
        return file.object(destination)
    }

    /// - Parameter lately: having looked within the last second will do, for the ranges of one object come in swarms.
    func compare(_ source: ObjectInfo, lately: Bool = true) async throws(VFSError) {
        if lately, wasSeen(source.key, source.etag) { return }
        let current = try await head(source.key)
        guard current.etag == source.etag else {
            throw VFSError(.stale, "the source of the copy has been changed meanwhile")
        }
    }

    // MARK: In parts

    /// Eight ranges at once; given up and cleaned away when one fails.
    private func copyInParts(
        _ source: ObjectInfo, to destination: ObjectKey, metadata given: ObjectMetadata?
    ) async throws(VFSError) -> ObjectInfo {
        var metadata = given ?? source.metadata
        if metadata == nil { metadata = try await info(source.etag.value, source.key).object(source.key).metadata }
        // Two parts at least, and no more than there may be.
        let least = max(copyPartSize, (source.size + Self.maxParts - 1) / Self.maxParts)
        let count = max(2, (source.size + least - 1) / least)
        let extents = (0..<count).map { Extent(source.size * $0 / count, source.size * ($0 + 1) / count) }
        let upload = try await beginUpload(destination, metadata: metadata ?? ObjectMetadata())
        do throws(VFSError) {
            let parts = try await eightAtOnce(Array(extents.enumerated())) { part async throws(VFSError) in
                try await self.copyPart(
                    upload, number: part.offset + 1, sourceID: source.etag.value, part.element)
            }
            return try await completeUpload(upload, parts: parts, precondition: .none)
        } catch {
            // Outside the task, whose cancellation may be the reason.
            await Task { try? await self.abortUpload(upload) }.value
            throw error
        }
    }
}

/// What this provider has lately learnt to be current, which spares a look.
struct B2Sightings {
    /// Nanoseconds for which a look is believed.
    private let life: UInt64
    /// The same for a listing of all below a prefix, of which a renamed directory's copies are made.
    private static let listingLife: UInt64 = 10_000_000_000

    init(life: UInt64 = 1_000_000_000) { self.life = life }

    private var object: (key: ObjectKey, id: String, until: UInt64)?
    private var listing: (prefix: ObjectKey, until: UInt64)?

    mutating func saw(_ key: ObjectKey, _ id: String, at now: UInt64) { object = (key, id, now + life) }
    mutating func forget(_ key: ObjectKey) { if object?.key == key { object = nil } }
    mutating func listed(below prefix: ObjectKey, at now: UInt64) { listing = (prefix, now + Self.listingLife) }

    func has(_ key: ObjectKey, _ etag: ETag, at now: UInt64) -> Bool {
        object.map { $0.key == key && $0.id == etag.value && now < $0.until } ?? false
    }

    func hasListed(_ key: ObjectKey, at now: UInt64) -> Bool {
        listing.map { key.hasPrefix($0.prefix) && now < $0.until } ?? false
    }
}

extension B2Provider {
    func seen(_ key: ObjectKey, _ id: String) {
        let now = SystemClock.monotonic()
        sightings.withLock { $0.saw(key, id, at: now) }
    }

    func wasSeen(_ key: ObjectKey, _ etag: ETag) -> Bool {
        let now = SystemClock.monotonic()
        return sightings.withLock { $0.has(key, etag, at: now) }
    }

    func noteListing(_ prefix: ObjectKey) {
        let now = SystemClock.monotonic()
        sightings.withLock { $0.listed(below: prefix, at: now) }
    }

    func wasListed(_ key: ObjectKey) -> Bool {
        let now = SystemClock.monotonic()
        return sightings.withLock { $0.hasListed(key, at: now) }
    }
}

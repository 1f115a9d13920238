import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// Puts files whole.
struct B2Writer: Sendable {
    /// Larger new files are looked for first: their bytes would have gone up for nothing.
    static let besideLimit = 16 << 20

    let client: B2Client
    let bucket: B2Bucket
    let files: B2Files
    let uploader: B2Uploader
    let copier: B2Copier
    private let headStart = B2HeadStart()

    init(client: B2Client, bucket: B2Bucket, files: B2Files, uploader: B2Uploader, copier: B2Copier) {
        self.client = client
        self.bucket = bucket
        self.files = files
        self.uploader = uploader
        self.copier = copier
    }

    /// b2_upload_file.
    ///
    /// B2 has no conditional write. A precondition is compared just before, that a small file is new at the same time
    /// (`putBeside`): the best there is, not atomic; what is overwritten remains as an older version.
    func put(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        try B2Names.check(request.key)
        guard source.count <= B2Provider.maxPieceSize else {
            throw VFSError(.tooLarge, "one upload to B2 takes at most 5 GB")
        }
        if request.precondition == .absent, source.count <= Self.besideLimit {
            return try await putBeside(request, from: source)
        }
        try await files.compare(request.precondition, request.key)
        return try await put(request.key, request.metadata, from: source)
    }

    /// Puts it on top of whatever is there.
    func put(
        _ key: ObjectKey, _ metadata: ObjectMetadata, from source: any ByteSource
    ) async throws(VFSError) -> ObjectInfo {
        let bucketID = bucket.id
        let name = B2Names.name(key)
        let entries = try bucket.entries(metadata, name: name)
        var headers = HTTPHeaders()
        headers.append("X-Bz-File-Name", B2FileInfo.encode(name))
        headers.append("Content-Type", try bucket.contentType(metadata))
        B2FileInfo.addHeaders(entries, to: &headers)
        client.encryption.addUploadHeaders(to: &headers)
        let (file, sha1) = try await uploader.send("b2_upload_file", key, owner: "", headers, source) {
            reader throws(JSONError) in
            try B2File.read(&reader)
        } url: { () throws(VFSError) in
            var call = B2Call("b2_get_upload_url", key)
            call.body.add("bucketId", bucketID)
            return call
        }
        try uploader.verify(file.sha1, sha1, file.size, source.count, key)
        return file.object(key)
    }

    // MARK: New files

    /// New small files. The look whether the name is still free goes out just before the write instead of being waited for,
    /// which spares a round trip. When somebody else had made the file by then, ours is taken away again, and theirs is the
    /// current version as before.
    private func putBeside(_ request: PutRequest, from source: any ByteSource) async throws(VFSError) -> ObjectInfo {
        async let look = attempt { () async throws(VFSError) in
            let began = SystemClock.monotonic()
            let there = try await self.files.headIfThere(request.key)
            self.headStart.note(SystemClock.monotonic() - began)
            return there
        }
        if let time = headStart.nanoseconds { try? await Task.sleep(for: .nanoseconds(time)) }
        let put = await attempt { () async throws(VFSError) in
            try await self.put(request.key, request.metadata, from: source)
        }
        let there = await look
        let stored = try put.get()
        if case .success(nil) = there { return stored }
        // Somebody's version is there, our own was seen already, or the look failed: what lies below ours tells.
        let now = try await versions(request.key, below: stored, nonce: request.metadata.nonce)
        let isBeside = if case .success(let other?) = there { !now.all.contains(other.etag.value) } else { false }
        guard now.isOverAnother || isBeside else { return stored }
        for file in now.ours.reversed() { try await takeAway(file, stored, now.another, request.key) }
        throw B2Files.taken
    }

    private struct Versions {
        /// Ids of all versions of the name.
        var all: Set<String> = []
        /// What this write has made, by earlier attempts as well; newest first.
        var ours: [B2File] = []
        /// What was current before.
        var another: B2File?
        var isOverAnother: Bool { another != nil }
    }

    private func versions(
        _ key: ObjectKey, below stored: ObjectInfo, nonce: String?
    ) async throws(VFSError) -> Versions {
        let all = try await files.allVersions(B2Names.name(key), key).filter {
            $0.action == .upload || $0.action == .hide
        }
        var versions = Versions(all: Set(all.map(\.id)))
        // What is above came later, and is no concern of ours.
        for file in all.drop(while: { $0.id != stored.etag.value }) {
            let isOurs =
                file.id == stored.etag.value
                || nonce != nil && file.action == .upload && file.object(key).metadata?.nonce == nonce
            guard isOurs else {
                if file.action == .upload { versions.another = file }
                break
            }
            versions.ours.append(file)
        }
        return versions
    }

    /// Deletes a version of ours, which brings back the one below. Where that is not permitted a copy of the other
    /// goes on top, if ours is still the current one.
    private func takeAway(
        _ file: B2File, _ stored: ObjectInfo, _ another: B2File?, _ key: ObjectKey
    ) async throws(VFSError) {
        do throws(VFSError) {
            try await client.sendUnlessAbsent(.deletion(file, key))
        } catch {
            guard error.code == .permissionDenied || error.code == .notSupported || error.code == .conflict else {
                throw error
            }
            guard file.id == stored.etag.value, let another, try await files.headIfThere(key)?.etag == stored.etag
            else {
                return
            }
            _ = try await copier.copy(another.object(key), to: key, metadata: nil)
        }
    }
}

/// How much earlier than a write its look goes out. Where both take equally long, as they do over a long way, the look
/// then comes first; one that finds our own version already needs a further question.
final class B2HeadStart: Sendable {
    private static let share: UInt64 = 40
    private static let most: UInt64 = 500_000
    /// Less is not worth the timer.
    private static let least: UInt64 = 100_000

    /// What looks have taken lately. A lost update does no harm.
    private let time = Atomic<UInt64>(0)

    func note(_ nanoseconds: UInt64) {
        let old = time.load(ordering: .relaxed)
        time.store((old * 3 + nanoseconds) / 4, ordering: .relaxed)
    }

    /// A fortieth of what looks take, half a millisecond at most; nil: none.
    var nanoseconds: UInt64? {
        let start = min(time.load(ordering: .relaxed) / Self.share, Self.most)
        return start < Self.least ? nil : start
    }
}

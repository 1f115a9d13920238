import CloudMountCrypto
import CloudMountHTTP
import CloudMountPlatform
import CloudMountVFS
import Glibc
import Synchronization

/// What the first contact has shown.
struct S3Contact: Sendable {
    var server: String?
    var versioned = false
    /// What an earlier start of this mount that was cut short has left behind.
    var remains = S3Remains()
    /// Why the store takes no writes.
    var refusal: VFSError?
}

/// What a probe has made and not taken away.
struct S3Remains: Sendable {
    var objects: [ObjectKey] = []
    var uploads: [Upload] = []

    var isEmpty: Bool { objects.isEmpty && uploads.isEmpty }
}

extension S3Bucket {
    /// HeadBucket says whether the bucket is there, a listing why it cannot be used, both the region; at once.
    func contact(writable: Bool) async throws(VFSError) -> S3Contact {
        let prefix = ObjectKey(client.options.prefix)
        async let bucket = attempt { () async throws(VFSError) in
            var wire = S3Request("HeadBucket", .head)
            self.client.addPayer(&wire)
            return try await self.client.send(wire).headers
        }
        async let listing = attempt { () async throws(VFSError) in
            try await self.lister.list(ListRequest(prefix: prefix, delimited: true, limit: 1))
        }
        async let versioning = attempt { () async throws(VFSError) in
            var wire = S3Request("GetBucketVersioning", .get)
            wire.parameter("versioning")
            return try await self.client.send(wire, root: "VersioningConfiguration").0["Status"]
        }
        let isProbed = writable && client.profile.needsProbe
        async let refusal = writable && !isProbed ? refusal() : nil
        async let remains = isProbed ? remains() : S3Remains()
        let (head, page, status) = await (bucket, listing, versioning)
        var contact = await S3Contact(remains: remains, refusal: refusal)
        if case .failure(let error) = head, error.code == .notFound || error.code == .bucketNotFound {
            throw VFSError(.bucketNotFound, "there is no bucket '\(client.options.bucket)'", wire: error.wire)
        }
        _ = try page.get()
        contact.server = (try? head.get())?["server"]
        contact.versioned = (try? status.get()) != nil
        return contact
    }

    /// Asks for what needs the right to write and comes to nothing: a part of an upload that there is not. Policies may ask more of whole
    /// objects than of parts or less, so both must be refused, where the store is known to keep the condition that makes the object impossible.
    func refusal() async -> VFSError? {
        let key = S3ProbeName.base(client.options)
        let upload = Upload(key: key, id: "cloudmount-probe")
        let part = await attempt { () async throws(VFSError) in
            try await uploader.uploadPart(upload, number: 1, from: S3Probe.content)
        }
        guard case .failure(let refusal) = part, refusal.isRefusal else { return nil }
        guard client.features.putMatch else { return refusal }
        let impossible = S3Signer.Field(name: "if-match", value: S3Probe.wrongTag)
        let object = await attempt { () async throws(VFSError) in
            try await writer.put(key, ObjectMetadata(), impossible, from: S3Probe.content)
        }
        guard case .failure(let error) = object, error.isRefusal else { return nil }
        return error
    }

    private func remains() async -> S3Remains {
        let name = S3ProbeName.base(client.options)
        async let listed = attempt { () async throws(VFSError) in
            try await self.lister.list(ListRequest(prefix: name, delimited: false))
        }
        async let begun = attempt { () async throws(VFSError) in try await self.uploader.begun(below: name) }
        let (page, uploads) = await (listed, begun)
        var remains = S3Remains()
        if case .success(let page) = page { remains.objects = page.objects.map(\.key) + page.unreadable }
        if case .success(let uploads) = uploads { remains.uploads = uploads }
        return remains
    }
}

/// The name of a probe: the same at each start of a mount on a machine, so that what one leaves behind is found by the next; and that of no
/// other that is under way, whose objects it would disturb.
final class S3ProbeName: Sendable {
    private static let used = Mutex<Set<String>>([])
    let key: ObjectKey
    private let id: String

    init(_ client: S3Client) {
        let base = Self.base(client.options)
        let place = "\(client.options.sharedEndpoint) \(client.options.bucket) "
        (key, id) = Self.used.withLock { used in
            var key = base
            var count = 0
            while !used.insert(place + key.string).inserted {
                count += 1
                key = ObjectKey("\(base.string)~\(count)")
            }
            return (key, place + key.string)
        }
    }

    deinit { Self.used.withLock { _ = $0.remove(id) } }

    static func base(_ options: S3Options) -> ObjectKey {
        var host = [CChar](repeating: 0, count: 256)
        _ = gethostname(&host, host.count - 1)
        var hash = SHA256()
        hash.update(host.map { UInt8(bitPattern: $0) })
        hash.update(Array("\(getuid()) \(options.mountName)".utf8))
        return ObjectKey(S3Probe.stem(below: options.prefix).string + Hex.string(hash.finish().prefix(8)))
    }
}

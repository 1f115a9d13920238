import CloudMountVFS

/// One bucket of one endpoint: its client, and the verbs. Each knows only those above it.
final class S3Bucket: Sendable {
    let client: S3Client
    let lister: S3Lister
    let listing: S3Listing
    let versionLister: S3VersionLister
    let reader: S3Reader
    let writer: S3Writer
    let deleter: S3Deleter
    let uploader: S3Uploader
    let copier: S3Copier

    init(_ client: S3Client, copyLimit: Int, copyPartSize: Int) {
        let storage = S3Storage(client)
        self.client = client
        lister = S3Lister(client)
        versionLister = S3VersionLister(client)
        reader = S3Reader(client, storage, lister)
        listing = S3Listing(client, lister, reader)
        let looks = S3Looks(client, reader, lister)
        writer = S3Writer(client, storage, looks)
        deleter = S3Deleter(client, reader, looks)
        uploader = S3Uploader(client, storage, reader, looks)
        copier = S3Copier(
            client, storage, reader, looks, uploader, deleter, limit: copyLimit, partSize: copyPartSize)
    }

    /// Bucket, credentials and region in one round trip (more where the region was wrong); then, for a writable mount
    /// of an endpoint that is not known to keep its promises, the probe. Credentials that may only read make the mount a read-only one.
    func prepare(writable: Bool) async throws(VFSError) {
        client.startAnew()
        try await client.prepareRegion()
        let contact = try await contact(writable: writable)
        client.recognise(server: contact.server)
        var features = S3Features(client.profile)
        features.versions = contact.versioned
        if writable {
            do throws(VFSError) {
                if let refusal = contact.refusal { throw refusal }
                if client.profile.needsProbe {
                    features = try await S3Probe(self, believing: features, remains: contact.remains).run()
                }
            } catch {
                guard error.isRefusal else { throw error }
                features.readOnlyReason = "these credentials may not write: \(error.message)"
            }
        }
        client.features = features
    }
}

extension VFSError {
    /// The store's last word: not one that means "slower".
    var isRefusal: Bool { code == .permissionDenied && retry == .never }
}

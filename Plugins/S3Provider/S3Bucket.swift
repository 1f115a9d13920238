import CloudMountVFS

/// One bucket of one endpoint: its client, and the verbs. Each knows only those above it.
final class S3Bucket: Sendable {
    let client: S3Client
    let lister: S3Lister
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
        reader = S3Reader(client, storage)
        let looks = S3Looks(client, reader, lister)
        writer = S3Writer(client, storage, looks)
        deleter = S3Deleter(client, reader, looks)
        uploader = S3Uploader(client, storage, reader, looks)
        copier = S3Copier(
            client, storage, reader, looks, uploader, deleter, limit: copyLimit, partSize: copyPartSize)
    }

    /// Bucket, credentials and region in one round trip (more where the region was wrong); then, for a writable mount
    /// of an endpoint that is not known to keep its promises, the probe.
    func prepare(writable: Bool) async throws(VFSError) {
        client.startAnew()
        try await client.prepareRegion()
        let contact = try await contact()
        client.recognise(server: contact.server)
        var features = S3Features(client.profile)
        features.versions = contact.versioned
        if writable, client.profile.needsProbe {
            features = try await S3Probe(self, believing: features).run()
        }
        client.features = features
    }
}

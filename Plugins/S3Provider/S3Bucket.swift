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
    private let memory: (any ProviderMemory)?

    init(_ client: S3Client, memory: (any ProviderMemory)?, copyLimit: Int, copyPartSize: Int) {
        let storage = S3Storage(client)
        self.client = client
        self.memory = memory
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
        let contact = try await contact(writable: writable)
        client.recognise(server: contact.server)
        var features = S3Features(client.profile)
        features.versions = contact.versioned
        if writable {
            do throws(VFSError) {
                if client.profile.needsProbe {
                    features = try await found(contact, believing: features)
                } else if let refusal = contact.refusal {
                    throw refusal
                }
            } catch {
                guard error.isRefusal else { throw error }
                features.readOnlyReason = "these credentials may not write: \(error.message)"
            }
        }
        client.features = features
    }

    /// What a probe finds, or what one has found not long ago, where nothing speaks against it.
    private func found(_ contact: S3Contact, believing known: S3Features) async throws(VFSError) -> S3Features {
        let credentials = try await client.credentials.current().credentials
        let findings = S3Findings(client, known, server: contact.server, accessKey: credentials?.accessKeyID)
        if contact.remains.isEmpty, let kept = await memory?.recall(findings.name),
            let features = findings.features(kept, now: client.now().seconds)
        {
            // Where parts are not known one could become an object.
            let refusal = features.multipart ? await refusal() : nil
            if refusal == nil { return features }
        }
        let features = try await S3Probe(self, believing: known, remains: contact.remains).run()
        await memory?.keep(findings.text(features, now: client.now().seconds), as: findings.name)
        return features
    }
}

extension VFSError {
    /// The store's last word: not one that means "slower".
    var isRefusal: Bool { code == .permissionDenied && retry == .never }
}

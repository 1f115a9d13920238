/// The endpoints that differ, as data. Unknown ones are `generic`: nothing is believed that a probe has not shown.
enum S3Profiles {
    static let all: [S3Profile] = [
        aws, generic, minio, seaweedfs, ceph, r2, wasabi, b2, gcs, digitalocean, scaleway,
    ]

    static let generic = S3Profile("generic")

    static let aws = make("aws") {
        $0.hosts = Set(S3Partition.all.map { ".\($0.suffix)" }).sorted()
        $0.pathStyle = false
        $0.sortedListing = .proven
        $0.folderObjects = .proven
        $0.conditionalWrites = .proven
        $0.conditionalCopy = .proven
        $0.conditionalDelete = .proven
        $0.serverCopy = .proven
        $0.pinnedCopy = .proven
        $0.rangeCopy = .proven
        $0.multipart = .proven
        $0.rangedRead = .proven
    }

    /// No host name of its own; older releases lack conditional writes, so they are probed.
    static let minio = make("minio") {
        $0.server = "minio"
        $0.sortedListing = .proven
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
    }

    /// A tree underneath: `a/b` is listed before `a-b`, folder objects lose body and metadata.
    static let seaweedfs = make("seaweedfs") {
        $0.server = "seaweedfs"
        $0.sortedListing = .never
        $0.folderObjects = .never
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
    }

    static let ceph = make("ceph") {
        $0.listVersion = 1
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
    }

    static let r2 = make("r2") {
        $0.hosts = [".r2.cloudflarestorage.com"]
        $0.region = "auto"
        $0.equalParts = true
        $0.throttlesWith403 = true
        $0.refusedOptions = ["sse", "sse_kms_key_id", "requester_pays"]
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
    }

    static let wasabi = make("wasabi") {
        $0.hosts = [".wasabisys.com"]
        $0.refusedOptions = ["sse_kms_key_id", "requester_pays"]
        $0.sortedListing = .proven
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
    }

    /// Backblaze B2 through its S3 endpoint. Its PutObject knows no preconditions.
    static let b2 = make("b2") {
        $0.hosts = [".backblazeb2.com"]
        $0.refusedOptions = ["sse_kms_key_id", "requester_pays", "storage_class"]
        $0.conditionalWrites = .never
        $0.conditionalCopy = .never
        $0.conditionalDelete = .never
        $0.sortedListing = .proven
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
    }

    /// Google Cloud Storage by its XML interface with HMAC keys. Its preconditions are generations, not ETags.
    static let gcs = make("gcs") {
        $0.hosts = ["storage.googleapis.com"]
        $0.region = "auto"
        $0.maxDeleteKeys = 1
        $0.refusedOptions = ["sse", "sse_kms_key_id", "requester_pays"]
        $0.conditionalWrites = .never
        $0.conditionalCopy = .never
        $0.conditionalDelete = .never
        $0.rangeCopy = .never
        $0.sortedListing = .proven
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
        $0.unpacks = true
    }

    static let digitalocean = make("digitalocean") {
        $0.hosts = [".digitaloceanspaces.com"]
        $0.urlEncodedListing = false
        $0.refusedOptions = ["sse", "sse_kms_key_id", "requester_pays", "storage_class"]
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
    }

    static let scaleway = make("scaleway") {
        $0.hosts = [".scw.cloud"]
        $0.maxParts = 1000
        $0.refusedOptions = ["sse_kms_key_id", "requester_pays"]
        $0.sortedListing = .proven
        $0.rangedRead = .proven
        $0.serverCopy = .proven
        $0.multipart = .proven
    }

    static func named(_ name: String) -> S3Profile? { all.first { $0.name.utf8.elementsEqual(name.utf8) } }

    /// By host name; `generic` when it says nothing.
    static func forHost(_ host: String) -> S3Profile {
        let host = host.lowercased()
        return all.first { $0.hosts.contains { host.hasSuffix($0) } } ?? generic
    }

    /// By the `Server:` header of an answer; nil when it says nothing.
    static func forServer(_ header: String) -> S3Profile? {
        let header = header.lowercased()
        return all.first { profile in profile.server.map { header.hasPrefix($0) } ?? false }
    }

    private static func make(_ name: String, _ change: (inout S3Profile) -> Void) -> S3Profile {
        var profile = S3Profile(name)
        change(&profile)
        return profile
    }
}

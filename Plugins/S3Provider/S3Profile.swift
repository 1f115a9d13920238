/// What is known of one kind of S3 endpoint before a byte is exchanged. The table is in `S3Profiles.swift`.
struct S3Profile: Sendable, Equatable {
    /// How far a feature is to be trusted.
    enum Trust: Sendable, Equatable {
        /// The vendor keeps it: used without asking.
        case proven
        /// Used when a probe at the first writable mount has shown it.
        case probe
        /// Not used.
        case never
    }

    /// The word in `endpoint_profile:`.
    var name: String
    /// The ends of host names that mean this profile.
    var hosts: [String] = []
    /// The start of a `Server:` header that means this profile, in lower case.
    var server: String?
    /// Region when nobody says one; nil for `us-east-1`.
    var region: String?

    // MARK: Wire

    var pathStyle = true
    /// 1 or 2: which ListObjects.
    var listVersion = 2
    /// `encoding-type=url` is asked for.
    var urlEncodedListing = true
    /// Keys in one DeleteObjects; 1 when the endpoint has none.
    var maxDeleteKeys = 1000
    var maxParts = 10_000
    var minPartSize = 5 << 20
    /// All parts of an upload but the last must be of one size.
    var equalParts = false
    /// 403 may mean "slower".
    var throttlesWith403 = false
    /// Objects that are stored packed (`Content-Encoding: gzip`) are unpacked on the way, without their length, for who does not say that
    /// it takes them as they are.
    var unpacks = false
    /// Options that the endpoint refuses.
    var refusedOptions: [String] = []

    // MARK: Features

    var sortedListing = Trust.probe
    var folderObjects = Trust.probe
    /// `If-None-Match: *` and `If-Match` on PutObject and CompleteMultipartUpload.
    var conditionalWrites = Trust.probe
    /// The same on CopyObject, for its destination.
    var conditionalCopy = Trust.probe
    /// `If-Match` on DeleteObject, and `<ETag>` in DeleteObjects.
    var conditionalDelete = Trust.probe
    var serverCopy = Trust.probe
    /// `x-amz-copy-source-if-match`.
    var pinnedCopy = Trust.probe
    /// UploadPartCopy.
    var rangeCopy = Trust.probe
    var multipart = Trust.probe
    /// `Range` is answered by 206 and that range alone.
    var rangedRead = Trust.probe

    init(_ name: String) { self.name = name }

    /// Nothing is left to find out by writing.
    var needsProbe: Bool {
        [
            sortedListing, folderObjects, conditionalWrites, conditionalCopy, conditionalDelete, serverCopy, pinnedCopy,
            rangeCopy, multipart, rangedRead,
        ].contains(.probe)
    }
}

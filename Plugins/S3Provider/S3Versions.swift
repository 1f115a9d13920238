import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import CloudMountXML

/// Lists the versions of an object.
final class S3VersionLister: Sendable {
    private let client: S3Client

    init(_ client: S3Client) { self.client = client }

    /// ListObjectVersions of one key.
    func versions(of key: ObjectKey) async throws(VFSError) -> [ObjectVersion] {
        try key.check()
        guard client.features.versions else { throw VFSError(.notSupported, "this bucket keeps no versions") }
        var versions: [ObjectVersion] = []
        var marker: (key: String, version: String?)?
        var markers = PageMarkers()
        while true {
            var wire = S3Request("ListObjectVersions", .get)
            wire.parameter("versions")
            wire.parameter("prefix", key.string)
            wire.parameter("encoding-type", "url")
            if let marker {
                wire.parameter("key-marker", marker.key)
                if let version = marker.version { wire.parameter("version-id-marker", version) }
            }
            client.addPayer(&wire)
            let (page, response) = try await client.missingMeansBucket { () async throws(VFSError) in
                try await client.send(wire) { VersionsParser(key) }
            }
            guard page.isWanted else { throw client.refusal(wire, response) }
            versions += page.versions
            // Other keys that begin like it come after it.
            guard page.isTruncated, !page.isPast else { return versions }
            guard let next = page.nextKey, markers.goOn(at: "\(next) \(page.nextVersion ?? "")"),
                versions.count <= ObjectVersion.most
            else {
                throw client.error(.malformedResponse, "a listing of versions that does not go on", wire, response.head)
            }
            marker = (next, page.nextVersion)
        }
    }
}

/// Reads the versions of one key out of `ListVersionsResult`.
private final class VersionsParser: S3Parser {
    struct Answer: Sendable {
        var isWanted = false
        var isTruncated = false
        /// Another key has come.
        var isPast = false
        var versions: [ObjectVersion] = []
        var nextKey: String?
        var nextVersion: String?
    }

    private(set) var entries = 0
    private var page = Answer()
    private let key: ObjectKey
    private var name = ""
    private var current: ObjectVersion

    init(_ key: ObjectKey) {
        self.key = key
        current = Self.empty(key)
    }

    var answer: Answer {
        var answer = page
        answer.nextKey = page.nextKey.map(Self.decoded)
        return answer
    }

    private static func empty(_ key: ObjectKey) -> ObjectVersion {
        ObjectVersion(
            info: ObjectInfo(key: key, size: 0, etag: ETag(""), stored: Timestamp(seconds: 0)), isLatest: false,
            isDeleteMarker: false)
    }

    private static func decoded(_ text: String) -> String { PercentEncoding.decode(text, plusIsSpace: true) ?? text }

    func start(_ name: XMLText, depth: Int) {
        if depth == 1 { page.isWanted = S3Root(stringLiteral: "ListVersionsResult").matches(name) }
        if depth == 2 {
            current = Self.empty(key)
            self.name = ""
        }
    }

    func end(_ name: XMLText, text: XMLText, depth: Int) {
        switch (depth, name) {
        case (2, "IsTruncated"): page.isTruncated = text == "true"
        case (2, "NextKeyMarker"): page.nextKey = text.string
        case (2, "NextVersionIdMarker"): page.nextVersion = text.string
        case (2, "Version"): finish(isMarker: false)
        case (2, "DeleteMarker"): finish(isMarker: true)
        case (3, "Key"): self.name = text.string
        case (3, "IsLatest"): current.isLatest = text == "true"
        case (3, "LastModified"): current.info.stored = WireDate.iso8601(text.bytes) ?? Timestamp(seconds: 0)
        case (3, "ETag"): current.info.etag = ETag(ETag.unquoted(text.bytes))
        case (3, "Size"): current.info.size = ObjectInfo.possible(text.integer ?? 0)
        case (3, "StorageClass"): if !text.bytes.isEmpty { current.info.storageClass = text.string }
        default: break
        }
    }

    private func finish(isMarker: Bool) {
        entries += 1
        guard ObjectKey(name) == key || ObjectKey(Self.decoded(name)) == key else {
            page.isPast = true
            return
        }
        current.isDeleteMarker = isMarker
        if entries <= S3Client.mostEntries { page.versions.append(current) }
    }
}

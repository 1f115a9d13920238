import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import CloudMountXML

/// Lists keys, page by page as the store tells them.
final class S3Lister: Sendable {
    private let client: S3Client

    init(_ client: S3Client) { self.client = client }

    /// ListObjectsV2, or ListObjects where the profile says so.
    /// - Parameter start: keys up to this one may be left out; some stores do not.
    func list(_ request: ListRequest, after start: ObjectKey? = nil) async throws(VFSError) -> ListPage {
        if request.limit == 0 { return ListPage() }
        let profile = client.profile
        var wire = S3Request(profile.listVersion == 1 ? "ListObjects" : "ListObjectsV2", .get)
        if profile.listVersion == 2 { wire.parameter("list-type", "2") }
        wire.parameter("prefix", request.prefix.string)
        if request.delimited { wire.parameter("delimiter", "/") }
        if profile.urlEncodedListing { wire.parameter("encoding-type", "url") }
        wire.parameter("max-keys", "\(min(max(request.limit ?? 1000, 1), 1000))")
        if let continuation = request.continuation {
            wire.parameter(profile.listVersion == 1 ? "marker" : "continuation-token", continuation)
        } else if let start, !start.isEmpty {
            wire.parameter(profile.listVersion == 1 ? "marker" : "start-after", start.string)
        }
        client.addPayer(&wire)

        let (listing, response) = try await client.missingMeansBucket { () async throws(VFSError) in
            try await client.send(wire) { body throws(XMLError) in
                try ListParser.read(body, request, version: profile.listVersion)
            }
        }
        guard listing.isWanted else { throw client.refusal(wire, response) }
        guard var page = listing.page else {
            throw client.error(
                .malformedResponse, "a listing without the fields that it must have", wire, response.head)
        }
        if page.continuation != nil, page.continuation == request.continuation {
            throw client.error(.malformedResponse, "a listing that repeats its continuation", wire, response.head)
        }
        hideProbes(in: &page, of: request)
        return page
    }

    /// What a listing says of one key.
    enum Found: Sendable {
        case object(ObjectInfo)
        /// It is there.
        case unreadable
        case absent
        case unknown
    }

    func find(_ key: ObjectKey) async throws(VFSError) -> Found {
        let isSorted = client.features.sortedListing
        let page = try await list(ListRequest(prefix: key, delimited: true, limit: isSorted ? 1 : nil))
        if let object = page.objects.first(where: { $0.key == key }) { return .object(object) }
        if page.unreadable.contains(key) { return .unreadable }
        // In byte order it would come first.
        return isSorted || page.continuation == nil ? .absent : .unknown
    }

    /// What probes of any mount of the bucket have there for a moment is nobody's file.
    private func hideProbes(in page: inout ListPage, of request: ListRequest) {
        let stem = S3Probe.stem(below: client.options.prefix)
        guard stem.hasPrefix(request.prefix), stem != request.prefix else { return }
        page.objects.removeAll { $0.key.hasPrefix(stem) }
        page.unreadable.removeAll { $0.hasPrefix(stem) }
        page.commonPrefixes.removeAll { $0.hasPrefix(stem) }
    }
}

/// Listings for the core: what an entry does not tell in words that can be read, HEAD does.
final class S3Listing: Sendable {
    private let client: S3Client
    private let lister: S3Lister
    private let reader: S3Reader

    /// Looks for the sake of one page.
    private static let mostLooks = 16

    init(_ client: S3Client, _ lister: S3Lister, _ reader: S3Reader) {
        self.client = client
        self.lister = lister
        self.reader = reader
    }

    func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        var page = try await lister.list(request)
        guard !page.unreadable.isEmpty else { return page }
        let reader = reader
        let found = try await inParallel(Array(page.unreadable.prefix(Self.mostLooks)), width: Self.mostLooks) {
            key async throws(VFSError) -> ObjectInfo? in
            do throws(VFSError) {
                return try await reader.head(key)
            } catch {
                if error.code.isUnreachable || error.code == .cancelled { throw error }
                return nil
            }
        }.compactMap { $0 }
        page.objects += found
        if client.features.sortedListing { page.objects.sort { $0.key < $1.key } }
        let told = Set(found.map(\.key))
        page.unreadable.removeAll(where: told.contains)
        if let first = page.unreadable.first, !request.takesUnreadable {
            throw VFSError(
                .malformedResponse, "the listing does not tell size and time of \(first), and HEAD neither",
                wire: VFSError.Wire(
                    operation: "ListObjects", key: first.string, endpoint: client.route.authority, status: 200))
        }
        return page
    }
}

/// Reads `ListBucketResult` of either version. Keys stay as they came until it is known whether they are encoded.
final class ListParser: XMLHandler {
    private(set) var isWanted = false

    private struct Entry {
        var key = 0..<0
        var size: Int?
        var stored: Timestamp?
        var etag = ""
        var storageClass = S3Storage.ordinaryClass
    }

    private enum Place { case root, contents, commonPrefixes, other }

    /// All keys and prefixes as they came, one after the other.
    private var names: [UInt8] = []
    private var entries: [Entry] = []
    private var prefixes: [Range<Int>] = []
    private static let most = S3Client.mostEntries
    private var count: Int { entries.count + prefixes.count }
    private var entry = Entry()
    private var place = Place.root
    private var isEncoded = false
    private var isTruncated = false
    /// It says which bucket it is of, or whether it is whole, as every store does.
    private var isTold = false
    private var nextToken: String?
    private var nextMarker: Range<Int>?

    init() {
        names.reserveCapacity(64 << 10)
        entries.reserveCapacity(1000)
    }

    func start(_ name: XMLText, depth: Int) {
        switch depth {
        case 1: isWanted = S3Root(stringLiteral: "ListBucketResult").matches(name)
        case 2:
            if name == "Contents" {
                place = .contents
                entry = Entry()
            } else if name == "CommonPrefixes" {
                place = .commonPrefixes
            } else {
                place = .root
            }
        default: break
        }
    }

    func end(_ name: XMLText, text: XMLText, depth: Int) {
        guard isWanted else { return }
        if depth == 3 {
            switch place {
            case .contents: contents(name, text)
            case .commonPrefixes: if name == "Prefix", count < Self.most { prefixes.append(keep(text)) }
            case .root, .other: break
            }
        } else if depth == 2 {
            switch place {
            case .contents: if count < Self.most { entries.append(entry) }
            case .commonPrefixes, .other: break
            case .root: root(name, text)
            }
        }
    }

    private func contents(_ name: XMLText, _ text: XMLText) {
        switch name {
        case "Key": entry.key = keep(text)
        case "LastModified": entry.stored = WireDate.iso8601(text.bytes)
        case "ETag": entry.etag = ETag.unquoted(text.bytes)
        case "Size": entry.size = text.integer
        case "StorageClass":
            if text != "STANDARD", !text.bytes.isEmpty { entry.storageClass = text.string }
        default: break
        }
    }

    private func root(_ name: XMLText, _ text: XMLText) {
        switch name {
        case "IsTruncated":
            isTruncated = text == "true"
            isTold = true
        case "Name": isTold = true
        case "EncodingType": isEncoded = text == "url"
        case "NextContinuationToken": nextToken = text.string
        case "NextMarker": nextMarker = keep(text)
        default: break
        }
    }

    private func keep(_ text: XMLText) -> Range<Int> {
        let start = names.count
        names.append(contentsOf: text.bytes)
        return start..<names.count
    }

    /// - Returns: whether it is a listing at all, and its page.
    static func read(
        _ body: [UInt8], _ request: ListRequest, version: Int
    ) throws(XMLError) -> (isWanted: Bool, page: ListPage?) {
        let parser = ListParser()
        try XMLReader().read(body, into: parser)
        return (parser.isWanted, parser.page(request, version: version))
    }

    /// Nil when a field is missing that a listing must have, or there are far too many entries.
    func page(_ request: ListRequest, version: Int) -> ListPage? {
        // Nothing at all is no word of a store, and least of all that a folder is empty.
        guard isTold || !entries.isEmpty || !prefixes.isEmpty, count < Self.most else { return nil }
        var page = ListPage()
        page.objects.reserveCapacity(entries.count)
        var last: ObjectKey?
        for entry in entries {
            guard !entry.key.isEmpty else { return nil }
            guard let key = key(entry.key) else { continue }
            last = key
            // What does not begin with the prefix was not asked for.
            guard key.hasPrefix(request.prefix) else { continue }
            guard let size = entry.size, let stored = entry.stored else {
                page.unreadable.append(key)
                continue
            }
            page.objects.append(
                ObjectInfo(
                    key: key, size: size, etag: ETag(entry.etag), stored: stored, storageClass: entry.storageClass))
        }
        for range in prefixes {
            guard let prefix = key(range) else { continue }
            if last.map({ $0 < prefix }) ?? true { last = prefix }
            guard prefix.endsWithSlash, prefix.hasPrefix(request.prefix), prefix != request.prefix else { continue }
            page.commonPrefixes.append(prefix)
        }
        guard isTruncated else { return page }
        // An empty marker is none.
        let marker = nextMarker.flatMap(key).flatMap { $0.isEmpty ? nil : $0 }
        page.continuation = version == 1 ? (marker ?? last)?.string : nextToken.flatMap { $0.isEmpty ? nil : $0 }
        return page.continuation == nil ? nil : page
    }

    /// Nil when it is not UTF-8, which no key is.
    private func key(_ range: Range<Int>) -> ObjectKey? {
        names.withUnsafeMutableBufferPointer { names in
            let bytes = UnsafeMutableBufferPointer(rebasing: names[range])
            let count = isEncoded ? Self.decodeInPlace(bytes) : bytes.count
            return ObjectKey(validating: UnsafeBufferPointer(rebasing: bytes[..<count]))
        }
    }

    /// `%XX` and `+`; what is neither is left as it is. Twice on the same bytes would be wrong: each range is read
    /// once.
    private static func decodeInPlace(_ bytes: UnsafeMutableBufferPointer<UInt8>) -> Int {
        var output = 0
        var input = 0
        while input < bytes.count {
            var byte = bytes[input]
            if byte == UInt8(ascii: "+") {
                byte = UInt8(ascii: " ")
            } else if byte == UInt8(ascii: "%"), input + 2 < bytes.count, let high = Hex.value(bytes[input + 1]),
                let low = Hex.value(bytes[input + 2])
            {
                byte = high << 4 | low
                input += 2
            }
            bytes[output] = byte
            output += 1
            input += 1
        }
        return output
    }
}

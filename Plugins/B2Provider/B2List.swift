import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Synchronization

/// Pages of file names as pages of keys.
struct B2Lister: Sendable {
    let client: B2Client
    let bucket: B2Bucket

    /// A listing's first page asks for as many as are billed as one; who goes on gets as many as there may be.
    static let firstPage = 1000
    static let fullPage = 10_000

    /// b2_list_file_names: everything that `head` says, in as few requests as it takes.
    func list(_ request: ListRequest) async throws(VFSError) -> ListPage {
        var position = ListPosition(request.continuation)
        var markers = PageMarkers()
        while true {
            let (page, next) = try await page(request, from: position)
            // What is hidden here may be all that a page holds.
            guard let next, page.objects.isEmpty, page.commonPrefixes.isEmpty else { return page }
            guard markers.goOn(at: next.start ?? "") else {
                throw client.malformed("a listing that does not go on", "b2_list_file_names", request.prefix, nil)
            }
            position = next
        }
    }

    private func page(
        _ request: ListRequest, from position: ListPosition
    ) async throws(VFSError) -> (ListPage, next: ListPosition?) {
        var call = B2Call("b2_list_file_names", request.prefix)
        let most = position.start == nil ? Self.firstPage : client.pageSizes.most
        let count = max(1, min(request.limit ?? most, Self.fullPage))
        call.units = (count + 999) / 1000
        // A name of 1 KiB and headers of 7 KB, and what JSON makes of them.
        call.maxBodyBytes = 64 << 10 + count * 12 << 10
        call.body.add("bucketId", bucket.id)
        call.body.add("maxFileCount", count)
        if !request.prefix.isEmpty { call.body.add("prefix", request.prefix.string) }
        if request.delimited { call.body.add("delimiter", "/") }
        call.body.add("startFileName", position.start)
        let response: HTTPResponse
        do throws(VFSError) {
            response = try await client.send(call)
        } catch {
            // There was no room for the answer: the next one is to be shorter.
            if error.code == .io { client.pageSizes.note(.max, of: 1) }
            // That would be an empty folder; but a listing is of the bucket, and that is what is not there.
            guard error.code == .notFound else { throw error }
            throw VFSError(.bucketNotFound, "there is no such bucket", wire: error.wire)
        }
        let answer = await LongAnswer.read(response.body.count) { ListAnswer.read(response.body, request, position) }
        guard let answer else {
            throw client.malformed("a listing that cannot be read", call.operation, request.prefix, response)
        }
        client.pageSizes.note(response.body.count, of: answer.page.objects.count + answer.page.commonPrefixes.count)
        guard answer.next == nil || answer.next?.start != position.start else {
            throw client.malformed("a listing that does not go on", call.operation, request.prefix, response)
        }
        return (answer.page, answer.next)
    }
}

/// How many entries pages of a bucket have: fewer where each comes with much metadata, for pages are in memory whole.
final class B2PageSizes: Sendable {
    /// Bytes that a page should have at most.
    private static let wanted = 8 << 20
    /// B2 bills by the thousand.
    private static let step = 1000

    private let entries = Atomic(B2Lister.fullPage)

    /// For a page after the first.
    var most: Int { entries.load(ordering: .relaxed) }

    /// A page of `bytes` has come with `count` entries.
    func note(_ bytes: Int, of count: Int) {
        // Few say little of others.
        guard count >= 100 || bytes > Self.wanted else { return }
        let fitting = Self.wanted / max(1, bytes / max(1, count)) / Self.step * Self.step
        let now = max(Self.step, min(fitting, B2Lister.fullPage))
        // Back to long ones little by little: pages differ.
        entries.store(now < most ? now : min(now, most + Self.step), ordering: .relaxed)
    }
}

/// Where a listing goes on.
struct ListPosition: Sendable, Equatable {
    /// The name that comes next; nil: from the start.
    var start: String?
    /// Folder objects that have been told already and may come again under their other name.
    var told: Set<ObjectKey> = []

    init(start: String? = nil, told: Set<ObjectKey> = []) {
        self.start = start
        self.told = told
    }

    /// Names hold no control characters, so one separates them here.
    init(_ continuation: String?) {
        guard let parts = continuation?.split(separator: "\u{1}", omittingEmptySubsequences: false) else { return }
        start = parts.first.map(String.init)
        told = Set(parts.dropFirst().map { ObjectKey(String($0)) })
    }

    var continuation: String? {
        start.map { ([$0] + told.map(\.string).sorted()).joined(separator: "\u{1}") }
    }
}

/// One page as it came.
private struct ListAnswer: Sendable {
    var page = ListPage()
    var next: ListPosition?

    /// - Returns: nil when the bytes are no listing.
    static func read(_ bytes: [UInt8], _ request: ListRequest, _ position: ListPosition) -> ListAnswer? {
        var answer = ListAnswer()
        var markers: [ObjectKey: Int] = [:]
        var isWhole = true
        var (hasFiles, hasEnd) = (false, false)
        var next: String?
        let read: Void? = JSONReader.read(bytes) { reader throws(JSONError) in
            try reader.object { reader, name throws(JSONError) in
                switch name {
                case "files":
                    hasFiles = true
                    try reader.array { reader throws(JSONError) in
                        guard let file = try B2File.read(&reader, listed: true) else {
                            isWhole = false
                            return
                        }
                        answer.add(file, request, position, &markers)
                    }
                case "nextFileName":
                    hasEnd = true
                    next = try reader.optionalString()
                default: try reader.skip()
                }
            }
        }
        // What says neither files nor where it ends is no listing, and least of all an empty one.
        guard read != nil, isWhole, hasFiles, hasEnd else { return nil }
        if !markers.isEmpty { answer.page.objects.sort { $0.key < $1.key } }
        if let next {
            // Only what lies above the next name can come again.
            let told = position.told.union(markers.keys).filter { ObjectKey(next).hasPrefix($0) }
            answer.next = ListPosition(start: next, told: told)
            answer.page.continuation = answer.next?.continuation
        }
        return answer
    }

    private mutating func add(
        _ file: B2File, _ request: ListRequest, _ position: ListPosition, _ markers: inout [ObjectKey: Int]
    ) {
        switch file.action {
        case .folder:
            let prefix = ObjectKey(file.name)
            guard prefix.endsWithSlash, prefix.hasPrefix(request.prefix), prefix != request.prefix else { return }
            page.commonPrefixes.append(prefix)
        case .upload:
            guard let key = B2Names.key(file.name), key.hasPrefix(request.prefix), !position.told.contains(key)
            else { return }
            guard key.endsWithSlash else { return page.objects.append(file.object(key)) }
            if let index = markers[key] {
                page.objects[index] = file.object(key)
            } else {
                markers[key] = page.objects.count
                page.objects.append(file.object(key))
            }
        case .start, .hide, .other: break
        }
    }
}

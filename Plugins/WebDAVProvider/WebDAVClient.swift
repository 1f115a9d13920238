import CloudMountHTTP
import CloudMountKit
import CloudMountPlatform
import CloudMountVFS
import Synchronization

extension HTTPMethod {
    static let propfind = HTTPMethod("PROPFIND")
    static let proppatch = HTTPMethod("PROPPATCH")
    static let mkcol = HTTPMethod("MKCOL")
    static let move = HTTPMethod("MOVE")
    static let copy = HTTPMethod("COPY")
}

struct WebDAVRequest {
    var method: HTTPMethod
    /// Escaped, of the server.
    var path: String
    /// For errors.
    var key: ObjectKey?
    var headers = HTTPHeaders()
    var body: (any ByteSource)?
    var maxBodyBytes = 1 << 20
    /// Bytes that the server works through before it answers.
    var worksOn = 0

    init(_ method: HTTPMethod, _ path: String, _ key: ObjectKey?) {
        self.method = method
        self.path = path
        self.key = key
    }
}

/// What is in a folder.
struct WebDAVChildren: Sendable {
    /// Without the folder itself, in order of their keys, a folder's with its slash.
    var entries: [WebDAVEntry] = []
    /// Names that no key can say: they are there, and no request of ours reaches them by themselves.
    var nameless = 0
    /// Names of which the server says in the same answer that they are not there.
    var gone = 0
    /// Bytes of the entries.
    var weight = 0

    /// Nothing is in it that would go with it.
    var isEmpty: Bool { entries.isEmpty && nameless == 0 && gone == 0 }
}

/// Sends requests to one server.
final class WebDAVClient: Sendable {
    let root: WebDAVRoot
    private let credentials: WebDAVCredentials
    private let engine: HTTPEngine
    private let transfer: HTTPOptions
    /// When the server last answered as WebDAV servers do, in nanoseconds.
    private let lastGood = Atomic<UInt64>(0)
    /// What the server's clock said last, in seconds; 0: nothing yet.
    private let lastDate = Atomic<Int>(0)
    var serverSeconds: Int { lastDate.load(ordering: .relaxed) }
    /// What the server calls itself.
    private let name = Mutex("")
    var serverName: String { name.withLock { $0 } }
    /// How long a 404 is believed after such an answer, in nanoseconds.
    private static let trust: UInt64 = 2_000_000_000
    private static let maxRedirects = 3
    /// Bytes of what is in one folder.
    static let mostHeld = 128 << 20
    private let mostHeld: Int

    init(
        _ root: WebDAVRoot, _ credentials: WebDAVCredentials, caFile: String?, engine: HTTPEngine = .shared,
        mostHeld: Int = WebDAVClient.mostHeld
    ) {
        self.root = root
        self.mostHeld = mostHeld
        self.credentials = credentials
        self.engine = engine
        var transfer = HTTPOptions()
        transfer.caFile = caFile
        self.transfer = transfer
    }

    func wire(_ request: WebDAVRequest) -> VFSError.Wire {
        VFSError.Wire(
            operation: request.method.rawValue, key: request.key?.string, endpoint: root.url.authority)
    }

    // MARK: Sending

    /// - Returns: an answer of status 200 to 299.
    /// - Throws: the error that any other answer means, or that there was none.
    func send(_ request: WebDAVRequest, into target: HTTPBodyTarget = .memory) async throws(VFSError) -> HTTPResponse {
        let response = try await answer(request, into: target)
        if 200..<300 ~= response.status { return response }
        if response.status == 404 { try await demandServer(request) }
        throw WebDAVErrors.error(response, wire: wire(request))
    }

    /// Any answer but a redirect within the server, which is followed.
    private func answer(
        _ request: WebDAVRequest, into target: HTTPBodyTarget
    ) async throws(VFSError) -> HTTPResponse {
        var path = request.path
        for _ in 0...Self.maxRedirects {
            let response = try await engine.answer(http(request, path), into: target, wire: wire(request))
            if [201, 204, 207].contains(response.status) { believe(response) }
            guard [301, 302, 307, 308].contains(response.status), let location = response.headers["location"],
                let next = redirected(location, request.method, from: path), next != path
            else { return response }
            path = next
        }
        throw WebDAVErrors.odd("the server redirects in circles", nil, wire: wire(request))
    }

    private func http(_ request: WebDAVRequest, _ path: String) -> HTTPRequest {
        var headers = request.headers
        if let value = credentials.authorisation { headers.append("Authorization", value) }
        headers.append("User-Agent", "CloudMount")
        var options = transfer
        options.maxBodyBytes = request.maxBodyBytes
        if request.worksOn > 0 { options.allowWork(on: request.worksOn) }
        return HTTPRequest(
            request.method, root.url.origin + path, headers: headers, body: request.body, options: options)
    }

    /// Where a redirect leads: on the same scheme, host and port alone; password and content go nowhere else. What changes something
    /// changes only what it named; what looks or reads stays below the root.
    private func redirected(_ location: String, _ method: HTTPMethod, from path: String) -> String? {
        guard !location.contains("?"), !location.contains("#") else { return nil }
        let next: String
        if location.hasPrefix("/"), !location.hasPrefix("//") {
            next = location
        } else {
            guard let url = WebURL(answered: location), url.hasOrigin(of: root.url) else { return nil }
            next = url.path + (location.hasSuffix("/") ? "/" : "")
        }
        if WebDAVRoot.areSame(next, path) {
            // A file's name does not become a folder's.
            let adds = next.hasSuffix("/") && !path.hasSuffix("/")
            return adds && !Self.isSafe(method) ? nil : next
        }
        return Self.isSafe(method) && root.place(next) != .outside ? next : nil
    }

    private static func isSafe(_ method: HTTPMethod) -> Bool { [.get, .propfind].contains(method) }

    // MARK: Trust

    private func believe(_ response: HTTPResponse) {
        if let date = response.headers["date"].flatMap({ WireDate.http($0) }) {
            lastDate.store(date.seconds, ordering: .relaxed)
        }
        lastGood.store(SystemClock.monotonic(), ordering: .relaxed)
        if response.status == 207, let server = response.headers["server"] { name.withLock { $0 = server } }
    }

    /// A proxy says 404 as well while its server is away: what is not there is believed of a server that shows its root.
    private func demandServer(_ request: WebDAVRequest) async throws(VFSError) {
        let last = lastGood.load(ordering: .relaxed)
        if last > 0, SystemClock.monotonic() &- last < Self.trust { return }
        var look = WebDAVRequest(.propfind, root.path(""), nil)
        look.headers.append("Depth", "0")
        look.body = BytesSource(Self.question)
        let response = try await answer(look, into: .memory)
        if response.status == 404 {
            var wire = wire(look)
            wire.status = 404
            throw missing(wire)
        }
        guard response.status == 207, WebDAVMultistatus.read(response.body) != nil else {
            if !(200..<300 ~= response.status) { throw WebDAVErrors.error(response, wire: wire(look)) }
            throw WebDAVErrors.odd("an answer that is not from a WebDAV server", response, wire: wire(look))
        }
    }

    func missing(_ wire: VFSError.Wire?) -> VFSError {
        VFSError(.bucketNotFound, "the folder \(root.url.text) is not there", wire: wire)
    }

    // MARK: PROPFIND

    private static let question = """
        <?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:" xmlns:c="\(WebDAVMultistatus.namespace)"><prop>\
        <resourcetype/><getcontentlength/><getetag/><getlastmodified/><c:record/></prop></propfind>
        """

    func propfind(
        _ path: String, _ key: ObjectKey, depth: Int, body: String = WebDAVClient.question
    ) async throws(VFSError) -> ([WebDAVResponse], HTTPResponse) {
        var request = WebDAVRequest(.propfind, path, key)
        request.headers.append("Depth", "\(depth)")
        request.headers.append("Content-Type", "application/xml; charset=utf-8")
        request.body = BytesSource(body)
        request.maxBodyBytes = depth == 0 ? 1 << 20 : 64 << 20
        let response = try await send(request)
        let body = response.body
        let read = await LongAnswer.read(body.count) { WebDAVMultistatus.read(body) }
        guard response.status == 207, let responses = read else {
            throw WebDAVErrors.odd("an answer to PROPFIND that is no multistatus", response, wire: wire(request))
        }
        return (responses, response)
    }

    /// What lies under a key, with or without a slash at its end; nil when the server says that there is nothing.
    func look(at key: ObjectKey) async throws(VFSError) -> WebDAVEntry? {
        let bare = key.withoutSlash
        let found: ([WebDAVResponse], HTTPResponse)
        do throws(VFSError) {
            found = try await propfind(root.path(bare), bare, depth: 0)
        } catch {
            guard try await saysNothing(error, bare) else { throw error }
            return nil
        }
        let entries = try entries(found, bare, depth: 0)
        guard let entry = entries.itself else {
            throw odd("an answer that does not name what was asked for", found.1, bare)
        }
        return entry
    }

    /// Whether the answer means that nothing has the key: 404, or, of what lies below a file, what servers say to that.
    private func saysNothing(_ error: VFSError, _ key: ObjectKey) async throws(VFSError) -> Bool {
        if error.code == .notFound { return true }
        guard let status = error.wire?.status, [400, 403, 405, 409].contains(status) else { return false }
        let parent = WebDAVRoot.parent(key)
        guard !parent.isEmpty else { return false }
        return try await look(at: parent)?.isFolder != true
    }

    /// What is in a folder; nil when there is no such folder.
    func children(of folder: ObjectKey) async throws(VFSError) -> WebDAVChildren? {
        let bare = folder.withoutSlash
        let found: ([WebDAVResponse], HTTPResponse)
        do throws(VFSError) {
            found = try await propfind(root.path(bare), bare, depth: 1)
        } catch {
            guard try await saysNothing(error, bare) else { throw error }
            if bare.isEmpty { throw missing(error.wire) }
            return nil
        }
        let answer = found
        let entries = try await LongAnswer.read(answer.1.body.count) {
            attemptNow { () throws(VFSError) in try self.entries(answer, bare, depth: 1) }
        }.get()
        // An answer that names nothing is no empty folder.
        guard let itself = entries.itself else {
            throw odd("an answer that does not name what was asked for", found.1, bare)
        }
        return itself.isFolder ? entries.below : nil
    }

    /// Holds the answer to the question: only what was asked for, and each thing whole. An entry that is left out would be taken for absent.
    private func entries(
        _ found: ([WebDAVResponse], HTTPResponse), _ key: ObjectKey, depth: Int
    ) throws(VFSError) -> (itself: WebDAVEntry?, below: WebDAVChildren) {
        var itself: WebDAVEntry?
        var below = WebDAVChildren()
        var names: Set<ObjectKey> = []
        let prefix = key.isEmpty ? key : ObjectKey(key.string + "/")
        for response in found.0 {
            let place = root.place(response.href)
            guard case .key(let name) = place else {
                if place == .nameless, depth > 0 {
                    below.nameless += 1
                    continue
                }
                throw odd("an entry elsewhere: \(WebURL.shown(response.href))", found.1, key)
            }
            let isItself = name == key
            guard isItself || depth > 0 && name.hasPrefix(prefix) && !Self.isDeep(name, prefix) else {
                throw odd("an entry elsewhere: \(WebURL.shown(response.href))", found.1, key)
            }
            if let status = response.status, !(200..<300 ~= status) {
                // It went while the listing was made, or so the server says.
                if status == 404, !isItself {
                    below.gone += 1
                    continue
                }
                throw odd("an entry that may not be read, HTTP \(status)", found.1, key)
            }
            guard let entry = WebDAVEntry(response, key: name) else {
                throw odd("“\(name)” without a size", found.1, key)
            }
            guard names.insert(name).inserted else { continue }
            below.weight += entry.weight
            guard below.weight <= mostHeld else {
                throw VFSError(.tooLarge, "the folder “\(key)” holds more than memory does")
            }
            if isItself { itself = entry } else { below.entries.append(entry) }
        }
        below.entries = below.entries.map { ($0, $0.ordered) }.sorted { $0.1 < $1.1 }.map(\.0)
        return (itself, below)
    }

    private static func isDeep(_ key: ObjectKey, _ prefix: ObjectKey) -> Bool {
        key.utf8.dropFirst(prefix.byteCount).contains(UInt8(ascii: "/"))
    }

    private func odd(_ message: String, _ response: HTTPResponse, _ key: ObjectKey) -> VFSError {
        WebDAVErrors.odd(message, response, wire: wire(WebDAVRequest(.propfind, "", key)))
    }

    // MARK: PROPPATCH

    /// Sets or, with nil, removes the property that holds the metadata.
    /// - Parameter path: of what has it.
    func setRecord(
        _ record: WebDAVRecord?, at path: String, _ key: ObjectKey, condition: String? = nil
    ) async throws(VFSError) {
        let verb = record == nil ? "remove" : "set"
        var request = WebDAVRequest(.proppatch, path, key)
        if let condition { request.headers.append("If", condition) }
        request.headers.append("Content-Type", "application/xml; charset=utf-8")
        request.body = BytesSource(
            """
            <?xml version="1.0" encoding="utf-8"?><propertyupdate xmlns="DAV:" xmlns:c="\(WebDAVMultistatus.namespace)">\
            <\(verb)><prop><c:record>\(record?.text ?? "")</c:record></prop></\(verb)></propertyupdate>
            """)
        let response = try await send(request)
        guard response.status == 207, let answers = WebDAVMultistatus.read(response.body) else {
            throw WebDAVErrors.odd("an answer to PROPPATCH that is no multistatus", response, wire: wire(request))
        }
        let worst = answers.map { max($0.worst ?? 0, $0.status ?? 0) }.max() ?? 0
        guard 200..<300 ~= worst else {
            var wire = wire(request)
            wire.status = worst
            let code: VFSError.Code = worst == 507 ? .quotaExceeded : .notSupported
            throw VFSError(code, "the server does not keep the metadata", wire: wire)
        }
    }

    // MARK: Folders

    /// MKCOL.
    /// - Returns: false when there is something already.
    /// - Throws: `conflict` when the folder above is missing.
    func makeFolder(_ key: ObjectKey) async throws(VFSError) -> Bool {
        let request = WebDAVRequest(.mkcol, root.folderPath(key), key)
        do throws(VFSError) {
            let response = try await send(request)
            guard response.status == 201 || response.status == 200 else {
                throw WebDAVErrors.odd("an odd answer to MKCOL", response, wire: wire(request))
            }
            return true
        } catch {
            guard let status = error.wire?.status, [400, 403, 405, 409].contains(status) else { throw error }
            // 405 says so; of a file some servers say that it is no path.
            if status != 405, try await look(at: key) == nil { throw error }
            return false
        }
    }

    /// Makes the folders that are missing above a key.
    /// - Throws: `notDirectory` when one of the names is a file's.
    func makeParents(of key: ObjectKey) async throws(VFSError) {
        var missing: [ObjectKey] = []
        var folder = WebDAVRoot.parent(key)
        while !folder.isEmpty {
            if let there = try await look(at: folder) {
                guard there.isFolder else { throw VFSError(.notDirectory, "“\(there.key)” is a file") }
                break
            }
            missing.append(folder)
            folder = WebDAVRoot.parent(folder)
        }
        for folder in missing.reversed() { _ = try await makeFolder(folder) }
    }
}

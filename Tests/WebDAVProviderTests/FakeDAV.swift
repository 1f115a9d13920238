import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Synchronization
import TestServers
import Testing

@testable import WebDAVProvider

/// A small WebDAV server in memory, which keeps the promises that a test wants it to keep.
final class FakeDAV: Sendable {
    struct Traits: Sendable {
        var conditions = true
        var exclusiveMove = true
        var properties = true
        var hasTags = true
        /// Tags are the time, in whole seconds, and the size.
        var tagsAreTimes = false
        var weak = false
        var putTellsTag = true
        /// With a time of the writer's, PUT tells the tag from before it was set, as rclone does.
        var putTellsEarlyTag = false
        var keepsTime = false
        var moveKeepsTag = true
        var isReadOnly = false
        /// What it calls itself.
        var name = "rclone/v1.75.2"
        /// Bytes that there is room for.
        var room = Int.max
        /// As the root's properties say it.
        var quota: (available: String, used: String)?
    }

    struct Node: Sendable {
        var bytes: [UInt8]?
        var tag = 0
        var time = 1_700_000_000
        var record: String?
    }

    let traits: Traits
    private let nodes = Mutex<[String: Node]>(["/dav": Node()])
    private let tags = Atomic(0)
    /// Called before each request is carried out; an answer in its place is given instead.
    let before = Mutex<(@Sendable (FakeDAV, SeenRequest) -> ScriptedAnswer?)?>(nil)

    /// By the folder, what its listings say besides.
    let odd = Mutex<[String: String]>([:])

    init(_ traits: Traits = Traits()) { self.traits = traits }

    var paths: [String] { nodes.withLock { $0.keys.sorted() } }
    func node(_ path: String) -> Node? { nodes.withLock { $0[path] } }

    /// What another client does.
    func put(_ path: String, _ text: String) {
        nodes.withLock { $0[path] = Node(bytes: Array(text.utf8), tag: nextTag(), record: $0[path]?.record) }
    }
    func makeFolder(_ path: String) { nodes.withLock { $0[path] = Node() } }
    func remove(_ path: String) {
        nodes.withLock { nodes in nodes = nodes.filter { $0.key != path && !$0.key.hasPrefix(path + "/") } }
    }

    private func nextTag() -> Int { tags.add(1, ordering: .relaxed).newValue }

    func tag(_ node: Node) -> String {
        let text = traits.tagsAreTimes ? "\(node.time)-\(node.bytes?.count ?? 0)" : "t\(node.tag)"
        return (traits.weak ? "W/" : "") + "\"\(text)\""
    }

    func answer(_ request: SeenRequest) -> ScriptedAnswer {
        if let before = before.withLock({ $0 }), let answer = before(self, request) { return answer }
        var answer = nodes.withLock { carryOut(request, &$0) }
        answer.headers.append(("Server", traits.name))
        if !answer.headers.contains(where: { $0.0 == "Date" }) {
            answer.headers.append(("Date", Self.date(1_700_000_000)))
        }
        return answer
    }

    /// As it would be, for an answer that gets lost.
    func carryOutAlone(_ request: SeenRequest) -> ScriptedAnswer { nodes.withLock { carryOut(request, &$0) } }

    private static func bare(_ path: String) -> String {
        let path = PercentEncoding.decode(path, plusIsSpace: false) ?? path
        return path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    }

    private static func parent(_ path: String) -> String {
        path.split(separator: "/").dropLast().map { "/\($0)" }.joined()
    }

    private func carryOut(_ request: SeenRequest, _ nodes: inout [String: Node]) -> ScriptedAnswer {
        let path = Self.bare(request.path)
        let there = nodes[path]
        let isWrite = !["GET", "PROPFIND", "HEAD"].contains(request.method)
        if isWrite, traits.isReadOnly { return ScriptedAnswer(status: 403) }
        if isWrite, traits.conditions, !holds(request, nodes) { return ScriptedAnswer(status: 412) }
        switch request.method {
        case "PROPFIND": return propfind(path, request, nodes)
        case "GET":
            guard let there, let bytes = there.bytes else { return ScriptedAnswer(status: 404) }
            return get(there, bytes, request)
        case "PUT":
            guard nodes[Self.parent(path)]?.bytes == nil, nodes[Self.parent(path)] != nil else {
                return ScriptedAnswer(status: 409)
            }
            if there != nil, there?.bytes == nil { return ScriptedAnswer(status: 405) }
            if request.body.count > traits.room { return ScriptedAnswer(status: 507) }
            var node = Node(bytes: request.body, tag: nextTag(), record: there?.record)
            if traits.keepsTime, let time = request.headers["x-oc-mtime"].flatMap({ Int($0) }) { node.time = time }
            nodes[path] = node
            let isEarly = traits.putTellsEarlyTag && request.headers["x-oc-mtime"] != nil
            let tag = isEarly ? "\"early\(node.tag)\"" : tag(node)
            let headers = [("Date", "Tue, 14 Nov 2023 22:13:20 GMT"), ("ETag", tag)]
            return ScriptedAnswer(status: there == nil ? 201 : 204, headers: traits.putTellsTag ? headers : [])
        case "MKCOL":
            if there != nil { return ScriptedAnswer(status: 405) }
            guard nodes[Self.parent(path)] != nil else { return ScriptedAnswer(status: 409) }
            nodes[path] = Node()
            return ScriptedAnswer(status: 201)
        case "DELETE":
            guard there != nil else { return ScriptedAnswer(status: 404) }
            nodes = nodes.filter { $0.key != path && !$0.key.hasPrefix(path + "/") }
            return ScriptedAnswer(status: 204)
        case "MOVE", "COPY": return transfer(path, request, &nodes)
        case "PROPPATCH":
            guard var there else { return ScriptedAnswer(status: 404) }
            let status = traits.properties ? 200 : 403
            if traits.properties {
                let text = request.text
                there.record = text.range(between: "<c:record>", and: "</c:record>")
                nodes[path] = there
            }
            return Self.multistatus(
                "<D:response><D:href>\(request.path)</D:href><D:propstat><D:prop><c:record xmlns:c=\"urn:cloudmount:dav\"/>"
                    + "</D:prop><D:status>HTTP/1.1 \(status) X</D:status></D:propstat></D:response>")
        default: return ScriptedAnswer(status: 501)
        }
    }

    /// `If: <URL> (["tag"])`
    private func holds(_ request: SeenRequest, _ nodes: [String: Node]) -> Bool {
        guard let text = request.headers["if"] else { return true }
        guard let url = text.range(between: "<", and: ">"), let wanted = text.range(between: "[", and: "]"),
            let path = url.range(of: "//").map({ url[$0...].dropFirst(2).drop { $0 != "/" } })
        else { return false }
        guard let node = nodes[Self.bare(String(path))], node.bytes != nil else { return false }
        return tag(node).hasSuffix(wanted)
    }

    private func get(_ node: Node, _ bytes: [UInt8], _ request: SeenRequest) -> ScriptedAnswer {
        var headers = [("Last-Modified", Self.date(node.time))]
        if traits.hasTags { headers.append(("ETag", tag(node))) }
        guard let range = request.headers["range"] else { return ScriptedAnswer(headers: headers, body: bytes) }
        let ends = range.dropFirst(6).split(separator: "-").compactMap { Int($0) }
        guard ends[0] < bytes.count else { return ScriptedAnswer(status: 416) }
        let end = min(ends[1] + 1, bytes.count)
        headers.append(("Content-Range", "bytes \(ends[0])-\(end - 1)/\(bytes.count)"))
        return ScriptedAnswer(status: 206, headers: headers, body: Array(bytes[ends[0]..<end]))
    }

    private func transfer(
        _ path: String, _ request: SeenRequest, _ nodes: inout [String: Node]
    ) -> ScriptedAnswer {
        guard let url = request.headers["destination"], let start = url.range(of: "//") else {
            return ScriptedAnswer(status: 400)
        }
        let target = Self.bare(String(url[start...].dropFirst(2).drop { $0 != "/" }))
        // Nextcloud makes the file of the parts.
        if path.hasSuffix("/.file") {
            let folder = Self.parent(path)
            let parts = nodes.filter { Self.parent($0.key) == folder }.sorted { $0.key < $1.key }
            nodes[target] = Node(bytes: parts.flatMap { $0.value.bytes ?? [] }, tag: nextTag())
            nodes = nodes.filter { $0.key != folder && !$0.key.hasPrefix(folder + "/") }
            return ScriptedAnswer(status: 201)
        }
        guard let source = nodes[path] else { return ScriptedAnswer(status: 404) }
        guard let above = nodes[Self.parent(target)], above.bytes == nil else { return ScriptedAnswer(status: 409) }
        let isTaken = nodes[target] != nil
        if isTaken, traits.exclusiveMove, request.headers["overwrite"] == "F" { return ScriptedAnswer(status: 412) }
        nodes = nodes.filter { $0.key != target && !$0.key.hasPrefix(target + "/") }
        for (key, node) in nodes where key.hasPrefix(path + "/") {
            nodes[target + key.dropFirst(path.count)] = node
            if request.method == "MOVE" { nodes[key] = nil }
        }
        nodes[target] = source
        if request.method == "MOVE" { nodes[path] = nil }
        if request.method == "COPY" || !traits.moveKeepsTag { nodes[target]?.tag = nextTag() }
        return ScriptedAnswer(status: isTaken ? 204 : 201)
    }

    private func propfind(_ path: String, _ request: SeenRequest, _ nodes: [String: Node]) -> ScriptedAnswer {
        guard let there = nodes[path] else { return ScriptedAnswer(status: 404) }
        if request.text.contains("quota-available-bytes") { return quota(path) }
        var answer = describe(path, there)
        if request.headers["depth"] == "1", there.bytes == nil {
            for (key, node) in nodes.sorted(by: { $0.key < $1.key }) where Self.parent(key) == path {
                answer += describe(key, node)
            }
            answer += odd.withLock { $0[path] ?? "" }
        }
        return Self.multistatus(answer)
    }

    private func quota(_ path: String) -> ScriptedAnswer {
        let names = ["quota-available-bytes", "quota-used-bytes"]
        let values = traits.quota.map { [$0.available, $0.used] }
        let properties = zip(names, values ?? ["", ""]).map { "<D:\($0)>\($1)</D:\($0)>" }.joined()
        return Self.multistatus(
            "<D:response><D:href>\(path)/</D:href><D:propstat><D:prop>\(properties)</D:prop>"
                + "<D:status>HTTP/1.1 \(values == nil ? 404 : 200) X</D:status></D:propstat></D:response>")
    }

    private func describe(_ path: String, _ node: Node) -> String {
        let href = PercentEncoding.encode(path, keepSlash: true) + (node.bytes == nil ? "/" : "")
        var properties = "<D:getlastmodified>\(Self.date(node.time))</D:getlastmodified>"
        if let bytes = node.bytes {
            properties += "<D:resourcetype/><D:getcontentlength>\(bytes.count)</D:getcontentlength>"
            if traits.hasTags { properties += "<D:getetag>\(tag(node))</D:getetag>" }
        } else {
            properties += "<D:resourcetype><D:collection/></D:resourcetype>"
        }
        if let record = node.record { properties += "<x:record xmlns:x=\"urn:cloudmount:dav\">\(record)</x:record>" }
        return "<D:response><D:href>\(href)</D:href><D:propstat><D:prop>\(properties)</D:prop>"
            + "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    }

    static func multistatus(_ body: String) -> ScriptedAnswer {
        ScriptedAnswer(
            status: 207, headers: [("Content-Type", "application/xml")],
            body: Array("<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">\(body)</D:multistatus>".utf8))
    }

    private static func date(_ seconds: Int) -> String { WireDate.httpText(seconds) }
}

extension StringProtocol {
    func range(of text: String) -> Index? {
        indices.first { self[$0...].hasPrefix(text) }
    }

    func range(between first: String, and last: String) -> String? {
        guard let start = range(of: first) else { return nil }
        let rest = self[start...].dropFirst(first.count)
        return rest.range(of: last).map { String(rest[..<$0]) }
    }
}

/// A prepared provider of a fake server's folder `/dav`.
func prepared(
    _ fake: FakeDAV, prefix: String = "", folder: String = "/dav", options: [String: OptionValue] = [:]
) async throws -> (provider: WebDAVProvider, server: ScriptedServer) {
    let server = try ScriptedServer { request, _ in fake.answer(request) }
    let made = try provider(server, prefix: prefix, folder: folder, options: options)
    try await made.prepare(writable: true)
    return (made, server)
}

func provider(
    _ server: ScriptedServer, prefix: String = "", folder: String = "/dav", options: [String: OptionValue] = [:],
    credentials: [String: OptionValue] = [:]
) throws -> WebDAVProvider {
    let context = ProviderContext(
        mountName: "test", bucket: "http://127.0.0.1:\(server.port)\(folder)", prefix: prefix,
        options: OptionValues(options), credentials: OptionValues(credentials))
    let options = WebDAVOptions(context)
    let client = WebDAVClient(
        try #require(options.url.flatMap { WebDAVRoot($0) }), WebDAVCredentials(context.credentials), caFile: nil)
    return WebDAVProvider(client, options)
}

final class CollectingSink: ByteSink {
    private let collected = Mutex<[UInt8]>([])
    var text: String { String(decoding: collected.withLock { $0 }, as: UTF8.self) }

    func receive(_ bytes: UnsafeRawBufferPointer) -> ByteSinkVerdict {
        collected.withLock { $0.append(contentsOf: bytes) }
        return .proceed
    }
}

/// The error of a call; nil when it succeeds.
func failure<Value>(_ body: () async throws(VFSError) -> Value) async -> VFSError? {
    do throws(VFSError) {
        _ = try await body()
        return nil
    } catch {
        return error
    }
}

import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Synchronization
import TestServers

/// The imagined library with one reel, `one`, and the token `open`.
final class TapeLibrary: Sendable {
    private struct Stored: Sendable {
        var bytes: [UInt8]
        var tag: String
        var label: String
    }

    private struct State: Sendable {
        var objects: [ObjectKey: Stored] = [:]
        var writes = 0
    }

    private final class Reel: Sendable {
        let state = Mutex(State())
    }

    private let server: ScriptedServer
    var url: String { "http://127.0.0.1:\(server.port)/library" }

    init() throws {
        let reel = Reel()
        server = try ScriptedServer { request, _ in
            var answer = Self.answer(request, reel)
            answer.headers.append(("Tape-Library", "1"))
            return answer
        }
    }

    private static func answer(_ request: SeenRequest, _ reel: Reel) -> ScriptedAnswer {
        guard request.headers["authorization"] == "Bearer open" else { return ScriptedAnswer(status: 401) }
        let home = "/library/reels/one"
        guard request.path.hasPrefix(home) else { return ScriptedAnswer(status: 404) }
        let rest = request.path.dropFirst(home.count)
        if rest.isEmpty { return ScriptedAnswer() }
        if rest == "/keys" { return reel.state.withLock { list(request, $0) } }
        guard rest.hasPrefix("/objects/"),
            let name = PercentEncoding.decode(String(rest.dropFirst(9)), plusIsSpace: false)
        else { return ScriptedAnswer(status: 400) }
        let key = ObjectKey(name)
        return reel.state.withLock { state in
            let there = state.objects[key]
            if request.headers["if-none-match"] != nil, there != nil { return ScriptedAnswer(status: 412) }
            if let wanted = request.headers["if-match"], there?.tag != ETag(header: wanted)?.value {
                return ScriptedAnswer(status: there == nil && request.method != "PUT" ? 404 : 412)
            }
            switch request.method {
            case "PUT":
                state.writes += 1
                let stored = Stored(
                    bytes: request.body, tag: "t\(state.writes)", label: request.headers["tape-metadata"] ?? "")
                state.objects[key] = stored
                return ScriptedAnswer(headers: fields(stored))
            case "DELETE":
                state.objects[key] = nil
                return ScriptedAnswer(status: there == nil ? 404 : 204)
            default: return there.map { read($0, request) } ?? ScriptedAnswer(status: 404)
            }
        }
    }

    private static func fields(_ stored: Stored) -> [(String, String)] {
        [("ETag", "\"\(stored.tag)\""), ("Tape-Metadata", stored.label)]
    }

    private static func read(_ stored: Stored, _ request: SeenRequest) -> ScriptedAnswer {
        let size = stored.bytes.count
        if request.method == "HEAD" {
            return ScriptedAnswer(headers: fields(stored) + [("Content-Length", "\(size)")])
        }
        guard let range = request.headers["range"] else {
            return ScriptedAnswer(headers: fields(stored), body: stored.bytes)
        }
        let ends = range.dropFirst(6).split(separator: "-").compactMap { Int($0) }
        guard ends.count == 2, ends[0] < size else { return ScriptedAnswer(status: 416) }
        let last = min(ends[1], size - 1)
        return ScriptedAnswer(
            status: 206, headers: fields(stored) + [("Content-Range", "bytes \(ends[0])-\(last)/\(size)")],
            body: Array(stored.bytes[ends[0]...last]))
    }

    private static func list(_ request: SeenRequest, _ state: State) -> ScriptedAnswer {
        var query: [String: String] = [:]
        for part in request.query.split(separator: "&") {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            query[pair[0]] = PercentEncoding.decode(pair[1], plusIsSpace: false)
        }
        let prefix = ObjectKey(query["prefix"] ?? "")
        let after = query["after"].map { ObjectKey($0) }
        var (objects, prefixes): ([String], [String]) = ([], [])
        var last: ObjectKey?
        for key in state.objects.keys.sorted() where key.hasPrefix(prefix) {
            guard let stored = state.objects[key] else { continue }
            let rest = key.utf8.dropFirst(prefix.byteCount)
            let slash = query["delimiter"] == nil ? nil : rest.firstIndex(of: UInt8(ascii: "/"))
            let name = slash.map { ObjectKey(String(Substring(key.utf8[...$0]))) } ?? key
            if name == last { continue }
            if let after, name <= after { continue }
            if objects.count + prefixes.count == Int(query["limit"] ?? "") {
                return page(objects, prefixes, next: last)
            }
            last = name
            var text = JSONObject()
            text.add("key", name.string)
            text.add("tag", stored.tag)
            text.add("size", stored.bytes.count)
            text.add("stored", 1_800_000_000)
            if slash == nil {
                objects.append(String(decoding: text.bytes, as: UTF8.self))
            } else {
                prefixes.append(name.string)
            }
        }
        return page(objects, prefixes, next: nil)
    }

    private static func page(_ objects: [String], _ prefixes: [String], next: ObjectKey?) -> ScriptedAnswer {
        var names = JSONObject()
        names.add("prefixes", prefixes)
        if let next { names.add("next", next.string) }
        var text =
            String(decoding: names.bytes.dropLast(), as: UTF8.self)
            + ", \"objects\": [\(objects.joined(separator: ","))]"
        if next == nil { text += ", \"next\": null" }
        return ScriptedAnswer(body: Array((text + "}").utf8))
    }
}

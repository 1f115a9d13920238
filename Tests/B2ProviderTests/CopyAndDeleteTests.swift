import CloudMountVFS
import TestServers
import Testing

@testable import B2Provider

@Suite("Copies and deletions")
struct CopyAndDeleteTests {
    private static func script(current: String? = "f1") throws -> ScriptedB2 {
        try ScriptedB2 { request, _ in
            switch (request.method, request.operation) {
            case ("HEAD", "/file/bucket-one/to"):
                ScriptedAnswer(headers: headers("large", [("Content-Length", "25")]))
            case ("HEAD", _):
                current.map { ScriptedAnswer(headers: headers($0, [("Content-Length", "10")])) }
                    ?? ScriptedAnswer(status: 404)
            case (_, "b2_copy_file"): .json(file("to", id: "copy", action: "copy", size: 10))
            case (_, "b2_start_large_file"): .json(file("to", id: "large", action: "start", size: 0))
            case (_, "b2_copy_part"):
                .json(
                    "{\"partNumber\": \(number(request.text)), \"contentLength\": \(length(request.text)), \"contentSha1\": \"s\"}"
                )
            case (_, "b2_finish_large_file"): .json(file("to", id: "large", size: 25))
            case (_, "b2_list_file_names"): .json("{\"files\": [\(file("from", size: 10))], \"nextFileName\": null}")
            default: nil
            }
        }
    }

    private static func number(_ text: String) -> Int {
        text.split(separator: "\"partNumber\":").last.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
    }

    private static func length(_ text: String) -> Int {
        let range = text.split(separator: "bytes=").last.map { $0.prefix { $0 != "\"" } } ?? ""
        let ends = range.split(separator: "-").compactMap { Int($0) }
        return ends.count == 2 ? ends[1] - ends[0] + 1 : 0
    }

    @Test("A pinned copy looks first, and copies that version")
    func pinned() async throws {
        let script = try Self.script()
        let provider = try await script.prepared()
        let copy = try await provider.copy(CopyRequest(source: info("from"), destination: "to"))
        #expect(copy.etag == ETag("copy") && copy.key == "to")
        #expect(script.work == ["/file/bucket-one/from", "b2_copy_file"])
        #expect(
            script.seen.last?.text == "{\"sourceFileId\":\"f1\",\"fileName\":\"to\",\"metadataDirective\":\"COPY\"}")
    }

    @Test("What has been looked at within the second before is not looked at again")
    func lately() async throws {
        let script = try Self.script()
        let provider = try await script.prepared()
        let source = try await provider.head("from")
        _ = try await provider.copy(CopyRequest(source: source, destination: "from", metadata: ObjectMetadata()))
        #expect(script.work == ["/file/bucket-one/from", "b2_copy_file"])
    }

    @Test(
        "A source that has changed or gone is told apart",
        arguments: [("f2" as String?, VFSError.Code.stale), (nil, .notFound)])
    func changed(current: String?, code: VFSError.Code) async throws {
        let script = try Self.script(current: current)
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.copy(CopyRequest(source: info("from"), destination: "to")) }
        #expect(error?.code == code)
        #expect(!script.work.contains("b2_copy_file"))
    }

    @Test("An unpinned copy takes what is current; of a tree that was just listed, what was listed")
    func unpinned() async throws {
        let script = try Self.script(current: "f2")
        let provider = try await script.prepared()
        _ = try await provider.copy(CopyRequest(source: info("from"), destination: "to"))
        #expect(script.seen.last?.text.contains("\"sourceFileId\":\"f2\"") == true)
        _ = try await provider.list(ListRequest(prefix: "fr", delimited: false))
        _ = try await provider.copy(CopyRequest(source: info("from"), destination: "to"))
        #expect(script.seen.last?.text.contains("\"sourceFileId\":\"f1\"") == true)
        #expect(script.seen.filter { $0.method == "HEAD" }.count == 1)
    }

    @Test("New metadata replaces all of it")
    func replaced() async throws {
        let script = try Self.script()
        let provider = try await script.prepared()
        let metadata = ObjectMetadata(contentType: "text/x", modified: Timestamp(seconds: 1), user: ["mode": "0100600"])
        _ = try await provider.copy(CopyRequest(source: info("from"), destination: "d/", metadata: metadata))
        #expect(
            script.seen.last?.text == "{\"sourceFileId\":\"f1\",\"fileName\":\"d/.bzEmpty\","
                + "\"metadataDirective\":\"REPLACE\",\"contentType\":\"text/x\","
                + "\"fileInfo\":{\"src_last_modified_millis\":\"1000\",\"mode\":\"0100600\"}}")
    }

    @Test("Above the limit of one call a large file is made of copied parts", arguments: [(10, 8, 4), (10, 100, 2)])
    func inParts(limit: Int, partSize: Int, parts: Int) async throws {
        let script = try Self.script()
        let provider = try await script.prepared(copyLimit: limit, copyPartSize: partSize)
        // The look must give the same size as the copy is made of.
        let copy = try await provider.copy(CopyRequest(source: info("from", size: 25), destination: "to"))
        #expect(copy.etag == ETag("large") && copy.size == 25)
        let copied = script.seen.filter { $0.operation == "b2_copy_part" }
        #expect(copied.count == parts)
        #expect(copied.reduce(0) { $0 + Self.length($1.text) } == 25)
        #expect(Set(copied.map { Self.number($0.text) }) == Set(1...parts))
        #expect(script.operations.suffix(2) == ["b2_finish_large_file", "/file/bucket-one/to"])
    }

    @Test("A range is copied after one look for many")
    func ranges() async throws {
        let script = try Self.script()
        let provider = try await script.prepared()
        let upload = Upload(key: "to", id: "large")
        for number in 1...4 {
            let extent = Extent((number - 1) * 5, number * 5)
            let part = try await provider.copyPart(upload, number: number, source: info("from"), extent: extent)
            #expect(part == UploadedPart(number: number, size: 5, tag: "s"))
        }
        #expect(script.seen.filter { $0.method == "HEAD" }.count == 1)
        #expect(
            script.seen.last?.text
                == "{\"sourceFileId\":\"f1\",\"largeFileId\":\"large\",\"partNumber\":4,\"range\":\"bytes=15-19\"}")
    }

    @Test(
        "Deleting hides by default, and what is hidden or absent counts as done",
        arguments: [
            "already_hidden", "no_such_file", "",
        ])
    func hiding(code: String) async throws {
        let script = try ScriptedB2 { request, _ in
            request.operation == "b2_hide_file"
                ? code.isEmpty ? .json(file("k", action: "hide")) : .error(400, code) : nil
        }
        let provider = try await script.prepared()
        #expect(try await provider.delete([DeleteRequest("k")]).isEmpty)
        #expect(script.seen.last?.text == "{\"bucketId\":\"b1\",\"fileName\":\"k\"}")
        #expect(try await provider.delete([DeleteRequest("d/")]).isEmpty)
        #expect(script.work == ["b2_hide_file", "b2_hide_file", "b2_hide_file"])
        #expect(script.seen.last?.text == "{\"bucketId\":\"b1\",\"fileName\":\"d/\"}")
    }

    @Test("Deleting for good takes every version, the current one last", arguments: ["", "file_not_present"])
    func permanent(code: String) async throws {
        let script = try ScriptedB2 { request, _ in
            switch request.operation {
            case "b2_list_file_versions":
                .json(
                    "{\"files\": [\(file("k", id: "i3", action: "hide")), \(file("k", id: "i2")), \(file("k", id: "i1")), "
                        + "\(file("k", id: "s", action: "start")), \(file("k2", id: "o"))], "
                        + "\"nextFileName\": null, \"nextFileId\": null}")
            case "b2_delete_file_version": code.isEmpty ? .json("{}") : .error(400, code)
            default: nil
            }
        }
        let provider = try await script.prepared(["delete": .string("permanent")])
        #expect(try await provider.delete([DeleteRequest("k")]).isEmpty)
        let deleted = script.seen.filter { $0.operation == "b2_delete_file_version" }.map(\.text)
        #expect(deleted.count == 3)
        #expect(deleted.last == "{\"fileName\":\"k\",\"fileId\":\"i3\"}")
        #expect(
            Set(deleted.dropLast()) == [
                "{\"fileName\":\"k\",\"fileId\":\"i2\"}", "{\"fileName\":\"k\",\"fileId\":\"i1\"}",
            ])
    }

    @Test("A retained version is refused, and nothing is called deleted")
    func retained() async throws {
        let script = try ScriptedB2 { request, _ in
            switch request.operation {
            case "b2_list_file_versions":
                .json("{\"files\": [\(file("k", id: "i1"))], \"nextFileName\": null, \"nextFileId\": null}")
            case "b2_delete_file_version": .error(401, "access_denied")
            default: nil
            }
        }
        let provider = try await script.prepared(["delete": .string("permanent")])
        #expect(await failure { _ = try await provider.delete([DeleteRequest("k")]) }?.code == .permissionDenied)
    }
}

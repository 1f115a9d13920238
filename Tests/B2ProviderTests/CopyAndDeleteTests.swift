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

    @Test("A copy is of the very version that is named, whatever is current, and looks at nothing")
    func exact() async throws {
        let script = try Self.script(current: "f2")
        let provider = try await script.prepared()
        let copy = try await provider.copy(CopyRequest(source: info("from"), destination: "to"))
        #expect(copy.etag == ETag("copy") && copy.key == "to")
        #expect(script.work == ["b2_copy_file"])
        #expect(
            script.seen.last?.text == "{\"sourceFileId\":\"f1\",\"fileName\":\"to\",\"metadataDirective\":\"COPY\"}")
    }

    @Test("A portal's page in answer to a deletion is none")
    func portalPage() async throws {
        let script = try ScriptedB2 { request, _ in
            switch (request.method, request.operation) {
            case ("HEAD", _): ScriptedAnswer(headers: headers("f1", [("Content-Length", "10")]))
            case (_, "b2_hide_file"), (_, "b2_cancel_large_file"):
                ScriptedAnswer(headers: [("Content-Type", "text/html")], body: Array("<html>log in</html>".utf8))
            default: nil
            }
        }
        let provider = try await script.prepared()
        let failures = await attempt { () async throws(VFSError) in
            try await provider.delete([DeleteRequest("k", version: ETag("f1"))])
        }
        switch failures {
        case .success(let failures): #expect(failures.map(\.error.code) == [.malformedResponse])
        case .failure(let error): #expect(error.code == .malformedResponse)
        }
        await #expect(throws: VFSError.self) { try await provider.abortUpload(Upload(key: "k", id: "u")) }
    }

    @Test("A size that there cannot be is refused")
    func impossibleSize() async throws {
        let script = try Self.script()
        let provider = try await script.prepared()
        let error = await #expect(throws: VFSError.self) {
            try await provider.copy(CopyRequest(source: info("from", size: 1 << 53), destination: "to"))
        }
        #expect(error?.code == .tooLarge)
        #expect(script.work == [])
    }

    @Test(
        "A source that is gone is stale, in whichever words B2 says it",
        arguments: [(404, "not_found"), (400, "file_not_present"), (400, "bad_request")])
    func gone(status: Int, code: String) async throws {
        let script = try ScriptedB2 { request, _ in
            switch request.operation {
            case "b2_copy_file", "b2_copy_part", "b2_get_file_info": .error(status, code)
            default: nil
            }
        }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.copy(CopyRequest(source: info("from"), destination: "to")) }
        #expect(error?.code == .stale)
    }

    @Test("The precondition of a copy is compared just before it, onto itself as well")
    func precondition() async throws {
        let script = try Self.script(current: "f2")
        let provider = try await script.prepared()
        for (precondition, works) in [
            (Precondition.match(ETag("f2")), true), (.match(ETag("f1")), false), (.absent, false),
        ] {
            let request = CopyRequest(
                source: info("from"), destination: "from", metadata: ObjectMetadata(), precondition: precondition)
            let before = script.work.count
            let error = await failure { _ = try await provider.copy(request) }
            #expect(error?.code == (works ? nil : .preconditionFailed))
            #expect(
                script.work.dropFirst(before) == ["/file/bucket-one/from"] + (works ? ["b2_copy_file"] : []))
        }
    }

    @Test("A copy of a file that B2 encrypts is encrypted too")
    func encrypted() async throws {
        let script = try Self.script()
        let provider = try await script.prepared()
        var source = info("from")
        source.encryption = "SSE-B2"
        _ = try await provider.copy(CopyRequest(source: source, destination: "to"))
        #expect(
            script.seen.last?.text.hasSuffix(
                "\"destinationServerSideEncryption\":{\"mode\":\"SSE-B2\",\"algorithm\":\"AES256\"}}") == true)
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

    @Test("A range is copied of the version that is named, without a look")
    func ranges() async throws {
        let script = try Self.script()
        let provider = try await script.prepared()
        let upload = Upload(key: "to", id: "large")
        for number in 1...4 {
            let extent = Extent((number - 1) * 5, number * 5)
            let part = try await provider.copyPart(upload, number: number, source: info("from"), extent: extent)
            #expect(part == UploadedPart(number: number, size: 5, tag: "s"))
        }
        #expect(script.seen.filter { $0.method == "HEAD" }.isEmpty)
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
            case "b2_delete_file_version": code.isEmpty ? .json("{\"fileId\": \"4_z\"}") : .error(400, code)
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

    /// Files as their versions, newest first.
    private static func versions(_ files: String...) -> ScriptedAnswer {
        .json("{\"files\": [\(files.joined(separator: ", "))], \"nextFileName\": null, \"nextFileId\": null}")
    }

    @Test("A version is hidden only while it is the current one", arguments: ["i2", "i1", nil])
    func hidingVersion(current: String?) async throws {
        let script = try ScriptedB2 { request, _ in
            switch (request.method, request.operation) {
            case ("HEAD", _):
                current.map { ScriptedAnswer(headers: headers($0, [("Content-Length", "3")])) }
                    ?? ScriptedAnswer(status: 404)
            case (_, "b2_hide_file"): .json(file("k", action: "hide"))
            default: nil
            }
        }
        let provider = try await script.prepared()
        let failures = try await provider.delete([DeleteRequest("k", version: ETag("i2"))])
        #expect(failures.map(\.error.code) == (current == "i1" ? [.preconditionFailed] : []))
        #expect(script.work.contains("b2_hide_file") == (current == "i2"))
    }

    @Test("Deleting a version for good takes it and what is below it; a newer one stays", arguments: [true, false])
    func permanentVersion(isCurrent: Bool) async throws {
        let script = try ScriptedB2 { request, _ in
            switch (request.method, request.operation) {
            // The newer one came after the look.
            case ("HEAD", _): ScriptedAnswer(headers: headers("i2", [("Content-Length", "3")]))
            case (_, "b2_list_file_versions"):
                isCurrent
                    ? Self.versions(file("k", id: "i2"), file("k", id: "i1"))
                    : Self.versions(file("k", id: "i3"), file("k", id: "i2"), file("k", id: "i1"))
            case (_, "b2_delete_file_version"): .json("{\"fileId\": \"4_z\"}")
            default: nil
            }
        }
        let provider = try await script.prepared(["delete": .string("permanent")])
        let failures = try await provider.delete([DeleteRequest("k", version: ETag("i2"))])
        #expect(failures.map(\.error.code) == (isCurrent ? [] : [.preconditionFailed]))
        let deleted = script.seen.filter { $0.operation == "b2_delete_file_version" }.map(\.text)
        #expect(
            deleted
                == (isCurrent
                    ? ["{\"fileName\":\"k\",\"fileId\":\"i1\"}", "{\"fileName\":\"k\",\"fileId\":\"i2\"}"] : []))
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

import CloudMountVFS
import TestServers
import Testing

@testable import B2Provider

private func listing(_ answer: @escaping @Sendable (SeenRequest) -> String) throws -> ScriptedB2 {
    try ScriptedB2 { request, _ in
        request.operation == "b2_list_file_names" || request.operation == "b2_list_file_versions"
            ? .json(answer(request)) : nil
    }
}

private func page(_ files: [String], next: String? = nil) -> String {
    "{\"files\": [\(files.joined(separator: ","))], \"nextFileName\": \(next.map { "\"\($0)\"" } ?? "null")}"
}

@Suite("Listings")
struct ListTests {
    @Test("A page says all that a lookup would")
    func metadata() async throws {
        let script = try listing { _ in
            page([
                file(
                    "a\\\"\\u00fc\\ud83d\\ude80", id: "v", size: 9,
                    info: "{\"src_last_modified_millis\": \"5\", \"mode\": \"0100600\"}")
            ])
        }
        let provider = try await script.prepared()
        let found = try await provider.list(ListRequest(prefix: "", delimited: true))
        #expect(found.objects.map(\.key) == ["a\"ü🚀"])
        #expect(found.objects[0].size == 9 && found.objects[0].etag == ETag("v"))
        #expect(found.objects[0].metadata?.modified == Timestamp(milliseconds: 5))
        #expect(found.objects[0].metadata?.user == ["mode": "0100600"])
        #expect(found.objects[0].metadata?.contentType == "text/plain")
        #expect(found.objects[0].stored == Timestamp(milliseconds: 1_700_000_000_123))
    }

    @Test("Where entries are fat, pages have fewer of them; where they are not, more again")
    func pageSizes() async throws {
        let fat = "{\"note\": \"\(String(repeating: "n", count: 6000))\"}"
        let script = try listing { request in
            page((0..<200).map { file("f\($0)", info: fat) }, next: request.text.contains("n1") ? nil : "n1")
        }
        let provider = try await script.prepared()
        let first = try await provider.list(ListRequest(prefix: "", delimited: true))
        _ = try await provider.list(ListRequest(prefix: "", delimited: true, continuation: first.continuation))
        let asked = script.seen.filter { $0.operation == "b2_list_file_names" }.map(\.text)
        #expect(asked.count == 2 && asked.allSatisfy { $0.contains("\"maxFileCount\":1000,") }, "\(asked)")

        let sizes = B2PageSizes()
        #expect(sizes.most == 10_000)
        sizes.note(3_000_000, of: 1000)
        #expect(sizes.most == 2000)
        sizes.note(.max, of: 1)
        #expect(sizes.most == 1000)
        sizes.note(1000, of: 3)
        #expect(sizes.most == 1000)
        for _ in 0..<20 { sizes.note(300_000, of: 1000) }
        #expect(sizes.most == 10_000)
    }

    @Test("A listing that goes round is an error, and not kept in memory for ever")
    func circles() async throws {
        let script = try listing { request in
            let isFirst = !request.text.contains("\"n1\"")
            if request.operation == "b2_list_file_names" { return page([], next: isFirst ? "n1" : "n2") }
            return "{\"files\": [\(file("k"))], \"nextFileName\": \"k\", \"nextFileId\": \"\(isFirst ? "n1" : "n2")\"}"
        }
        let provider = try await script.prepared()
        let listed = await #expect(throws: VFSError.self) {
            try await provider.list(ListRequest(prefix: "", delimited: true))
        }
        #expect(listed?.code == .malformedResponse)
        let versions = await #expect(throws: VFSError.self) { try await provider.versions(of: "k") }
        #expect(versions?.code == .malformedResponse)
        #expect(script.work.count < 20)
    }

    @Test(
        "What is not a whole listing is an error, never an empty folder",
        arguments: [
            (200, "{}"), (200, "[]"), (200, ""), (200, "{\"files\": []}"), (200, "{\"nextFileName\": null}"),
            (200, "{\"files\": null, \"nextFileName\": null}"), (200, "<html>log in</html>"),
            (200, "{\"status\": 500, \"code\": \"internal_error\", \"message\": \"x\"}"),
            (200, "{\"files\": [], \"nextFileName\": null"), (404, ""),
            (404, "{\"code\": \"not_found\", \"message\": \"x\"}"),
            (302, ""),
        ])
    func noListing(status: Int, body: String) async throws {
        let script = try ScriptedB2 { request, _ in
            request.operation.hasPrefix("b2_list_file_") ? .json(body, status: status) : nil
        }
        let provider = try await script.prepared()
        let listed = await failure { _ = try await provider.list(ListRequest(prefix: "a/", delimited: true)) }
        #expect(listed.map { [.malformedResponse, .bucketNotFound, .unavailable].contains($0.code) } == true)
        if status == 200 { #expect(await failure { _ = try await provider.versions(of: "a") } != nil) }
    }

    @Test("The first page costs one call of the bill, the next ones are as large as may be")
    func pages() async throws {
        let script = try listing { request in
            request.text.contains("startFileName") ? page([file("p/b")]) : page([file("p/a")], next: "p/b")
        }
        let provider = try await script.prepared()
        let before = provider.billedCalls[2].calls
        let first = try await provider.list(ListRequest(prefix: "p/", delimited: true))
        #expect(
            script.seen.last?.text
                == "{\"bucketId\":\"b1\",\"maxFileCount\":1000,\"prefix\":\"p/\",\"delimiter\":\"/\"}")
        #expect(provider.billedCalls[2].calls - before == 1)
        let request = ListRequest(prefix: "p/", delimited: false, continuation: first.continuation)
        let second = try await provider.list(request)
        #expect(second.objects.map(\.key) == ["p/b"] && second.continuation == nil)
        #expect(
            script.seen.last?.text
                == "{\"bucketId\":\"b1\",\"maxFileCount\":10000,\"prefix\":\"p/\",\"startFileName\":\"p/b\"}")
        #expect(provider.billedCalls[2].calls - before == 11)
        _ = try await provider.list(ListRequest(prefix: "p/", delimited: false, limit: 1))
        #expect(script.seen.last?.text.contains("\"maxFileCount\":1,") == true)
    }

    @Test("Folders, markers, hidden and unfinished files are what they are")
    func kinds() async throws {
        let script = try listing { _ in
            page([
                file("p/", id: "literal", size: 0), file("p/!x", id: "x"), file("p/.bzEmpty", id: "marker", size: 0),
                file("p/d/", action: "folder"), file("p/h", action: "hide"), file("p/s", action: "start"), file("p/z"),
            ])
        }
        let provider = try await script.prepared()
        let found = try await provider.list(ListRequest(prefix: "p/", delimited: true))
        #expect(found.objects.map(\.key) == ["p/", "p/!x", "p/z"])
        #expect(found.objects[0].etag == ETag("marker"), "the name under which it is looked up first")
        #expect(found.commonPrefixes == ["p/d/"])
    }

    @Test("A folder object with two names is listed once, also across pages")
    func twice() async throws {
        let script = try listing { request in
            request.text.contains("startFileName")
                ? page([file("p/!b"), file("p/.bzEmpty")]) : page([file("p/"), file("p/!a")], next: "p/!b")
        }
        let provider = try await script.prepared()
        let first = try await provider.list(ListRequest(prefix: "", delimited: false))
        #expect(first.objects.map(\.key) == ["p/", "p/!a"])
        let second = try await provider.list(
            ListRequest(prefix: "", delimited: false, continuation: first.continuation))
        #expect(second.objects.map(\.key) == ["p/!b"])
    }

    @Test("The marker of the bucket's top is nothing, and a page of nothing else is passed over")
    func top() async throws {
        let script = try listing { request in
            request.text.contains("startFileName") ? page([file("a")]) : page([file(".bzEmpty")], next: "a")
        }
        let provider = try await script.prepared()
        #expect(try await provider.list(ListRequest(prefix: "", delimited: true, limit: 1)).objects.map(\.key) == ["a"])
    }

    @Test(
        "What is no listing is none",
        arguments: [
            "", "{", "[]", "{\"files\": [{\"fileId\": \"x\"}], \"nextFileName\": null}", "{\"files\": 3}",
            "{\"files\": [], \"nextFileName\": null} x", "<html></html>",
        ])
    func hostile(text: String) async throws {
        let script = try listing { _ in text }
        let provider = try await script.prepared()
        let error = await failure { _ = try await provider.list(ListRequest(prefix: "", delimited: true)) }
        #expect(error?.code == .malformedResponse)
    }

    @Test("A listing that does not go on is given up")
    func loop() async throws {
        let script = try listing { _ in page([file("a")], next: "a") }
        let provider = try await script.prepared()
        let first = try await provider.list(ListRequest(prefix: "", delimited: true))
        let error = await failure {
            _ = try await provider.list(ListRequest(prefix: "", delimited: true, continuation: first.continuation))
        }
        #expect(error?.code == .malformedResponse)
    }

    @Test("A page of ten thousand is read away from the transfers, whole")
    func large() async throws {
        let files = (0..<10_000).map { file("n\($0)", id: "i\($0)", info: "{\"mode\": \"0100644\"}") }
        let text = page(files)
        let script = try listing { _ in text }
        let provider = try await script.prepared()
        let found = try await provider.list(ListRequest(prefix: "", delimited: true))
        #expect(found.objects.count == 10_000)
        #expect(found.objects[9_999].metadata?.user["mode"] == "0100644")
    }

    @Test("More entries than B2 has on a page are no listing, in however many pieces they come")
    func endless() async throws {
        let entry = "{\"action\":\"upload\",\"fileId\":\"1\",\"fileName\":\"a\"}"
        let half = "\"files\": [" + Array(repeating: entry, count: 5001).joined(separator: ",") + "]"
        let texts = [
            "{\(half), \(half), \"nextFileName\": null}",
            "{\(half), \"nextFileName\": null, \"skipped\": [\(Array(repeating: "1", count: 10_001).joined(separator: ","))]}",
        ]
        for (text, isListing) in zip(texts, [false, true]) {
            let script = try ScriptedB2 { request, _ in
                ["b2_list_file_names", "b2_list_file_versions"].contains(request.operation) ? .json(text) : nil
            }
            let provider = try await script.prepared()
            let error = await failure { _ = try await provider.list(ListRequest(prefix: "", delimited: true)) }
            #expect(error?.code == (isListing ? nil : .malformedResponse))
            let other = await failure { _ = try await provider.versions(of: "a") }
            #expect(other?.code == (isListing ? nil : .malformedResponse))
        }
    }

    @Test("A file with more information than B2 keeps is no file")
    func muchInformation() async throws {
        @Sendable func information(_ count: Int) -> String {
            "{" + (0..<count).map { "\"\($0)\":\"\"" }.joined(separator: ",") + "}"
        }
        let script = try listing { request in
            page([file("p/a", info: information(request.text.contains("\"p/\"") ? 100 : 101))])
        }
        let provider = try await script.prepared()
        #expect(try await provider.list(ListRequest(prefix: "p/", delimited: true)).objects.count == 1)
        let error = await failure { _ = try await provider.list(ListRequest(prefix: "", delimited: true)) }
        #expect(error?.code == .malformedResponse)
    }

    @Test("The versions of one name, and of no other")
    func versions() async throws {
        let script = try listing { request in
            request.text.contains("\"startFileId\":\"i2\"")
                ? "{\"files\": [\(file("k", id: "i2")), \(file("k2", id: "o"))], \"nextFileName\": null, \"nextFileId\": null}"
                : "{\"files\": [\(file("k", id: "i0", action: "hide", size: 0)), \(file("k", id: "s", action: "start"))], "
                    + "\"nextFileName\": \"k\", \"nextFileId\": \"i2\"}"
        }
        let provider = try await script.prepared()
        let versions = try await provider.versions(of: "k")
        #expect(versions.map(\.info.etag) == [ETag("i0"), ETag("i2")])
        #expect(versions.map(\.isLatest) == [true, false])
        #expect(versions.map(\.isDeleteMarker) == [true, false])
    }
}

import CloudMountVFS
import TestServers
import Testing

@testable import S3Provider

/// Operations whose answer may say 200 and mean something else.
@Suite("Answers of status 200")
struct ResultTests {
    private enum Verb: String, CaseIterable {
        case copy, copyPart, complete, begin

        var root: String {
            switch self {
            case .copy: "CopyObjectResult"
            case .copyPart: "CopyPartResult"
            case .complete: "CompleteMultipartUploadResult"
            case .begin: "InitiateMultipartUploadResult"
            }
        }
    }

    private func run(_ verb: Verb, _ body: String) async throws -> String {
        let server = try ScriptedServer { request, _ in
            request.method == "HEAD"
                ? ScriptedAnswer(headers: [("ETag", "\"h\""), ("Content-Length", "1")]) : .xml(body)
        }
        let provider = try provider(server, known)
        let upload = Upload(key: "k", id: "U")
        switch verb {
        case .copy: return try await provider.copy(CopyRequest(source: info("k"), destination: "l")).etag.value
        case .copyPart:
            return try await provider.copyPart(upload, number: 1, source: info("k"), extent: Extent(0, 5)).tag
        case .complete:
            let part = UploadedPart(number: 1, size: 5, tag: "\"t\"")
            return try await provider.completeUpload(upload, parts: [part], precondition: .none).etag.value
        case .begin: return try await provider.beginUpload("k", metadata: ObjectMetadata()).id
        }
    }

    private func good(_ verb: Verb) -> String {
        "<?xml version=\"1.0\"?>\n   \n<\(verb.root) xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
            + "<ETag>&quot;e1&quot;</ETag><UploadId>U1</UploadId></\(verb.root)>"
    }

    @Test("The right root is success, after any white space", arguments: Verb.allCases)
    private func success(verb: Verb) async throws {
        let expected = [Verb.copy: "e1", .complete: "e1", .copyPart: "\"e1\"", .begin: "U1"][verb]
        #expect(try await run(verb, good(verb)) == expected)
        #expect(try await run(verb, "  \r\n" + good(verb)) == expected)
    }

    @Test("An error under status 200 is an error", arguments: Verb.allCases)
    private func errors(verb: Verb) async throws {
        for (code, expected, retry) in [
            ("InternalError", VFSError.Code.unavailable, VFSError.RetryAdvice.backoff),
            ("SlowDown", .throttled, .throttle(after: nil)), ("AccessDenied", .permissionDenied, .never),
        ] {
            let error = await #expect(throws: VFSError.self) {
                try await run(verb, "<?xml version=\"1.0\"?>\n\n\n<Error><Code>\(code)</Code></Error>")
            }
            #expect(error?.code == expected)
            #expect(error?.retry == retry)
            #expect(error?.wire?.status == 200)
        }
    }

    @Test("A document cut anywhere is no success", arguments: Verb.allCases)
    private func cut(verb: Verb) async throws {
        let document = good(verb)
        for count in stride(from: 0, to: document.utf8.count, by: 7) {
            let error = await #expect(throws: VFSError.self) { try await run(verb, String(document.prefix(count))) }
            #expect(error?.code == .corrupted)
            #expect(error?.retry == .backoff)
        }
    }

    @Test("A document of another kind is no success", arguments: Verb.allCases)
    private func other(verb: Verb) async throws {
        let error = await #expect(throws: VFSError.self) { try await run(verb, "<html/>") }
        #expect(error?.code == .malformedResponse)
    }
}

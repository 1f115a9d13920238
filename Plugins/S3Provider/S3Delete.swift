import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import CloudMountXML

/// Deletes objects.
final class S3Deleter: Sendable {
    private let client: S3Client
    private let reader: S3Reader
    private let looks: S3Looks

    init(_ client: S3Client, _ reader: S3Reader, _ looks: S3Looks) {
        self.client = client
        self.reader = reader
        self.looks = looks
    }

    /// DeleteObject for one key, DeleteObjects for more.
    func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        for object in objects { try object.key.check() }
        guard objects.count <= max(1, client.profile.maxDeleteKeys) else {
            throw VFSError(.invalidArgument, "too many keys in one delete")
        }
        let features = client.features
        // What XML cannot hold goes one by one.
        let together = objects.count == 1 ? [] : objects.filter { S3Document.canHold($0.key.string) }
        let single = objects.count == 1 ? objects : objects.filter { !S3Document.canHold($0.key.string) }
        var failures: [DeleteFailure] = []
        if !together.isEmpty {
            var going = together
            if !features.deleteManyMatch { (going, failures) = try await looks.unchanged(together) }
            failures += try await delete(together: going, conditionally: features.deleteManyMatch)
        }
        for object in single {
            do throws(VFSError) {
                if let version = object.version, !features.deleteMatch {
                    guard let there = try await looks.version(of: object.key) else { continue }
                    guard there == version else { throw .changed }
                }
                try await delete(object, conditionally: features.deleteMatch)
            } catch {
                guard objects.count > 1 || error.code == .preconditionFailed, error.code != .cancelled else {
                    throw error
                }
                failures.append(DeleteFailure(key: object.key, error: error))
            }
        }
        return failures
    }

    /// Sends the condition whatever is known of the endpoint.
    func delete(_ object: DeleteRequest, conditionally: Bool) async throws(VFSError) {
        var wire = S3Request("DeleteObject", .delete, object.key)
        client.addPayer(&wire)
        if conditionally, let version = object.version { wire.field("if-match", version.quoted) }
        do throws(VFSError) {
            try await client.sendForNothing(wire)
        } catch {
            if error.code == .notFound { return }
            // Some say so of an object that is not there.
            if error.code == .preconditionFailed, try await reader.headIfThere(object.key) == nil { return }
            throw error
        }
    }

    /// Sends the conditions whatever is known of the endpoint.
    func delete(
        together objects: [DeleteRequest], conditionally: Bool
    ) async throws(VFSError) -> [DeleteFailure] {
        if objects.isEmpty { return [] }
        var wire = S3Request("DeleteObjects", .post)
        wire.parameter("delete")
        client.addPayer(&wire)
        let document = S3Document("Delete") { document in
            document.element("Quiet", text: "true")
            for object in objects {
                document.element("Object") {
                    $0.element("Key", text: object.key.string)
                    if conditionally, let version = object.version { $0.element("ETag", text: version.quoted) }
                }
            }
        }
        wire.xml(document.bytes)
        wire.field("content-md5", S3Payload.md5(document.bytes))
        let (told, response) = try await client.missingMeansBucket { () async throws(VFSError) in
            try await client.send(wire) { DeleteParser() }
        }
        guard told.isWanted else { throw client.refusal(wire, response) }
        let asked = Set(objects.map(\.key))
        guard told.errors.allSatisfy({ asked.contains($0.key) }) else {
            throw client.error(
                .malformedResponse, "an error of a key that was not to be deleted", wire, response.head)
        }
        let failures = told.errors.map { refused in
            let error = S3Errors.error(
                status: response.status, headers: response.headers, body: refused.body, isOfStore: false,
                wire: VFSError.Wire(
                    operation: wire.operation, key: refused.key.string, endpoint: client.route.authority))
            return DeleteFailure(key: refused.key, error: error)
        }
        // Some say so of an object that is not there.
        return try await inParallel(failures.filter { $0.error.code != .notFound }, width: S3Looks.lookWidth) {
            failure async throws(VFSError) -> DeleteFailure? in
            guard failure.error.code == .preconditionFailed else { return failure }
            return try await self.reader.headIfThere(failure.key) == nil ? nil : failure
        }.compactMap { $0 }
    }
}

/// Reads `DeleteResult`.
private final class DeleteParser: S3Parser {
    struct Answer: Sendable {
        var isWanted = false
        var errors: [(key: ObjectKey, body: S3ErrorBody)] = []
    }

    private(set) var answer = Answer()
    private(set) var entries = 0
    private var key = ObjectKey("")
    private var body = S3ErrorBody()

    func start(_ name: XMLText, depth: Int) {
        if depth == 1 { answer.isWanted = S3Root(stringLiteral: "DeleteResult").matches(name) }
        if depth == 2 {
            key = ObjectKey("")
            body = S3ErrorBody()
        }
    }

    func end(_ name: XMLText, text: XMLText, depth: Int) {
        switch (depth, name) {
        case (3, "Key"): key = ObjectKey(text.string)
        case (3, "Code"): body.code = text.string
        case (3, "Message"): body.message = text.string
        case (2, "Error"):
            entries += 1
            if entries <= S3Client.mostEntries { answer.errors.append((key, body)) }
        default: break
        }
    }
}

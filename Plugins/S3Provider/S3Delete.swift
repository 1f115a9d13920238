import CloudMountHTTP
public import CloudMountVFS
import CloudMountXML

extension S3Provider {
    /// DeleteObject for one key, DeleteObjects for more.
    public func delete(_ objects: [DeleteRequest]) async throws(VFSError) -> [DeleteFailure] {
        for object in objects { try check(object.key) }
        guard objects.count <= max(1, client.profile.maxDeleteKeys) else {
            throw VFSError(.invalidArgument, "too many keys in one delete")
        }
        var failures: [DeleteFailure] = []
        var keys: [ObjectKey] = []
        for object in objects {
            if let version = object.version, let there = try await current(object.key), there.etag != version {
                let error = VFSError(.preconditionFailed, "the object has been changed meanwhile")
                failures.append(DeleteFailure(key: object.key, error: error))
            } else {
                keys.append(object.key)
            }
        }
        // What XML cannot hold goes one by one.
        let fitting = keys.count == 1 ? [] : keys.filter { S3Document.canHold($0.string) }
        let single = keys.count == 1 ? keys : keys.filter { !S3Document.canHold($0.string) }
        if !fitting.isEmpty { failures += try await deleteTogether(fitting) }
        for key in single {
            do throws(VFSError) {
                try await delete(key)
            } catch {
                guard keys.count > 1, error.code != .cancelled else { throw error }
                failures.append(DeleteFailure(key: key, error: error))
            }
        }
        return failures
    }

    private func delete(_ key: ObjectKey) async throws(VFSError) {
        var wire = S3Request("DeleteObject", .delete, key)
        addPayer(&wire)
        do throws(VFSError) {
            _ = try await client.send(wire)
        } catch {
            guard error.code == .notFound else { throw error }
        }
    }

    private func deleteTogether(_ keys: [ObjectKey]) async throws(VFSError) -> [DeleteFailure] {
        var wire = S3Request("DeleteObjects", .post)
        wire.parameter("delete")
        addPayer(&wire)
        let document = S3Document("Delete") { document in
            document.element("Quiet", text: "true")
            for key in keys { document.element("Object") { $0.element("Key", text: key.string) } }
        }
        wire.xml(document.bytes)
        wire.field("content-md5", S3Payload.md5(document.bytes))
        let parser = DeleteParser()
        let response = try await missingMeansBucket { () async throws(VFSError) in
            try await client.send(wire, parsedBy: parser)
        }
        guard parser.isWanted else { throw client.refusal(wire, response) }
        let asked = Set(keys)
        return parser.errors.compactMap { refused in
            let error = S3Errors.error(
                status: response.status, headers: response.headers, body: refused.body, bodyIsEmpty: false,
                wire: VFSError.Wire(
                    operation: wire.operation, key: refused.key.string, endpoint: client.route.authority))
            guard error.code != .notFound, asked.contains(refused.key) else { return nil }
            return DeleteFailure(key: refused.key, error: error)
        }
    }
}

/// Reads `DeleteResult`.
private final class DeleteParser: XMLHandler {
    private(set) var isWanted = false
    private(set) var errors: [(key: ObjectKey, body: S3ErrorBody)] = []
    private var key = ObjectKey("")
    private var body = S3ErrorBody()

    func start(_ name: XMLText, depth: Int) {
        if depth == 1 { isWanted = S3Root(stringLiteral: "DeleteResult").matches(name) }
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
        case (2, "Error"): errors.append((key, body))
        default: break
        }
    }
}

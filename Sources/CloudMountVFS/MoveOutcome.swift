/// What has become of a move whose answer was lost, as far as the store shows it.
public enum MoveOutcome: Sendable {
    /// It has taken place; with what is under the new key, as `move` tells it.
    case done(ObjectInfo?)
    /// Not, or not yet: it may still be on its way.
    case open
}

extension ObjectProvider {
    /// Asks what has become of a move. Nothing is believed of it but what was found: the source gone, and what was to be moved under the new key.
    public func whatBecame(of request: MoveRequest) async throws(VFSError) -> MoveOutcome {
        guard request.source.key.endsWithSlash else { return try await whatBecame(ofObject: request) }
        if try await hasAnything(below: request.source.key) { return .open }
        // Nothing else takes a whole folder away and puts one in the other's place at once.
        guard try await hasAnything(below: request.destination) else { return .open }
        return .done(try await headIfThere(request.destination))
    }

    private func whatBecame(ofObject request: MoveRequest) async throws(VFSError) -> MoveOutcome {
        guard let there = try await headIfThere(request.destination), request.isOf(there) else { return .open }
        let left = try await headIfThere(request.source.key)
        return left?.etag == request.source.etag ? .open : .done(there)
    }

    private func hasAnything(below folder: ObjectKey) async throws(VFSError) -> Bool {
        let page = try await list(ListRequest(prefix: folder, delimited: false, limit: 1, takesUnreadable: true))
        return !page.isEmpty || page.continuation != nil
    }
}

extension MoveRequest {
    /// Whether an object has the bytes of the version that was to be moved: by its nonce, or, where none is known, by its ETag.
    func isOf(_ object: ObjectInfo) -> Bool {
        guard object.size == source.size else { return false }
        guard let nonce = nonce ?? source.metadata?.nonce else { return object.etag == source.etag }
        return object.metadata?.nonce == nonce
    }
}

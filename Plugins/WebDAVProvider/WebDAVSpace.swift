import CloudMountVFS

extension WebDAVClient {
    private static let question = """
        <?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>\
        <quota-available-bytes/><quota-used-bytes/></prop></propfind>
        """

    /// The quota of the root (RFC 4331).
    /// - Returns: nil where the server gives none, or says that there is no limit (Nextcloud's are below nought).
    func space() async throws(VFSError) -> StoreSpace? {
        let (responses, _) = try await propfind(root.path(""), "", depth: 0, body: Self.question)
        guard let answer = responses.first, responses.count == 1, let available = answer.quotaAvailable, available >= 0
        else { return nil }
        return StoreSpace(used: answer.quotaUsed ?? 0, available: available)
    }

    /// One that does not answer this is asked for files all the same.
    func tellsSpace() async -> Bool {
        let space = await attempt { () async throws(VFSError) in try await self.space() }
        guard case .success(.some) = space else { return false }
        return true
    }
}

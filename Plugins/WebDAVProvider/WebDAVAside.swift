import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// Takes empty folders away, where WebDAV's own DELETE takes all that is in them.
///
/// The folder is moved aside first, and looked at again where nobody puts anything any more. The name aside tells the folder's key: whoever
/// comes after an answer that was lost, or after the process has ended, finds it and ends what was begun.
struct WebDAVAside: Sendable {
    let dav: WebDAVFolder

    private var client: WebDAVClient { dav.client }

    /// - Throws: `notEmpty`; `busy` when what came into the folder meanwhile cannot have its place again; `notSupported` where the server
    ///   may put a folder over what is there.
    func removeFolder(_ key: ObjectKey) async throws(VFSError) {
        guard let there = try await client.children(of: key) else { return try await settle(key) }
        guard there.isEmpty else { throw Self.notEmpty(key) }
        guard dav.server.exclusiveMove else {
            throw VFSError(.notSupported, "this server has no safe way to remove a folder alone")
        }
        let aside = Name(key).fresh(in: dav.area)
        do throws(VFSError) {
            do throws(VFSError) {
                try await dav.move(key, to: aside, overwrite: false, condition: nil)
            } catch {
                guard [403, 409, 500].contains(error.wire?.status ?? 0),
                    try await client.look(at: dav.area)?.isFolder != true
                else { throw error }
                try await dav.makeArea()
                try await dav.move(key, to: aside, overwrite: false, condition: nil)
            }
        } catch {
            // Somebody was faster; or an attempt whose answer was lost.
            if error.code == .notFound { return try await settle(key) }
            try? await restore(aside, to: key)
            throw error
        }
        try await end(aside, key)
    }

    /// Ends what earlier removals of a folder have left aside.
    private func settle(_ key: ObjectKey) async throws(VFSError) {
        for (aside, name) in try await found() where name == Name(key) { try await end(aside, key) }
    }

    /// What is aside goes when it is empty, else back to its place.
    private func end(_ aside: ObjectKey, _ key: ObjectKey) async throws(VFSError) {
        do throws(VFSError) {
            guard let left = try await client.children(of: aside) else { return }
            guard left.isEmpty else { throw Self.notEmpty(key) }
            try await dav.remove(aside, condition: nil)
        } catch {
            try await restore(aside, to: key)
            throw error
        }
    }

    /// Moves a folder back, whatever becomes of the task; one that is not aside counts as done.
    /// - Throws: `busy`, which tells where the folder is; or that the server cannot be reached.
    private func restore(_ aside: ObjectKey, to key: ObjectKey) async throws(VFSError) {
        let result = await Task {
            await attempt { () async throws(VFSError) in
                do throws(VFSError) {
                    try await self.dav.move(aside, to: key, overwrite: false, condition: nil)
                } catch {
                    if try await self.client.look(at: aside) == nil { return }
                    guard [403, 404, 409, 500].contains(error.wire?.status ?? 0) else { throw error }
                    try await self.client.makeParents(of: key)
                    try await self.dav.move(aside, to: key, overwrite: false, condition: nil)
                }
            }
        }.value
        guard case .failure(let error) = result else { return }
        // A repeat finds it.
        if error.leavesOpen { throw error }
        throw VFSError(
            .busy, "the folder “\(key)” could not be moved back, and is in “\(aside)”: \(error.message)",
            wire: error.wire)
    }

    /// The removals of processes that have ended, as the names in the area tell of them.
    ///
    /// Whoever may write into the area chooses such names: what this mount can have taken from nowhere it moves nowhere, for that would be
    /// done with this user's rights.
    func begun(_ entries: [WebDAVEntry]) -> [(aside: ObjectKey, key: ObjectKey)] {
        let top = ObjectKey(dav.options.prefix)
        return named(entries).compactMap { aside, name in
            guard let key = name.key, key != top, key.hasPrefix(top), (try? dav.check(key)) != nil else { return nil }
            return (aside, key)
        }
    }

    /// Ends one of them: it goes when it is empty, and has its place again when something is seen in it. Otherwise it stays where it is, for
    /// it may be empty, which its user has removed.
    func endBegun(_ aside: ObjectKey, _ key: ObjectKey) async throws(VFSError) {
        guard let left = try await client.children(of: aside) else { return }
        if left.isEmpty { try await dav.remove(aside, condition: nil) } else { try await restore(aside, to: key) }
    }

    private func found() async throws(VFSError) -> [(ObjectKey, Name)] {
        guard let there = try await client.children(of: dav.area) else { return [] }
        return named(there.entries)
    }

    private func named(_ entries: [WebDAVEntry]) -> [(ObjectKey, Name)] {
        entries.compactMap { entry in
            guard entry.isFolder, let name = Name(entry.key, in: dav.area) else { return nil }
            return (ObjectKey(entry.key.string + "/"), name)
        }
    }

    private static func notEmpty(_ key: ObjectKey) -> VFSError {
        VFSError(.notEmpty, "the folder “\(key)” is not empty")
    }
}

extension WebDAVAside {
    /// The part of `gone-NAME.NONCE` that tells the folder: its key with `=` for the `%` of escapes; of a long one `~`, a checksum and the end.
    struct Name: Equatable {
        let text: String

        private static let start = "gone-"
        private static let most = 180

        init(_ key: ObjectKey) {
            let text = String(PercentEncoding.encode(key.string, keepSlash: false).map { $0 == "%" ? "=" : $0 })
            guard text.utf8.count > Self.most else {
                self.text = text
                return
            }
            // FNV-1a
            let sum = text.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) {
                ($0 ^ UInt64(truncatingIfNeeded: $1)) &* 0x100_0000_01B3
            }
            self.text = "~\(String(sum, radix: 16))\(text.suffix(Self.most - 20))"
        }

        /// Nil for what is none of these folders.
        init?(_ aside: ObjectKey, in area: ObjectKey) {
            let prefix = area.string + Self.start
            guard aside.string.hasPrefix(prefix) else { return nil }
            let rest = aside.string.dropFirst(prefix.count)
            guard let dot = rest.lastIndex(of: ".") else { return nil }
            text = String(rest[..<dot])
        }

        /// The whole key, with its slash; nil where the name holds only a part of it.
        var key: ObjectKey? {
            guard !text.hasPrefix("~"),
                let key = PercentEncoding.decode(
                    String(text.map { $0 == "=" ? "%" : $0 }), plusIsSpace: false)
            else { return nil }
            let found = ObjectKey(key)
            return found.endsWithSlash && Self(found) == self ? found : nil
        }

        func fresh(in area: ObjectKey) -> ObjectKey {
            ObjectKey("\(area.string)\(Self.start)\(text).\(ObjectMetadata.newNonce())/")
        }
    }
}

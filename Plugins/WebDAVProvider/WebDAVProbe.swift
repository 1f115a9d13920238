import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// What a server does is found out by small files in the folder for unfinished things, which are gone afterwards. What is not proved is not
/// claimed.
struct WebDAVProbe: Sendable {
    let dav: WebDAVFolder
    let writer: WebDAVWriter

    private var client: WebDAVClient { dav.client }
    private var server: WebDAVServer { dav.server }

    func run() async throws(VFSError) -> WebDAVServer {
        var server = WebDAVServer()
        do throws(VFSError) {
            try await dav.makeArea()
        } catch {
            guard [.permissionDenied, .notSupported].contains(error.code) else { throw error }
            server.readOnlyReason = "the server allows no folder to be made: \(error.message)"
            return server
        }
        // Of eight racing creators one wins there (the conformance suite).
        server.isOneStep = client.serverName.hasPrefix("rclone/")
        let (one, two, three) = (dav.staging(), dav.staging(), dav.staging())
        do throws(VFSError) {
            try await probe(one, two, &server)
            server.exclusiveFolders = try await refusesSecond(three)
            if server.exclusiveMove, server.moveKeepsTag {
                server.movesFolders = try await movesFolders(keepsRecord: server.keepsRecord)
            }
        } catch {
            for key in [one, two, three] { await dav.discard(key) }
            if error.code == .permissionDenied {
                server.readOnlyReason = "the server allows no writing: \(error.message)"
                return server
            }
            throw error
        }
        for key in [one, two, three] { await dav.discard(key) }
        server.chunks = client.root.uploads != nil && dav.options.chunks != false
        return server
    }

    private static let first = Array("a".utf8)
    private static let second = Array("b".utf8)
    /// A whole second long ago.
    private static let time = Timestamp(seconds: 1_600_000_000)

    private func probe(_ one: ObjectKey, _ two: ObjectKey, _ server: inout WebDAVServer) async throws(VFSError) {
        let before = try await writer.upload(BytesSource(Self.first), to: one, modified: Self.time, looks: true)
        let after = try await writer.upload(BytesSource(Self.second), to: one, modified: Self.time, looks: true)
        guard let there = try await client.look(at: one), there.size == 1 else { return }
        // A tag that is made of the time would be the same for other bytes.
        server.keepsTime = there.modified == Self.time && before.tag != after.tag && !there.isWeak
        let record = WebDAVRecord(tag: there.tag, metadata: Self.full)
        let isSet = await attempt { () async throws(VFSError) in
            try await self.client.setRecord(record, at: self.client.root.path(one), one)
        }
        if case .failure(let error) = isSet, error.code.isUnreachable || error.code == .cancelled { throw error }
        let other = try await writer.upload(BytesSource("cc"), to: two, modified: nil, looks: true)
        server.tellsTag = other.told == other.tag && (!server.keepsTime || after.told == after.tag)
        server.exclusiveMove = try await refuses(412) { () async throws(VFSError) in
            try await self.dav.move(one, to: two, overwrite: false, condition: nil)
        }
        guard server.exclusiveMove else { return }
        let wrong = ETag("cloudmount-none")
        let refusesWrong = try await refuses(412) { () async throws(VFSError) in
            try await self.dav.move(one, to: two, overwrite: true, condition: self.dav.condition(two, wrong.value))
        }
        var takesRight = false
        if refusesWrong {
            takesRight = try await !refuses(412) { () async throws(VFSError) in
                try await self.dav.move(one, to: two, overwrite: true, condition: self.dav.condition(two, other.tag))
            }
            if !takesRight { try await dav.move(one, to: two, overwrite: true, condition: nil) }
        }
        guard let moved = try await client.look(at: two), moved.size == 1 else { return }
        server.moveKeepsTag = moved.tag == there.tag
        server.keepsRecord = server.moveKeepsTag && moved.metadata == Self.full
        server.copies = try await copies(two, moved, to: one)
        guard takesRight else { return }
        let keepsAgainstWrong = try await refuses(412) { () async throws(VFSError) in
            try await self.dav.remove(two, condition: self.dav.condition(two, wrong.value))
        }
        let goesByRight = try await !refuses(412) { () async throws(VFSError) in
            try await self.dav.remove(two, condition: self.dav.condition(two, moved.tag))
        }
        server.conditions = keepsAgainstWrong && goesByRight
    }

    /// As much as there may be of it.
    private static let full = ObjectMetadata(
        contentType: "text/x-probe", modified: Timestamp(seconds: 1_600_000_000, nanoseconds: 7),
        user: ["n": String(repeating: "v", count: WebDAVRecord.maxMetadataBytes - 1)], nonce: "cloudmount-probe")

    private func copies(_ key: ObjectKey, _ there: WebDAVEntry, to copy: ObjectKey) async throws(VFSError) -> Bool {
        do throws(VFSError) {
            try await dav.duplicate(there, to: copy, condition: nil)
            return try await client.look(at: copy)?.size == there.size
        } catch {
            if error.code.isUnreachable || error.code == .cancelled { throw error }
            return false
        }
    }

    /// Whether a request is answered by this status; any other good or bad answer is none.
    private func refuses(
        _ status: Int, _ body: () async throws(VFSError) -> Void
    ) async throws(VFSError) -> Bool {
        do throws(VFSError) {
            try await body()
            return false
        } catch {
            if error.code.isUnreachable || error.code == .cancelled { throw error }
            return error.wire?.status == status
        }
    }

    /// Whether a folder goes nowhere where something is, and elsewhere with what is in it, which stays what it was.
    private func movesFolders(keepsRecord: Bool) async throws(VFSError) -> Bool {
        let folders = (0..<3).map { _ in ObjectKey(dav.staging().string + "/") }
        let result = await attempt { () async throws(VFSError) in
            try await self.movesFolder(folders[0], onto: folders[1], to: folders[2], keepsRecord: keepsRecord)
        }
        for folder in folders { await dav.discard(folder) }
        switch result {
        case .success(let moves): return moves
        case .failure(let error) where error.code.isUnreachable || error.code == .cancelled: throw error
        case .failure: return false
        }
    }

    private func movesFolder(
        _ folder: ObjectKey, onto taken: ObjectKey, to free: ObjectKey, keepsRecord: Bool
    ) async throws(VFSError) -> Bool {
        for folder in [folder, taken] { guard try await client.makeFolder(folder) else { return false } }
        let (file, moved) = (ObjectKey(folder.string + "a"), ObjectKey(free.string + "a"))
        _ = try await writer.upload(BytesSource(Self.first), to: file, modified: nil, looks: true)
        guard let before = try await client.look(at: file) else { return false }
        if keepsRecord {
            try await client.setRecord(
                WebDAVRecord(tag: before.tag, metadata: Self.full), at: client.root.path(file), file)
        }
        let refuses = try await refuses(412) { () async throws(VFSError) in
            try await self.dav.move(folder, to: taken, overwrite: false, condition: nil)
        }
        guard refuses, try await client.look(at: file)?.tag == before.tag else { return false }
        try await dav.move(folder, to: free, overwrite: false, condition: nil)
        guard let after = try await client.look(at: moved), try await client.look(at: folder) == nil else {
            return false
        }
        return after.tag == before.tag && (!keepsRecord || after.metadata == Self.full)
    }

    private func refusesSecond(_ folder: ObjectKey) async throws(VFSError) -> Bool {
        _ = try await client.makeFolder(folder)
        return try await !client.makeFolder(folder)
    }
}

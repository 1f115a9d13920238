import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import Synchronization

/// What a server was seen to do.
struct WebDAVServer: Sendable, Equatable {
    /// MOVE with `Overwrite: F` leaves what is there.
    var exclusiveMove = false
    /// MOVE and DELETE obey the tag that `If` names for their destination and their target.
    var conditions = false
    /// It is known to look and act in one step. Apache lets two who make a file at the same time both have made it, and of most servers
    /// nobody knows. Conditions are sent all the same, and only not relied upon.
    var isOneStep = false
    /// A folder is moved with all that is in it, which keeps its tags and properties, and never onto what is there.
    var movesFolders = false
    /// It tells how much room there is.
    var tellsSpace = false
    /// What is moved keeps its tag.
    var moveKeepsTag = false
    /// The tag in the answer to PUT is the one that a look shows afterwards: rclone tells the one from before it has set the time.
    var tellsTag = false
    /// Properties of ours are kept, and moved along.
    var keepsRecord = false
    /// `X-OC-Mtime` sets the time, and tags do not depend on it.
    var keepsTime = false
    /// MKCOL of a folder that is there is refused.
    var exclusiveFolders = false
    var copies = false
    /// Uploads in parts, as Nextcloud takes them.
    var chunks = false
    var readOnlyReason: String?
}

/// The folder that is the bucket, with what all verbs do in it.
final class WebDAVFolder: Sendable {
    let client: WebDAVClient
    let options: WebDAVOptions
    /// Where what is not whole yet lies, with a slash at its end; no key of an object begins with it.
    let area: ObjectKey
    private let sawWeakTags = Atomic(false)
    private let found = Mutex(WebDAVServer())

    init(_ client: WebDAVClient, _ options: WebDAVOptions) {
        self.client = client
        self.options = options
        area = ObjectKey(options.prefix + ".cloudmount/")
    }

    /// What `prepare` has found out.
    var server: WebDAVServer {
        get { found.withLock { $0 } }
        set { found.withLock { $0 = newValue } }
    }

    func check(_ key: ObjectKey) throws(VFSError) {
        try WebDAVRoot.check(key)
        guard !isOurs(key) else {
            throw VFSError(.invalidName, "the name .cloudmount is kept for what is not whole yet")
        }
    }

    /// Whether a key lies where unfinished things do.
    func isOurs(_ key: ObjectKey) -> Bool {
        key.hasPrefix(area) || key == area.withoutSlash
    }

    /// Equal tags mean equal bytes: the server has called none weak so far, as those are that other bytes may have too.
    var believesTags: Bool { !sawWeakTags.load(ordering: .relaxed) }

    func noteTag(_ entry: WebDAVEntry) {
        if entry.isWeak, !entry.isFolder { sawWeakTags.store(true, ordering: .relaxed) }
    }

    /// A new name, which tells by the server's clock when it was made: the times of files are their writers'.
    func staging() -> ObjectKey {
        ObjectKey("\(area.string)put-\(client.serverSeconds)-\(ObjectMetadata.newNonce())")
    }

    /// When a staged file was begun, by the server's clock; nil when its name does not tell.
    func begun(_ staged: ObjectKey) -> Int? {
        let parts = staged.dropping(area.byteCount).string.split(separator: "-")
        guard parts.count == 3, parts[0] == "put", let seconds = Int(parts[1]), seconds > 0 else { return nil }
        return seconds
    }

    func makeArea() async throws(VFSError) {
        let key = area.withoutSlash
        do throws(VFSError) {
            _ = try await client.makeFolder(key)
        } catch {
            guard error.wire?.status == 409 || error.code == .notFound else { throw error }
            try await client.makeParents(of: key)
            _ = try await client.makeFolder(key)
        }
    }

    // MARK: Requests

    /// The value of `If` that holds a request to one version of what has the key.
    func condition(_ key: ObjectKey, _ tag: String) -> String {
        "<\(client.root.url.origin)\(client.root.path(key))> ([\"\(tag)\"])"
    }

    func move(
        _ source: ObjectKey, to destination: ObjectKey, overwrite: Bool, condition: String?, size: Int = 0
    ) async throws(VFSError) {
        try await transfer(.move, source, to: destination, overwrite: overwrite, condition: condition, size: size)
    }

    func transfer(
        _ method: HTTPMethod, _ source: ObjectKey, to destination: ObjectKey, overwrite: Bool, condition: String?,
        size: Int = 0
    ) async throws(VFSError) {
        let path = source.endsWithSlash ? client.root.folderPath(source) : client.root.path(source)
        var request = WebDAVRequest(method, path, destination)
        let target =
            destination.endsWithSlash ? client.root.folderPath(destination) : client.root.path(destination)
        request.headers.append("Destination", client.root.url.origin + target)
        request.headers.append("Overwrite", overwrite ? "T" : "F")
        if let condition { request.headers.append("If", condition) }
        request.worksOn = size
        let response = try await client.send(request)
        // 207 tells what could not be moved.
        guard response.status == 201 || response.status == 204 else {
            throw WebDAVErrors.odd("an odd answer to \(method.rawValue)", response, wire: client.wire(request))
        }
    }

    func duplicate(_ entry: WebDAVEntry, to key: ObjectKey, condition: String?) async throws(VFSError) {
        try await transfer(.copy, entry.key, to: key, overwrite: true, condition: condition, size: entry.size)
    }

    /// One DELETE; absent counts as done.
    func remove(_ key: ObjectKey, condition: String?) async throws(VFSError) {
        let path = key.endsWithSlash ? client.root.folderPath(key) : client.root.path(key)
        var request = WebDAVRequest(.delete, path, key)
        if let condition { request.headers.append("If", condition) }
        do throws(VFSError) {
            let response = try await client.send(request)
            // A page with 200 is a portal's; WebDAV servers say 204, few of them 200 without a word.
            guard response.status == 204 || response.status == 200 && response.body.isEmpty else {
                throw WebDAVErrors.odd("an odd answer to DELETE", response, wire: client.wire(request))
            }
        } catch {
            guard error.code == .notFound else { throw error }
        }
    }

    /// Gives up what is staged after an error, unless the server may still be at work with it: then the sweep takes it.
    func discard(_ key: ObjectKey, after error: VFSError) async {
        if !error.leavesOpen { await discard(key) }
    }

    /// Gives up what is staged, whatever becomes of the task.
    func discard(_ key: ObjectKey) async {
        await Task { _ = try? await self.remove(key, condition: nil) }.value
    }
}

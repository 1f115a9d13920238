import CloudMountVFS

/// Ends what processes that have ended have left in the folder for unfinished things, beside the mount that has started.
///
/// Others may write into that folder too, whatever they like and any number of it. So one start does a little, and chance says of what: what
/// has to stay keeps nothing else from its turn.
struct WebDAVSweep: Sendable {
    private let dav: WebDAVFolder
    private let staged: [ObjectKey]
    private let asides: [(aside: ObjectKey, key: ObjectKey)]

    /// Of each kind, at one start.
    static let most = 50
    /// Unfinished files that are older, in seconds, are of a process that has ended.
    private static let life = 86_400

    /// What is there before the mount serves: what comes later may be its own.
    /// - Returns: nil when there is nothing to do, or the folder cannot be listed.
    init?(_ dav: WebDAVFolder, _ server: WebDAVServer) async {
        guard let there = try? await dav.client.children(of: dav.area)?.entries else { return nil }
        let now = dav.client.serverSeconds
        self.dav = dav
        // Folders of this name are of the probe.
        staged = there.filter { entry in dav.begun(entry.key).map { $0 < now - Self.life } ?? false }
            .shuffled().prefix(Self.most).map(\.ordered)
        asides =
            server.exclusiveMove
            ? Array(WebDAVAside(dav: dav).begun(there).shuffled().prefix(Self.most)) : []
        if staged.isEmpty, asides.isEmpty { return nil }
    }

    /// Returns early when its task is cancelled.
    func run() async {
        for key in staged {
            if Task.isCancelled { return }
            try? await dav.remove(key, condition: nil)
        }
        for (aside, key) in asides {
            if Task.isCancelled { return }
            try? await WebDAVAside(dav: dav).endBegun(aside, key)
        }
    }
}

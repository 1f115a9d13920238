/// How one mount keeps what it has learnt of its bucket: a named entry of `policies:` in `mounts.yaml`, resolved.
public struct CachePolicy: Sendable, Equatable {
    /// When an open or a lookup asks the store again.
    public enum Freshness: String, Sendable, CaseIterable {
        /// When `metadataTTL` has passed.
        case ttl
        /// Also at every `open`.
        case open
        /// At every lookup and open; nothing is kept.
        case always
    }

    /// Where file content may be kept.
    public enum Data: String, Sendable, CaseIterable {
        /// Nowhere: no read ahead, and the kernel's pages are dropped at each open.
        case off
        /// In memory: read ahead, and the kernel's pages are kept while the version is the same.
        case memory
        /// On local disk too: what was read or written once is not fetched again, also after a restart.
        case disk
    }

    /// What is said while the store cannot be reached.
    public enum Offline: String, Sendable, CaseIterable {
        /// What is known, past its time: names, attributes, complete listings, pages that the kernel has. An error for the
        /// rest.
        case serve
        /// An error, within the deadline.
        case fail
    }

    /// What becomes of a commit when somebody else has changed the object since it was opened.
    public enum OnConflict: String, Sendable, CaseIterable {
        /// Both versions are kept, ours under a name of its own.
        case keepBoth = "keep-both"
        /// The commit fails and the bytes stay staged.
        case fail
        /// Ours replaces whatever is there.
        case overwrite
    }

    /// When close and fsync return.
    public enum Write: String, Sendable, CaseIterable {
        /// When the store has the bytes.
        case through
        /// When local disk has the bytes and a record of them; they go up behind that.
        case back
    }

    /// What fsync waits for under `write: back`.
    public enum Sync: String, Sendable, CaseIterable {
        case local, store
    }

    /// Who says whether a name is free for O_EXCL.
    public enum ExclusiveCreate: String, Sendable, CaseIterable {
        /// The store under `write: through`, this mount under `write: back`.
        case auto
        /// The store, at create: of two machines one wins.
        case store
        /// This mount, by what it knows: no request is made for it.
        case local
    }

    /// How long names, attributes and listings are believed.
    public var metadataTTL: Duration = .seconds(60)
    /// How long a name that was not there is believed to be absent. Absence learnt from a complete listing lasts as long as
    /// the listing.
    public var negativeTTL: Duration = .seconds(10)
    public var freshness: Freshness = .ttl
    /// How soon what changes elsewhere in a directory that is in use is seen, whatever the other times say; zero: nobody looks.
    public var poll: Duration = .zero
    public var data: Data = .memory
    /// Bytes that `data: disk` keeps of one mount at most; 0: as many as the cache has room for.
    public var size = 0
    /// Most bytes in flight ahead of one sequential reader.
    public var prefetch: Int = 80 << 20
    /// No operation waits longer than this for the store without progress.
    public var deadline: Duration = .seconds(30)
    public var offline: Offline = .fail
    /// Changes of attributes alone go to the store at once. False: they stay in memory for the life of the mount, and go
    /// along when content is committed.
    public var durableAttributes = true
    public var onConflict: OnConflict = .keepBoth
    public var exclusiveCreate: ExclusiveCreate = .auto
    public var write: Write = .through
    /// How long a file that was closed or synced under `write: back` waits before it goes up.
    public var writeDelay: Duration = .seconds(1)
    public var sync: Sync = .local

    public var asksStoreForNames: Bool {
        switch exclusiveCreate {
        case .auto: write == .through
        case .store: true
        case .local: false
        }
    }

    public init() {}
}

import CloudMountCommit
import CloudMountVFS

/// What is known of a directory's names.
final class Directory {
    enum Marker {
        case unknown, absent, present
    }

    /// Whether objects here carry attributes that a listing does not show.
    enum Evidence {
        case unknown, absent, present
    }

    /// Changed by `put` and `take`, which count the directories among them.
    private(set) var children = NodeTable<FileName>()
    private(set) var subdirectories = 0
    /// A name that was not there, in monotonic nanoseconds.
    struct Absence {
        var since: UInt64
        /// Believed until then.
        var until: UInt64
    }
    private(set) var absent: [FileName: Absence] = [:]
    /// When there are so many, those whose time has passed go.
    private var tidyAbsentAt = 1024

    func setAbsent(_ name: FileName, _ absence: Absence?) {
        absent[name] = absence
        if absence != nil { saved?.noteChange(of: name) }
        guard absent.count >= tidyAbsentAt, let now = absence?.since else { return }
        absent = absent.filter { $0.value.until > now }
        // Programs may ask for any number of names that are not there.
        if absent.count > 1 << 16 { absent = [:] }
        tidyAbsentAt = max(1024, 2 * absent.count)
    }

    /// A listing says all that is there.
    func clearAbsent() { absent = [:] }

    /// Objects of the listing under way that have the name of a directory.
    var shadowed: [FileName: ObjectInfo] = [:]
    var marker = Marker.unknown
    /// The object that keeps the directory, as it was last seen, without its metadata. Its key has no slash in buckets of old tools.
    var markerObject: ObjectInfo? { didSet { markerObject?.metadata = nil } }
    /// The time of the last change of a name in it is not in the store.
    var hasUnstoredTime = false
    /// Made, emptied or changed here, in a store that keeps no folders.
    var isOnlyHere = false
    /// `children` was once all there is, and nothing but what is gone has left it since.
    var isWhole = false
    /// The last listing told all there is, and nothing has spoken against that since: what it lacks is absent also past its time, while the store
    /// cannot be reached.
    var tellsAbsence = false
    /// Monotonic nanoseconds until which `children` is all there is; 0: it is not known to be complete.
    var completeUntil: UInt64 = 0
    /// Monotonic nanoseconds when the store last said so.
    var completeSince: UInt64 = 0
    /// Monotonic nanoseconds when it was last listed or opened.
    var usedAt: UInt64 = 0
    /// Monotonic nanoseconds when somebody last looked in it, where the mount polls.
    var lookedInAt: UInt64 = 0
    /// Its nodes go as soon as the kernel forgets them.
    var isFading = false
    /// A listing under way.
    var listing: Listing?
    /// What its names take of the budget, while it is listed or open: nothing takes them away meanwhile.
    var room: NameRoom?
    /// Names that went while it is under way, and must not come back by it.
    var removed: Set<FileName> = []
    /// The listing under way has left out a name that is about to be given to something.
    var hasPassedOver = false
    /// The names that nodes have come under since the end of the listing under way is being worked in.
    var arrived: [FileName]?
    /// Counts listings.
    var generation: UInt32 = 1
    /// Lookups that had to ask the store since the last listing.
    var misses = 0
    var tooLongToList = false
    /// What an earlier process knew of its names, until somebody asks in it.
    var saved: SavedDirectory?
    /// Who opens one subdirectory after the other.
    var walk: Walk?
    var evidence = Evidence.unknown
    /// Objects whose metadata was looked at without finding any, while the evidence is unknown.
    var emptySamples = 0

    /// What streams read who began since the last change of the names.
    private weak var told: Listing?

    /// All names there are, one list for all who read them.
    func names(_ held: HeldNames) throws(VFSError) -> Listing {
        if let told { return told }
        try held.requireRoom()
        let listing = Listing(complete: children.map(\.name), held)
        told = listing
        return listing
    }

    /// Takes `node` in under its name, in the place of any other.
    func put(_ node: Node) {
        if let old = children[node.name], old.kind == .directory { subdirectories -= 1 }
        children[node.name] = node
        saved?.noteChange(of: node.name)
        arrived?.append(node.name)
        told = nil
        if node.kind == .directory { subdirectories += 1 }
    }

    func take(_ node: Node) {
        guard children[node.name] === node else { return }
        children[node.name] = nil
        saved?.noteChange(of: node.name)
        told = nil
        if node.kind == .directory { subdirectories -= 1 }
    }

    /// It is not known any more whether there are other names.
    func distrust() {
        completeUntil = 0
        tellsAbsence = false
        saved?.isBelieved = false
        // Nor by what is listed at this moment.
        if listing != nil { hasPassedOver = true }
    }
}

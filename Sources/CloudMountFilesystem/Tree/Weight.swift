import CloudMountCommit
import CloudMountVFS

/// What the store says of a file beyond what stat(2) shows takes memory by the store's leave: extended attributes, metadata of
/// other tools, the targets of links. Where all of it together is too much, files that nobody uses let go of theirs; whoever wants
/// it again asks the store.
extension Node {
    /// Bytes that this node takes beyond what each takes, more or less.
    var weight: Int { sheddable + (name.string.utf8.count > 15 ? name.string.utf8.count : 0) + tagWeight }

    /// Bytes of it that the store can be asked for again.
    var sheddable: Int { details?.weight ?? 0 }

    /// Of the metadata of the version that the next commit replaces.
    var unseen: Unseen? { version == nil || isKnownInFull ? nil : isKnown ? .details : .all }

    /// Nothing that the store could say of it is missing.
    var isDescribedInFull: Bool { isKnownInFull || version == nil && kind != .directory || isOrphan }

    /// Nobody uses it, and the store has what is let go of.
    var canShed: Bool {
        directory == nil && isKnown && version != nil && openCount == 0 && borrows == 0 && !isHeld && !keepsAttributes
            && !isOrphan && !isPlaceholder && !isBeingMade
    }

    /// Lets go of what stat(2) does not show.
    func shed() {
        guard let details else { return }
        lacksDetails = true
        var rest = StoredAttributes()
        (rest.device, rest.accessed, rest.born) = (details.device, details.accessed, details.born)
        self.details = rest == StoredAttributes() ? nil : rest
    }

    /// Has again what it has let go of, as the store says of the same version. What was done to it here meanwhile stays.
    func regain(_ attributes: StoredAttributes) {
        var full = attributes
        full.accessed = details?.accessed ?? attributes.accessed
        details = full
        lacksDetails = false
    }
}

extension StoredAttributes {
    /// Bytes of its texts and lists, more or less.
    fileprivate var weight: Int {
        var sum = (symlinkTarget?.utf8.count ?? 0) + (contentType?.utf8.count ?? 0)
        for (name, value) in xattrs { sum += Self.entry + name.utf8.count + value.count }
        for (name, value) in foreign { sum += Self.entry + name.utf8.count + value.utf8.count }
        for (name, value) in headers { sum += Self.entry + name.utf8.count + value.utf8.count }
        return sum
    }

    /// A place in a dictionary, and two allocations.
    private static var entry: Int { 96 }
}

/// Counts what nodes take beyond what each takes. Inside the tree's lock.
struct WeightCount {
    /// Bytes that have come since all was last counted; what has gone since is not known.
    private var added = 0
    /// Fewer nodes than the settings say, where even what cannot be let go of is too much.
    private(set) var mostNodes = Int.max
    private(set) var isShedding = false
    /// What had come when the shedding began.
    private var before = 0

    mutating func add(_ node: Node) { added += node.weight }

    /// A quarter of what there may be has come: time to count.
    func isDue(_ most: Int) -> Bool { added > most / 4 }

    mutating func beginShedding() {
        isShedding = true
        before = added
    }

    /// All has been counted that had come when the shedding began. What has come since is not forgotten.
    mutating func endShedding(_ weight: Int, nodes: Int, most: Int) {
        isShedding = false
        added -= before
        mostNodes = weight > most ? max(1000, Int(Double(nodes) * Double(most) / Double(weight))) : .max
    }
}

/// What all nodes take beyond what each takes.
enum NodeWeight {
    /// In bytes; added up piece by piece, so that nobody waits long for the lock. What comes and goes meanwhile may be counted or not.
    static func sum(in tree: Tree) -> Int {
        var (sum, position) = (0, Int?.some(0))
        while let from = position {
            let part: Int
            (part, position) = tree.withNames { names in
                let (nodes, next) = names.all.slice(from: from)
                return (nodes.reduce(0) { $0 + $1.weight }, next)
            }
            sum += part
        }
        return sum
    }
}

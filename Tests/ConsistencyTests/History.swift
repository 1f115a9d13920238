import CloudMountFilesystem
import MountHarness
import Synchronization

/// What the actors asked for, with the ledger's clock. The check at the end holds the ledger against it.
struct History: Sendable {
    struct Write: Sendable {
        var handle: Int
        var life: Int
        var inode: InodeID
        var path: String
        var offset: Int
        var count: Int
        var begin: Int
        var end: Int = .max
        var isAcknowledged = false
        var isDone = false
    }

    /// A handle that a program of the mount had open.
    struct Handle: Sendable {
        var path: String
        var isExclusive: Bool
        var opened: Int
        /// When its first read or write had ended: from then on it has a version.
        var bound: Int = .max
        /// Foreign versions whose bytes it has read.
        var foreign: Set<UInt32> = []
    }

    /// Bytes of a file that somebody has cut off.
    struct Cut: Sendable {
        var life: Int
        var inode: InodeID?
        var path: String
        var size: Int
        var begin: Int
        var end: Int = .max
    }

    /// That the caller wants something of a name, and thereby, perhaps, the loss of what it shows.
    struct Intent: Sendable {
        enum Kind: Sendable, Equatable {
            /// Bytes, length or attributes of a file that was opened, or found, at `path`.
            case change(exclusive: Bool)
            case unlink
            case rmdir
            case rename(to: String, noReplace: Bool)
        }
        var kind: Kind
        var path: String
        /// When the program began to look its names up: folders may have been renamed between two of them.
        var found: Int
        var begin: Int
        var end: Int = .max
    }

    var writes: [Block.Key: Write] = [:]
    var handles: [Handle] = []
    var cuts: [Cut] = []
    var intents: [Intent] = []
    /// When each content of the other client was first visible.
    var foreignPuts: [UInt32: Int] = [:]
    /// When each life was told to end: with a drain, or by a crash.
    var drained: [Int: Int] = [:]
    var crashed: Set<Int> = []
    /// What was called and what came of it, for a person who repeats a seed.
    var log: [String] = []
    var violations: [String: (count: Int, example: String)] = [:]

    mutating func violate(_ kind: String, _ example: String) {
        violations[kind, default: (0, example)].count += 1
    }

    func names(of intent: Intent) -> Set<String> { names(of: intent.path, since: intent.found) }

    /// The names that a file found at `path` at `time` can have had since.
    func names(of path: String, since time: Int) -> Set<String> {
        var found: Set<String> = [path]
        var open = [path]
        while let name = open.popLast(), found.count < 200 {
            for intent in intents where intent.end >= time {
                guard case .rename(let to, _) = intent.kind else { continue }
                let new: String
                if name == intent.path {
                    new = to
                } else if name.hasPrefix(intent.path + "/") {
                    new = to + name.dropFirst(intent.path.count)
                } else {
                    continue
                }
                if new.count < 40, found.insert(new).inserted { open.append(new) }
            }
        }
        return found
    }
}

extension Block {
    /// Names one write.
    struct Key: Hashable, Sendable {
        var writer: UInt16
        var number: UInt32
    }
    var key: Key { Key(writer: writer, number: number) }
}

func isAtOrBelow(_ key: String, _ path: String) -> Bool { key == path || key.hasPrefix(path + "/") }

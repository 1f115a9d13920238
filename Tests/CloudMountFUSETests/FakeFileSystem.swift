import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import Synchronization

/// A small file system in memory that counts what it is asked.
///
/// A file named `pending` is never read to the end, until its reader is interrupted; reading one named `dropped` drops the reply.
final class FakeFileSystem: Sendable {
    struct Node {
        var attributes: FileAttributes
        var bytes: [UInt8] = []
        var children: [FileName: InodeID] = [:]
        var target = ""
        var extended: [String: [UInt8]] = [:]
        var special = ""
        var lookups = 0
    }

    struct State {
        var nodes: [InodeID: Node] = [:]
        var nextInode: InodeID = 2
        var openHandles = 0
        var counts: [String: Int] = [:]
        var calls: [String] = []
    }

    let state: Mutex<State>
    /// Holds the thread that looks `stuck` up until it is signalled.
    let stuck = CloudMountPlatform.Semaphore()
    /// Answers that the test itself will give.
    let held = Mutex<[@Sendable () -> Void]>([])

    func answerHeld() {
        let answers = held.withLock { held in
            defer { held = [] }
            return held
        }
        for answer in answers { answer() }
    }
    let validFor: Duration
    let bytesPerSlice: Int

    static let born = Timestamp(seconds: 1_000_000_000, nanoseconds: 123_456_789)

    init(validFor: Duration = .seconds(3600), bytesPerSlice: Int = 50000) {
        self.bytesPerSlice = bytesPerSlice
        self.validFor = validFor
        var root = Node(attributes: Self.attributes(1, .directory, 0o755))
        root.attributes.linkCount = 2
        state = Mutex(State(nodes: [1: root]))
    }

    static func attributes(_ inode: InodeID, _ kind: FileKind, _ permissions: UInt32) -> FileAttributes {
        let time = Timestamp(seconds: 1_500_000_000, nanoseconds: 7)
        return FileAttributes(
            inode: inode, kind: kind, permissions: permissions, uid: 0, gid: 0, size: 0, accessed: time, modified: time,
            changed: time, born: born)
    }

    /// Makes a node without the kernel's knowing.
    @discardableResult
    func make(
        _ name: String, in parent: InodeID = 1, kind: FileKind = .regular, permissions: UInt32 = 0o644,
        bytes: [UInt8] = []
    ) throws -> InodeID {
        let name = try FileName(validating: name.utf8)
        return state.withLock { state in
            let inode = state.add(name, in: parent, kind: kind, permissions: permissions)
            state.nodes[inode]?.bytes = bytes
            state.nodes[inode]?.attributes.size = bytes.count
            if ["pending", "dropped", "held read", "held open"].contains(name.string) {
                state.nodes[inode]?.special = name.string
            }
            return inode
        }
    }

    func change(_ inode: InodeID, _ body: (inout Node) -> Void) {
        state.withLock { state in
            guard var node = state.nodes[inode] else { return }
            body(&node)
            node.attributes.size = node.bytes.count
            state.nodes[inode] = node
        }
    }

    func node(_ inode: InodeID) -> Node? { state.withLock { $0.nodes[inode] } }

    func node(named name: String) -> Node? {
        state.withLock { state in
            state.nodes[1]?.children.first { $0.key.string == name }.flatMap { state.nodes[$0.value] }
        }
    }

    /// How often `operation` was asked for.
    func count(_ operation: String) -> Int { state.withLock { $0.counts[operation] ?? 0 } }

    func forgetCounts() {
        state.withLock { state in
            state.counts = [:]
            state.calls = []
        }
    }

    var openHandles: Int { state.withLock { $0.openHandles } }

    func note(_ operation: String, _ detail: String = "") {
        state.withLock { state in
            state.counts[operation, default: 0] += 1
            state.calls.append(detail.isEmpty ? operation : "\(operation) \(detail)")
        }
    }
}

extension FakeFileSystem.State {
    mutating func add(_ name: FileName, in parent: InodeID, kind: FileKind, permissions: UInt32) -> InodeID {
        let inode = nextInode
        nextInode += 1
        nodes[inode] = FakeFileSystem.Node(attributes: FakeFileSystem.attributes(inode, kind, permissions))
        nodes[parent]?.children[name] = inode
        return inode
    }
}

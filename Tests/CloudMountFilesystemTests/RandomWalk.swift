import CloudMountFilesystem
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import MemoryProvider
import MountHarness
import TestSeeds
import Testing

/// Random operations on a mount and on the reference, each compared at once.
final class RandomWalk {
    struct OpenHandle {
        var node: ReferenceNode
        var inode: InodeID
        var handle: HandleID
        var canWrite: Bool
    }

    struct Mismatch: Error, CustomStringConvertible {
        var description: String
    }

    static let names = ["a", "b", "c", "d e", "ä", "a\u{308}"]

    let mount: TestMount
    var reference = Reference()
    var random: SeededGenerator
    /// Sizes that writes and truncations reach.
    let span: Int
    var handles: [OpenHandle] = []
    var log: [String] = []
    var lookups: [(InodeID, UInt64)] = []
    let keepsDirectoryAttributes: Bool
    let keepsChangedAttributes: Bool
    /// Names that a foreign tool may have written.
    var external = 0
    let allowsExternal: Bool

    init(_ mount: TestMount, seed: UInt64, span: Int) {
        self.mount = mount
        self.span = span
        random = SeededGenerator(seed: seed)
        let capabilities = mount.store.capabilities
        reference.canRenameStored = capabilities.serverCopy
        keepsDirectoryAttributes = capabilities.folderObjects
        keepsChangedAttributes = true
        allowsExternal = mount.settings.policy.freshness == .always
    }

    var fs: MountedBucket { mount.fs }

    func pick<Element>(_ elements: [Element]) -> Element {
        elements[Int.random(in: 0..<elements.count, using: &random)]
    }
    func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
    func offset() -> Int { number(0...3) == 0 ? number(0...span) : number(0...span / 4) }
    func bytes() -> [UInt8] {
        pattern(number(0...5) == 0 ? number(1...span / 2) : number(1...3000), seed: random.next())
    }

    /// A directory of the tree, with its path.
    func directory() -> [String] {
        var path: [String] = []
        var node = reference.root
        while path.count < 3, number(0...2) != 0 {
            let below = node.children.filter { $0.value.kind == .directory }.keys.sorted {
                $0.utf8.lexicographicallyPrecedes($1.utf8)
            }
            guard !below.isEmpty else { break }
            let name = pick(below)
            path.append(name)
            guard let next = node.children[name] else { break }
            node = next
        }
        return path
    }

    /// The inode at a path of directories, found as the kernel finds it.
    func inode(_ path: [String]) async throws -> InodeID {
        var inode = TestMount.root
        for name in path {
            guard let found = try await fs.lookup(inode, name) else {
                throw Mismatch(description: "\(path) is not there")
            }
            inode = found.inode
            lookups.append((inode, 1))
        }
        return inode
    }

    /// Compares how the two ended.
    func agree<Value, Expected>(
        _ what: String, _ real: Result<Value, VFSError>, _ expected: Result<Expected, VFSError>
    ) throws {
        switch (real, expected) {
        case (.success, .success): log.append(what)
        case (.failure(let error), .failure(let other)) where error.code == other.code:
            log.append("\(what): \(error.code)")
        case (.failure(let error), .failure(let other)):
            throw Mismatch(description: "\(what) failed with \(error), not \(other.code)")
        case (.failure(let error), .success): throw Mismatch(description: "\(what) failed with \(error)")
        case (.success, .failure(let error)): throw Mismatch(description: "\(what) should have failed: \(error.code)")
        }
    }

    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
        if !condition { throw Mismatch(description: message()) }
    }

    func run(steps: Int) async throws {
        for index in 0..<steps {
            do {
                try await step()
                if index % 97 == 96 { try await remount() }
            } catch {
                let tail = log.suffix(40).joined(separator: "\n  ")
                throw Mismatch(description: "step \(index): \(error)\nafter\n  \(tail)")
            }
        }
        try await remount()
        try await removeEverything()
    }

    // MARK: The whole

    /// Closes all, forgets all, and compares all with what a new file system finds in the bucket.
    func remount() async throws {
        for open in handles { try await close(open) }
        handles = []
        forget(all: true)
        await fs.drain()
        let statistics = fs.statistics()
        try require(statistics.dirtyFiles == 0, "dirty files after all were closed: \(statistics)")
        try require(statistics.openFiles == 0, "open files after all were closed: \(statistics)")
        await settled { mount.memoryUsed == 0 && mount.staging.used == 0 }
        try require(mount.memoryUsed == 0, "\(mount.memoryUsed) bytes of pooled memory are still used")
        try require(mount.staging.used == 0, "\(mount.staging.used) bytes are still staged")
        log.append("remount")
        mount.remount()
        try await compare(reference.root, TestMount.root, "", depth: 0)
    }

    func compare(_ node: ReferenceNode, _ inode: InodeID, _ path: String, depth: Int) async throws {
        let plus = number(0...1) == 0
        let entries = try await fs.list(inode, plus: plus, capacity: number(3...50))
        let names = Set(entries.map { FileNameBytes($0.name) })
        let expected = Set(node.children.keys.map { FileNameBytes($0) })
        try require(
            names == expected && entries.count == names.count,
            "\(path)/ lists \(entries.map(\.name).sorted()) and should \(node.children.keys.sorted())")
        for entry in entries {
            guard let child = node.children[entry.name] else { continue }
            let below = path + "/" + entry.name
            if let kind = entry.kind, kind != child.kind {
                throw Mismatch(description: "\(below) is listed as \(kind), not \(child.kind)")
            }
            if let attributes = entry.attributes { try check(attributes, child, below + " (listed)") }
            guard let found = try await fs.lookup(inode, entry.name) else {
                throw Mismatch(description: "\(below) is listed and not found")
            }
            try check(found, child, below)
            try require(found.inode == entry.inode, "\(below) changed its inode")
            try await checkContent(found.inode, child, below)
            if child.kind == .directory { try await compare(child, found.inode, below, depth: depth + 1) }
            fs.forget(found.inode, count: 1)
        }
        for name in Self.names where node.children[name] == nil {
            try require(try await fs.lookup(inode, name) == nil, "\(path)/\(name) is found and should not")
        }
    }

    func check(_ attributes: FileAttributes, _ node: ReferenceNode, _ path: String) throws {
        try require(attributes.kind == node.kind, "\(path) is a \(attributes.kind), not \(node.kind)")
        if node.kind == .regular {
            try require(
                attributes.size == node.bytes.count, "\(path) has \(attributes.size) bytes, not \(node.bytes.count)")
        }
        if node.kind == .directory, !keepsDirectoryAttributes { return }
        try require(
            attributes.permissions == node.permissions,
            "\(path) has mode \(String(attributes.permissions, radix: 8)), not \(String(node.permissions, radix: 8))")
        try require(attributes.uid == node.uid && attributes.gid == node.gid, "\(path) has the wrong owner")
        if let modified = node.modified {
            try require(attributes.modified == modified, "\(path) has mtime \(attributes.modified), not \(modified)")
        }
    }

    func checkContent(_ inode: InodeID, _ node: ReferenceNode, _ path: String) async throws {
        switch node.kind {
        case .regular:
            let handle = try await fs.open(inode)
            let bytes = try await readAll(inode, handle, node.bytes.count)
            try await fs.close(inode, handle)
            try require(bytes == node.bytes, "\(path) has other bytes: \(difference(bytes, node.bytes))")
        case .symbolicLink:
            try require(try await fs.readlink(inode) == node.target, "\(path) leads elsewhere")
        default: break
        }
        if node.kind == .directory, !keepsDirectoryAttributes { return }
        let names = try await fs.listxattr(inode)
        try require(names == node.xattrs.keys.sorted(), "\(path) has xattrs \(names)")
        for (name, value) in node.xattrs {
            try require(try await fs.getxattr(inode, name) == value, "\(path) has another \(name)")
        }
    }

    func readAll(_ inode: InodeID, _ handle: HandleID, _ expected: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let some = try await fs.read(inode, handle, bytes.count, number(0...1) == 0 ? 4096 : 128 << 10)
            if some.isEmpty { return bytes }
            bytes += some
        }
    }

    func difference(_ bytes: [UInt8], _ expected: [UInt8]) -> String {
        let first = zip(bytes, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset
        return
            "\(bytes.count) of \(expected.count) bytes, the first difference at \(first ?? min(bytes.count, expected.count))"
    }

    func forget(all: Bool) {
        if !all, number(0...3) != 0 { return }
        for (inode, count) in lookups { fs.forget(inode, count: count) }
        lookups = []
    }

    /// Takes the whole tree down: what is left in the bucket afterwards has leaked.
    func removeEverything() async throws {
        func empty(_ inode: InodeID) async throws {
            for entry in try await fs.list(inode) {
                if entry.kind == .directory {
                    guard let found = try await fs.lookup(inode, entry.name) else { continue }
                    try await empty(found.inode)
                    try await fs.rmdir(inode, entry.name)
                } else {
                    try await fs.unlink(inode, entry.name)
                }
            }
        }
        try await empty(TestMount.root)
        let left = try await mount.keys()
        try require(left.isEmpty, "left in the bucket: \(left)")
    }
}

/// A name compared by its bytes.
struct FileNameBytes: Hashable {
    let bytes: [UInt8]
    init(_ name: String) { bytes = Array(name.utf8) }
}

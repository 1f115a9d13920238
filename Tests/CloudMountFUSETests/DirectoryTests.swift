import CloudMountFilesystem
import CloudMountVFS
import Glibc
import Synchronization
import Testing

@testable import CloudMountFUSE

@Suite("Directories through a mount")
struct DirectoryTests {
    @Test("ls names every entry of a large directory once, in order, with its type")
    func names() async throws {
        let files = FakeFileSystem()
        let names = (0..<3000).map { "entry \($0) " + String(repeating: "x", count: $0 % 200) }.sorted()
        for (index, name) in names.enumerated() {
            try files.make(name, kind: index % 10 == 0 ? .directory : .regular)
        }
        try await TestMount.use(files) { mount in
            let listed = try await output(of: "LC_ALL=C ls -f . | tail -n +3", in: mount)
            #expect(listed.split(separator: "\n").map(String.init) == names)
            let directories = try await output(of: "find . -mindepth 1 -type d | wc -l", in: mount)
            #expect(directories == "300")
        }
    }

    @Test("With attributes given there is no lookup; without, the kernel looks the name up when it needs them")
    func plus() async throws {
        let files = FakeFileSystem()
        for index in 0..<90 { try files.make("entry\(index)", bytes: [UInt8](repeating: 0, count: index)) }
        try await TestMount.use(files) { mount in
            let text = try await output(of: "ls -l | awk '{ sum += $5 } END { print sum }'", in: mount)
            #expect(text == "\(89 * 90 / 2)")
            #expect(files.count("readdirplus") > 0)
            // The fake gives attributes of two in three.
            #expect(files.count("lookup") == 30)
            #expect(files.count("getxattr") <= 90)
        }
    }

    @Test("What the kernel was given is forgotten in the end, as often as it was given")
    func forgets() async throws {
        let files = FakeFileSystem(validFor: .zero)
        for index in 0..<50 { try files.make("entry\(index)") }
        try await TestMount.use(files) { mount in
            _ = try await output(of: "ls -l > /dev/null; ls -l > /dev/null; rm entry*", in: mount)
            for _ in 0..<500 where files.looked != 0 { try await Task.sleep(for: .milliseconds(10)) }
            #expect(files.looked == 0)
        }
    }

    @Test("fsync of a directory reaches the file system")
    func sync() async throws {
        let files = FakeFileSystem()
        try await TestMount.use(files) { mount in
            _ = try await output(of: "python3 -c 'import os; os.fsync(os.open(\".\", os.O_RDONLY))'", in: mount)
            #expect(files.count("fsyncdir") == 1)
        }
    }

    @Test("An invalidated name or inode is asked for again, and its pages are read again")
    func invalidation() async throws {
        let files = FakeFileSystem()
        let inode = try files.make("file", bytes: Array("old".utf8))
        let name = try FileName(validating: "file".utf8)
        try await TestMount.use(files) { mount in
            // The kernel may drop a page whenever it likes, so once is enough.
            var round = 100
            try await eventually {
                round += 1
                files.change(inode) { $0.bytes = Array("\(round)".utf8) }
                mount.mount.notifier.invalidateInode(inode, extent: Extent(0, .max))
                try await eventually { try await output(of: "cat file", in: mount) == "\(round)" }
                files.change(inode) { $0.bytes = Array("new".utf8) }
                return try await output(of: "cat file", in: mount) == "\(round)"
            }
            mount.mount.notifier.invalidateInode(inode, extent: Extent(0, .max))
            try await eventually { try await output(of: "cat file", in: mount) == "new" }

            files.change(inode) { $0.bytes = Array("newest".utf8) }
            #expect(try await output(of: "stat -c %s file", in: mount) == "3")
            mount.mount.notifier.invalidateInode(inode, extent: nil)
            try await eventually { try await output(of: "stat -c %s file", in: mount) == "6" }

            files.state.withLock { $0.nodes[1]?.children[name] = nil }
            #expect(try await output(of: "stat -c %n file", in: mount) == "file")
            mount.mount.notifier.invalidateEntry(parent: 1, name: name)
            try await eventually { try await Child.shell("stat \(mount.path)/file").status == 1 }
        }
    }
}

extension FakeFileSystem {
    /// Lookups that were not forgotten, of all but the root.
    fileprivate var looked: Int { state.withLock { $0.nodes.values.reduce(0) { $0 + $1.lookups } } }
}

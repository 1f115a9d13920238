import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS
import MountHarness
import Synchronization
import Testing

@Suite("Nodes in memory")
struct SweepTests {
    /// Forgets what it is told to, as the kernel does with what nobody has open.
    private final class Kernel: KernelNotifier {
        let known = Mutex<[String: (inode: InodeID, lookups: UInt64)]>([:])
        let forget: @Sendable (InodeID, UInt64) -> Void

        init(_ forget: @escaping @Sendable (InodeID, UInt64) -> Void) { self.forget = forget }

        func saw(_ parent: InodeID, _ entry: ListedEntry) {
            guard entry.attributes != nil else { return }
            known.withLock { known in
                let lookups = (known["\(parent)/\(entry.name)"]?.lookups ?? 0) + 1
                known["\(parent)/\(entry.name)"] = (entry.inode, lookups)
            }
        }

        func invalidateEntry(parent: InodeID, name: FileName) {
            if let gone = known.withLock({ $0.removeValue(forKey: "\(parent)/\(name)") }) {
                forget(gone.inode, gone.lookups)
            }
        }

        func invalidateInode(_ inode: InodeID, extent: Extent?) {}
        func expireEntry(parent: InodeID, name: FileName, isDirectory: Bool) {}
        func expireAttributes(_ inode: InodeID) {}
    }

    @Test("A walk over many directories leaves no more in memory than it may, and inodes come back the same")
    func walk() async throws {
        let mount = try TestMount { $0.mostNodes = 1000 }
        let kernel = Kernel { [weak mount] in mount?.fs.forget($0, count: $1) }
        mount.fs.attach(kernel)
        for directory in 0..<40 {
            for file in 0..<100 { try await mount.put("d\(directory)/f\(file)", [1]) }
        }
        for directory in 0..<4 {
            for file in 0..<300 { try await mount.put("new\(directory)/f\(file)", [1]) }
        }
        var first: [String: InodeID] = [:]
        func walk() async throws {
            for directory in 0..<40 {
                let inode = try await mount.inode("d\(directory)")
                let names = try await mount.fs.list(inode)
                #expect(names.count == 100)
                for entry in names {
                    kernel.saw(inode, entry)
                    guard entry.name.hasPrefix("f") else { continue }
                    let path = "d\(directory)/\(entry.name)"
                    #expect(first[path] ?? entry.inode == entry.inode)
                    first[path] = entry.inode
                }
            }
        }
        try await walk()
        // What was used a moment ago stays.
        #expect(mount.fs.statistics().inodes > 4000)
        mount.time.advance(.milliseconds(3500))
        let (inode, handle) = try await mount.fs.create(TestMount.root, "unsaved")
        for directory in 0..<4 {
            _ = try await mount.fs.list(try await mount.inode("new\(directory)"))
        }
        await settled { mount.fs.statistics().inodes < 2500 }
        #expect(mount.fs.statistics().inodes < 2500)
        // Written by a handle that is open all the while.
        try await mount.fs.write(inode, handle, 0, [7])
        try await mount.fs.close(inode, handle)
        #expect(try await mount.object("unsaved") == [7])
        try await walk()
    }
}

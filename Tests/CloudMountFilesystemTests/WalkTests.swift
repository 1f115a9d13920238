import CloudMountLayers
import CloudMountVFS
import MountHarness
import Testing

@testable import CloudMountFilesystem

@Suite("Walks through a tree")
struct WalkTests {
    private func names(_ range: Range<Int>) -> [FileName] {
        range.map { FileName(unchecked: "d" + String(1000 + $0)) }
    }

    @Test("What lies ahead of a walker is listed, twice as far with each step, and nothing twice")
    func grows() {
        var walk = Walk(names(0..<100).shuffled(), generation: 1)
        let all = names(0..<100)
        var listed: [FileName] = []
        var widths: [Int] = []
        for (index, name) in all.enumerated() {
            let ahead = walk.opened(name)
            listed += ahead
            widths.append(listed.last.flatMap { all.firstIndex(of: $0) }.map { $0 - index } ?? 0)
        }
        #expect(widths.prefix(6) == [0, 2, 4, 8, 16, 16])
        #expect(widths.max() == Walk.widest)
        #expect(listed == Array(all[2...]))
    }

    @Test("To open one directory or another is no walk")
    func jumps() {
        var walk = Walk(names(0..<100), generation: 1)
        for index in [50, 10, 90, 30, 30, 29, 70] {
            #expect(walk.opened(names(0..<100)[index]).isEmpty)
        }
        #expect(walk.opened(FileName(unchecked: "unknown")).isEmpty)
    }

    @Test("A walker that leaves some out is still one; one that turns back begins anew")
    func skips() {
        let all = names(0..<100)
        var walk = Walk(all, generation: 1)
        #expect(walk.opened(all[0]).isEmpty)
        #expect(walk.opened(all[3]) == all[4..<6])
        #expect(walk.opened(all[4]) == all[6..<9])
        #expect(walk.opened(all[1]).isEmpty)
        #expect(walk.opened(all[2]) == all[3..<5])
    }

    @Test("The last directory has nothing ahead")
    func ends() {
        let all = names(0..<3)
        var walk = Walk(all, generation: 1)
        #expect(walk.opened(all[0]).isEmpty)
        #expect(walk.opened(all[1]) == all[2...])
        #expect(walk.opened(all[2]).isEmpty)
        var none = Walk([], generation: 1)
        #expect(none.opened(all[0]).isEmpty)
    }

    @Test("A walk through a bucket lists every directory once, and those ahead before they are opened")
    func lists() async throws {
        let mount = try TestMount()
        let directories = (0..<30).map { "t/d" + String(100 + $0) + "/" }
        for directory in directories { try await mount.put(directory + "f", [1]) }
        let top = try await mount.inode("t")
        let entries = try await mount.fs.list(top)
        #expect(entries.count == directories.count)
        mount.traffic.reset()
        var seen = 0
        for entry in entries.sorted(by: { $0.name < $1.name }) {
            #expect(try await mount.fs.list(entry.inode).map(\.name) == ["f"])
            seen += 1
            if seen == 8 {
                await settled { mount.traffic.keys(.list).count >= 8 + Walk.widest }
                #expect(mount.traffic.keys(.list).count == 8 + Walk.widest)
            }
        }
        #expect(mount.traffic.keys(.list).sorted() == directories)
    }

    @Test("Nothing is listed ahead where listings are not believed")
    func untrusted() async throws {
        let mount = try TestMount { $0.policy.metadataTTL = .zero }
        for index in 0..<10 { try await mount.put("d\(index)/f", [1]) }
        let entries = try await mount.fs.list(TestMount.root)
        mount.traffic.reset()
        for entry in entries.prefix(5) { _ = try await mount.fs.list(entry.inode) }
        #expect(Set(mount.traffic.keys(.list)).count == 5)
    }
}

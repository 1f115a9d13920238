import CloudMountVFS
import TestSeeds
import Testing

@testable import CloudMountFilesystem

@Suite("Nodes, packed and found")
struct NodeTableTests {
    private func node(_ id: InodeID, _ name: String = "f") -> Node {
        Node(
            id: id, parent: 1, name: FileName(unchecked: name), kind: .regular, permissions: 0o644, uid: 1, gid: 2,
            time: Timestamp(seconds: 5))
    }

    @Test(
        "A table agrees with a dictionary under random changes",
        arguments: seeds(50, "NodeTable"))
    func random(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var table = NodeTable<InodeID>()
        var model: [InodeID: Node] = [:]
        let range: ClosedRange<InodeID> = 1...InodeID.random(in: 1...500, using: &generator)
        for step in 0..<2000 {
            let id = InodeID.random(in: range, using: &generator)
            // Times of growth, times of decline.
            let made = Int.random(in: 0..<10, using: &generator) < (step / 500 % 2 == 0 ? 7 : 2) ? node(id) : nil
            table[id] = made
            model[id] = made
            let other = InodeID.random(in: range, using: &generator)
            #expect(table[other] === model[other], "seed \(seed), step \(step)")
        }
        #expect(table.count == model.count && table.isEmpty == model.isEmpty)
        #expect(Set(table.map(\.id)) == Set(model.keys) && table.map(\.id).count == model.count, "seed \(seed)")
    }

    @Test("A table that nobody changes is gone through slice by slice, each node once, and tells when places change")
    func slices() {
        var table = NodeTable<InodeID>()
        for id in 1...10_000 as ClosedRange<InodeID> { table[id] = node(id) }
        let layout = table.layout
        var (found, position, slices) = ([InodeID](), Int?.some(0), 0)
        while let from = position {
            let (nodes, next) = table.slice(from: from)
            #expect(nodes.count <= NodeTable<InodeID>.slice)
            found += nodes.map(\.id)
            (position, slices) = (next, slices + 1)
        }
        #expect(found.count == 10_000 && Set(found).count == 10_000 && slices > 4 && !table.isShort)
        #expect(table.layout == layout)
        for id in 1...10_000 as ClosedRange<InodeID> { table[id] = nil }
        #expect(table.layout > layout && table.slice(from: 0).next == nil)
    }

    @Test("What has come while others were let go of makes that due once more")
    func weights() {
        var weights = WeightCount()
        let heavy = node(1, String(repeating: "x", count: 200))
        weights.add(heavy)
        #expect(weights.isDue(400))
        weights.beginShedding()
        weights.add(heavy)
        weights.endShedding(0, nodes: 2, most: 400)
        #expect(weights.isDue(400) && !weights.isShedding)
        weights.beginShedding()
        weights.endShedding(0, nodes: 2, most: 400)
        #expect(!weights.isDue(400))
    }

    @Test("Names are found by their bytes")
    func names() {
        var table = NodeTable<FileName>()
        for index in 0..<1000 { table[FileName(unchecked: "n\(index)")] = node(InodeID(index), "n\(index)") }
        table[FileName(unchecked: "e\u{301}")] = node(2000, "e\u{301}")
        #expect(table.count == 1001)
        #expect(table[FileName(unchecked: "n123")]?.id == 123 && table[FileName(unchecked: "n1000")] == nil)
        #expect(table[FileName(unchecked: "\u{e9}")] == nil && table[FileName(unchecked: "e\u{301}")]?.id == 2000)
    }

    @Test("What is packed comes out as it went in")
    func packed() {
        let node = node(7)
        for flag in [\Node.isKnown, \.keepsAttributes, \.kernelIsBehind, \.isCached, \.isToReplace] {
            node[keyPath: flag] = true
            #expect(node[keyPath: flag] && node.defaulted == [])
            node[keyPath: flag] = false
            #expect(!node[keyPath: flag])
        }
        for defaulted: Node.Defaulted in [[], .permissions, .uid, .gid, .all] {
            node.defaulted = defaulted
            #expect(node.defaulted == defaulted && !node.isCached && !node.isToReplace)
        }
        for kind in [FileKind.fifo, .characterDevice, .blockDevice, .regular, .symbolicLink, .socket, .directory] {
            node.kind = kind
            node.permissions = 0o7755
            #expect(node.kind == kind && node.permissions == 0o7755)
        }
        for count: UInt64 in [0, 1, 1 << 32 - 1, 1 << 32, 1 << 40, 3] {
            node.lookups = count
            #expect(node.lookups == count)
        }
        for tag in ["0123456789abcdef0f23456789abcdef", "0123456789abcdef0f23456789abcdef-12", "A", "", nil] {
            node.version = tag.map { ETag($0) }
            #expect(node.version?.value == tag)
        }
    }

    @Test("Times that differ from the store's are kept, before 1970 too")
    func times() {
        let node = node(7)
        for time in [
            Timestamp(seconds: -1, nanoseconds: 5), Timestamp(seconds: 0), Timestamp(seconds: 1 << 32, nanoseconds: 9),
        ] {
            node.modified = time
            #expect(node.modified == time && node.stored == Timestamp(seconds: 5))
            node.changed = time
            node.stored = time
            #expect(node.modified == time && node.changed == time && node.stored == time)
            node.stored = Timestamp(seconds: 5)
            #expect(node.modified == time && node.changed == time)
        }
        node.modified = Timestamp(seconds: 1 << 50)
        #expect(node.modified == Timestamp(seconds: 1 << 50))
    }
}

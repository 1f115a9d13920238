import CloudMountVFS
import Testing

@testable import CloudMountFilesystem

/// The orders in which small files are read.
@Suite("Files read in order")
struct FileCourseTests {
    private static let count = 200

    /// Listed in another order than that of their names, with numbers in a third.
    private let files: [(inode: InodeID, name: FileName)] = (0..<count).map { place in
        let number = place * 77 % count
        return (InodeID(1000 + number * 31 % count), FileName(unchecked: "f" + String(1000 + number)))
    }

    private func inodes(by kind: FileOrders.Kind) -> [InodeID] {
        switch kind {
        case .name: files.sorted { $0.name < $1.name }.map(\.inode)
        case .listed: files.map(\.inode)
        case .inode: files.map(\.inode).sorted()
        }
    }

    /// A course that knows its directory.
    private func course(trusted: FileOrders.Kind? = nil) -> FileCourse {
        var course = FileCourse(trusted: trusted)
        _ = course.learn(FileOrders(files), now: 0, isCautious: false)
        return course
    }

    private func ahead(_ step: FileCourse.Step) -> [InodeID] {
        if case .ahead(let inodes, _) = step { inodes } else { [] }
    }

    @Test("Each order has every file once, and finds it")
    func orders() {
        let orders = FileOrders(files)
        for kind in FileOrders.Kind.allCases {
            let all = (0..<orders.count).map { orders.inode(at: $0, by: kind) }
            #expect(all == inodes(by: kind))
            for (place, inode) in all.enumerated() {
                #expect(orders.index(of: inode).map { orders.place($0, by: kind) } == place)
            }
        }
        #expect(orders.index(of: 5) == nil && orders.index(of: 5000) == nil)
        #expect(FileOrders([]).index(of: 1) == nil)
    }

    @Test("Whoever reads by name, as listed or by number has the next files fetched, each once", arguments: [0, 1, 2])
    func follows(_ raw: Int) throws {
        let kind = try #require(FileOrders.Kind(rawValue: raw))
        var course = course()
        let all = inodes(by: kind)
        var fetched: [InodeID] = []
        var lead: [Int] = []
        for (place, inode) in all.enumerated() {
            let step = course.read(inode, now: UInt64(place), isCautious: false)
            fetched += ahead(step)
            lead.append(3 + fetched.count - place - 1)
            if place < 2 { #expect(step == .jumped) }
            if place == all.count - 1 { #expect(step == .ahead([], isEnd: kind)) }
        }
        #expect(fetched == Array(all[3...]))
        #expect(Array(lead[2..<9]) == [2, 4, 8, 16, 32, 64, 63])
        // Then sixteen at a time.
        #expect(lead[8..<100].allSatisfy { 48...64 ~= $0 } && lead[9..<100].contains(64))
    }

    @Test("Threads that overtake each other are one reader")
    func threads() {
        var course = course()
        let all = inodes(by: .name)
        var fetched: Set<InodeID> = []
        var found = 0
        for block in stride(from: 0, to: all.count, by: 8) {
            for offset in [3, 0, 1, 2, 6, 5, 7, 4] {
                let inode = all[block + offset]
                if fetched.contains(inode) { found += 1 }
                fetched.formUnion(ahead(course.read(inode, now: 0, isCautious: false)))
            }
        }
        #expect(found >= all.count - 12)
    }

    @Test("Readers in several parts of a directory are followed each by itself")
    func parts() {
        var course = course()
        let all = inodes(by: .name)
        var fetched: [InodeID] = []
        for place in 0..<4 {
            for start in [0, 100] {
                fetched += ahead(course.read(all[start + place], now: 0, isCautious: false))
            }
        }
        #expect(Set(fetched) == Set(all[3..<8] + all[103..<108]))
        #expect(fetched.count == 10)
    }

    @Test("Who jumps, or takes every second file, has nothing fetched")
    func jumps() {
        var course = course()
        let all = inodes(by: .name)
        for place in stride(from: 0, to: all.count, by: 2) {
            #expect(ahead(course.read(all[place], now: 0, isCautious: false)).isEmpty)
        }
        var other = self.course()
        for place in (0..<all.count).map({ $0 * 83 % all.count }) where place % 3 > 0 {
            #expect(ahead(other.read(all[place], now: 0, isCautious: false)).isEmpty)
        }
    }

    @Test("A file that is read again leads nowhere")
    func again() {
        var course = course()
        let all = inodes(by: .name)
        for _ in 0..<10 { #expect(ahead(course.read(all[7], now: 0, isCautious: false)).isEmpty) }
    }

    @Test("Where much was fetched for nothing, no more is ahead than a tenth of what was read")
    func cautious() {
        var course = course()
        var fetched = 3
        for (place, inode) in inodes(by: .name).enumerated() {
            fetched += ahead(course.read(inode, now: 0, isCautious: true)).count
            #expect(fetched - place - 1 <= max(2, (place + 1) / 10))
        }
        #expect(fetched > Self.count / 2)
    }

    @Test("Nothing is fetched long before a slow reader comes to it")
    func slow() {
        var course = course()
        var fetched = 3
        for (place, inode) in inodes(by: .name).prefix(50).enumerated() {
            fetched += ahead(course.read(inode, now: UInt64(place) * 1_000_000_000, isCautious: false)).count
            #expect(fetched - place - 1 <= 5)
        }
        #expect(fetched >= 53)
    }

    @Test("What was read before the directory was known counts")
    func early() {
        var course = FileCourse()
        let all = inodes(by: .listed)
        #expect(course.read(all[0], now: 0, isCautious: false) == .nothing)
        #expect(course.read(all[1], now: 0, isCautious: false) == .learns)
        #expect(course.read(all[2], now: 0, isCautious: false) == .nothing)
        let step = course.learn(FileOrders(files), now: 0, isCautious: false)
        #expect(step == .ahead(Array(all[3..<5]), isEnd: nil))
        // What is new is looked for, but not at once.
        #expect(course.read(7, now: 1000, isCautious: false) == .nothing)
        #expect(course.read(8, now: 1000, isCautious: false) == .nothing)
        #expect(course.read(9, now: 1_000_000_000, isCautious: false) == .learns)
        #expect(course.learn(nil, now: 1_000_000_000, isCautious: false) == .nothing)
        #expect(course.read(10, now: 1_000_000_001, isCautious: false) == .nothing)
    }

    @Test("Who has gone through one directory is believed in the next from the first file on, in the same order only")
    func trusted() {
        var next = FileCourse(trusted: .inode)
        let all = inodes(by: .inode)
        #expect(next.read(all[0], now: 0, isCautious: false) == .learns)
        #expect(next.learn(FileOrders(files), now: 0, isCautious: false) == .ahead(Array(all[1..<9]), isEnd: nil))
        var middle = FileCourse(trusted: .inode)
        #expect(middle.read(all[100], now: 0, isCautious: false) == .learns)
        #expect(middle.learn(FileOrders(files), now: 0, isCautious: false) == .jumped)
    }
}

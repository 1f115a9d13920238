import CloudMountPlatform
import CloudMountVFS
import Glibc
import TestSeeds
import TestServers
import Testing

@testable import DirectoryProvider

/// Folders with more in them than anybody waits for.
@Suite("The directory provider in long folders") struct LongFolderTests {
    private let folder: TemporaryFolder
    private let provider: DirectoryProvider

    init() async throws {
        folder = try TemporaryFolder("long")
        provider = DirectoryProvider(path: folder.path, isDurable: false)
        try await provider.prepare(writable: true)
    }

    private func path(_ name: String) -> String { folder.path + "/" + name }

    private func make(_ name: String) {
        let file = open(path(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        #expect(file >= 0)
        close(file)
    }

    /// What the kernel says was done (inotify(7)) in one directory while `body` ran.
    private func events(_ kinds: Int32, in name: String, _ body: () async throws -> Void) async throws -> Int {
        let watch = inotify_init1(Int32(O_NONBLOCK | O_CLOEXEC))
        try #require(watch >= 0)
        defer { close(watch) }
        try #require(inotify_add_watch(watch, path(name), UInt32(kinds)) >= 0)
        try await body()
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        let count = read(watch, &buffer, buffer.count)
        var (events, index) = (0, 0)
        while index + MemoryLayout<inotify_event>.size <= count {
            let length = buffer[(index + 12)..<(index + 16)].reversed().reduce(0) { $0 << 8 | Int($1) }
            index += MemoryLayout<inotify_event>.size + length
            events += 1
        }
        return events
    }

    @Test("a start looks at so many left-overs, and the next at the rest")
    func leftOvers() async throws {
        let staging = Descriptor(owning: open(path(".cloudmount/staging"), O_RDONLY | O_DIRECTORY | O_CLOEXEC))
        let most = Folder.mostLeftOvers
        for number in 0..<(most + 20) {
            #expect(mknodat(staging.raw, "\(number)", S_IFREG | 0o600, 0) == 0)
            var times = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)]
            #expect(utimensat(staging.raw, "\(number)", &times, 0) == 0)
        }
        try await provider.prepare(writable: true)
        #expect(try staging.entries().count == 20)
        try await provider.prepare(writable: true)
        #expect(try staging.entries().isEmpty)
    }

    @Test("a name is looked up without a look at its neighbours")
    func lookup() async throws {
        mkdir(path("d"), 0o700)
        for name in ["d/a", "d/b", "d/b.txt"] { make(name) }
        mkdir(path("d/c"), 0o700)
        #expect(provider.capabilities.cheapLooks)
        let read = try await events(IN_ACCESS, in: "d") {
            #expect(try await provider.head("d/b").size == 0)
            await #expect(throws: VFSError.self) { try await provider.head("d/b/") }
            for (prefix, key) in [("d/b", "d/b"), ("d/c/", "d/c/"), ("d/x/", nil), ("d/b/", nil)] {
                for delimited in [true, false] {
                    let page = try await provider.list(
                        ListRequest(prefix: ObjectKey(prefix), delimited: delimited, limit: 1))
                    #expect(page.objects.map(\.key.string) == [key].compactMap { $0 } && page.commonPrefixes.isEmpty)
                }
            }
        }
        #expect(read == 0)
    }

    @Test("of the hidden area a page opens what it shows")
    func hidden() async throws {
        for number in 0..<300 { make(".cloudmount/keys/a%2F%2F\(1000 + number)") }
        var request = ListRequest(prefix: "", delimited: false, limit: 3)
        let opened = try await events(IN_OPEN, in: ".cloudmount/keys") {
            let page = try await provider.list(request)
            #expect(page.objects.map(\.key) == ["a//1000", "a//1001", "a//1002"])
            request.continuation = page.continuation
            #expect(try await provider.list(request).objects.map(\.key) == ["a//1003", "a//1004", "a//1005"])
        }
        // Four files and the directory, which is opened twice, a page.
        #expect(opened <= 20)
        // Another spelling of a key is not where the key is looked for.
        make(".cloudmount/keys/a%2f%2f0")
        #expect(
            try await provider.list(ListRequest(prefix: "a//", delimited: true, limit: 1)).objects.map(\.key) == [
                "a//1000"
            ])
    }

    @Test("hidden keys are cut as bytes: a combining character after a slash begins a name")
    func combining() async throws {
        _ = try await provider.put(PutRequest(key: "e//\u{301}x"), from: BytesSource([]))
        let page = try await provider.list(ListRequest(prefix: "e/", delimited: true))
        #expect(page.commonPrefixes == ["e//"] && page.objects.isEmpty)
    }

    @Test("pages of any length tell each key once and in order, whatever lies between the keys")
    func pages() async throws {
        var generator = SeededGenerator(seed: 8)
        let names = ["a", "a!", "a-b", "b", "c", "é", "~"]
        var expected: Set<ObjectKey> = []
        for _ in 0..<120 {
            let depth = Int.random(in: 1...3, using: &generator)
            let key = (0..<depth).map { _ in names.randomElement(using: &generator) ?? "a" }
                .joined(separator: Bool.random(using: &generator) ? "/" : "//")
            _ = try await provider.put(PutRequest(key: ObjectKey(key)), from: BytesSource([]))
            expected.insert(ObjectKey(key))
        }
        // What is no object, of every kind, more of it than a small page has room for.
        for number in 0..<700 { #expect(mkfifo(path("a0\(number)"), 0o600) == 0) }
        for number in 0..<40 {
            mkdir(path("a1\(number)"), 0o700)
            let implicit = Descriptor(owning: open(path("a1\(number)"), O_RDONLY | O_DIRECTORY | O_CLOEXEC))
            try implicit.setAttribute(DirectoryRecord.attribute, DirectoryRecord(isImplicit: true).encoded)
            make(".cloudmount/keys/a%2f\(number)")
            mkdir(path(".cloudmount/keys/a%2F\(number)"), 0o700)
        }
        for prefix in ["", "a", "a/", "a//", "b/a", "é/"] as [ObjectKey] {
            for delimited in [true, false] {
                let (shown, folders) = Self.listing(expected, prefix, delimited)
                for limit in [1, 2, 3, 7, 5000] {
                    var request = ListRequest(prefix: prefix, delimited: delimited, limit: limit)
                    var (objects, prefixes): ([ObjectKey], [ObjectKey]) = ([], [])
                    repeat {
                        let page = try await provider.list(request)
                        #expect(page.objects.count + page.commonPrefixes.count <= limit)
                        objects += page.objects.map(\.key)
                        prefixes += page.commonPrefixes
                        request.continuation = page.continuation
                    } while request.continuation != nil
                    #expect(objects == shown, "\(prefix) \(delimited) \(limit)")
                    #expect(prefixes.filter { !$0.hasPrefix("a1") } == folders, "\(prefix) \(delimited) \(limit)")
                }
            }
        }
    }

    private static func listing(
        _ keys: Set<ObjectKey>, _ prefix: ObjectKey, _ delimited: Bool
    ) -> (objects: [ObjectKey], prefixes: [ObjectKey]) {
        let within = keys.filter { $0.hasPrefix(prefix) }
        guard delimited else { return (within.sorted(), []) }
        let folded = Set(within.compactMap { $0.commonPrefix(after: prefix.byteCount) })
        return (within.filter { $0.commonPrefix(after: prefix.byteCount) == nil }.sorted(), folded.sorted())
    }

    @Test("the least of many keys are kept, each once")
    func least() {
        var generator = SeededGenerator(seed: 9)
        for most in [1, 2, 5, 64] {
            var least = LeastKeys<Int>(most: most)
            var all: Set<ObjectKey> = []
            for _ in 0..<300 {
                let key = ObjectKey("\(Int.random(in: 0..<100, using: &generator))")
                all.insert(key)
                least.add(key) { key.byteCount }
            }
            #expect(least.sorted.map(\.key) == Array(all.sorted().prefix(most)))
            #expect(least.hasMore == (all.count > most))
        }
    }
}

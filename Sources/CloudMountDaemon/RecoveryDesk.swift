import CloudMountFilesystem
import CloudMountPlatform
import CloudMountVFS

/// `cloudmount recover`: names what is kept of files that are never stored by themselves, and takes it away.
struct RecoveryDesk: Sendable {
    let writes: KeptWrites
    /// The names of all mounts that the configuration has, and those that are up.
    let known: @Sendable () async -> (names: Set<String>, running: [KeptWrites.Running])

    /// Ranges that are told of one file at most: what an answer has room for.
    private static let mostRanges = 400_000

    func run(_ request: ControlRequest) async -> ControlAnswer {
        do throws(VFSError) {
            let items = try await items(of: request.target)
            guard let name = request.name else {
                let files = items.map(\.file)
                var room = AnswerRoom()
                let named = room.first(of: files)
                return ControlAnswer(kept: named, unnamed: named.count < files.count ? files.count - named.count : nil)
            }
            var item = try Self.pick(name, items)
            if request.discard == true {
                try await writes.discard(item)
            } else if let ranges = try await ranges(of: item) {
                guard ranges.count <= Self.mostRanges else {
                    throw VFSError(
                        .tooLarge,
                        "it is in \(ranges.count) pieces, too many to be told; they are in \(item.file.place)")
                }
                item.file.ranges = ranges.flatMap { [$0.lowerBound, $0.count] }
            }
            return ControlAnswer(kept: [item.file])
        } catch {
            return ControlAnswer(ok: false, error: error.message)
        }
    }

    private func ranges(of item: KeptWrites.Item) async throws(VFSError) -> [Extent]? {
        try await BlockingPool.shared.run("recover") { [writes] () throws(VFSError) in try writes.ranges(of: item) }
    }

    private func items(of mount: String?) async throws(VFSError) -> [KeptWrites.Item] {
        let known = await known()
        let all = try await BlockingPool.shared.run("recover") { [writes] () throws(VFSError) in
            try writes.items(names: known.names, running: known.running)
        }
        guard let mount else { return all }
        let chosen = all.filter { $0.file.mount.utf8.elementsEqual(mount.utf8) }
        if chosen.isEmpty, !known.names.contains(mount) {
            throw VFSError(.notFound, "there is no mount '\(mount)', and nothing is kept of one")
        }
        return chosen
    }

    /// By its name, or by its key where only one has it.
    private static func pick(_ name: String, _ items: [KeptWrites.Item]) throws(VFSError) -> KeptWrites.Item {
        let found = items.filter { $0.file.name.utf8.elementsEqual(name.utf8) }
        if let item = found.first { return item }
        let keyed = items.filter { $0.file.key.map { $0.utf8.elementsEqual(name.utf8) } ?? false }
        guard let item = keyed.first else { throw VFSError(.notFound, "nothing of the name '\(name)' is kept") }
        guard keyed.count == 1 else {
            let names = keyed.prefix(20).map(\.file.name).joined(separator: ", ")
            let more = keyed.count > 20 ? " and \(keyed.count - 20) more" : ""
            throw VFSError(.invalidArgument, "several are kept of '\(name)': \(names)\(more)")
        }
        return item
    }
}

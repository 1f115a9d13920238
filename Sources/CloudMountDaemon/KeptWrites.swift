import CloudMountCache
import CloudMountFilesystem
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc

/// What this and earlier runs have left of files that are never stored by themselves: records of the journal, and staged files that no record
/// names.
struct KeptWrites: Sendable {
    let journal: Journal?
    let staging: StagingArea

    typealias Running = (name: String, running: any RunningMount)

    /// One of them, and who takes it away.
    struct Item: Sendable {
        enum Owner: Sendable {
            case mount(any RunningMount, MountStatistics.FailedCommit)
            case record(Int64)
            case nobody
        }

        var file: KeptFile
        var ranges: [Extent]?
        let owner: Owner
    }

    /// Blocks on local disk.
    /// - Parameters:
    ///   - names: of all mounts that the configuration has: what is on record of those goes on when they are up.
    ///   - running: those that are.
    /// - Throws: `io`: the journal cannot be read.
    func items(names: Set<String>, running: [Running]) throws(VFSError) -> [Item] {
        // Looked at first: what gets a record, or loses its owner, meanwhile is not taken for nobody's.
        let leftovers = staging.leftovers
        var (items, recorded, told): ([Item], Set<String>, Set<Int64>) = ([], [], [])
        for (name, running) in running {
            for kept in running.kept() {
                var record: RecordedWrite?
                if let id = kept.record {
                    told.insert(id)
                    // One that cannot be read is told by what the mount knows.
                    if let found = try? journal?.record(id) { record = RecordedWrite(found) }
                }
                items.append(item(name, kept, record, running))
            }
        }
        for mount in try journal?.mounts().keys.sorted() ?? [] {
            for id in try journal?.ids(of: mount) ?? [] {
                let record: RecordedWrite
                do throws(VFSError) {
                    guard let found = try journal?.record(id) else { continue }
                    record = RecordedWrite(found)
                } catch {
                    if !told.contains(id), !names.contains(mount) { items.append(unreadable(id, mount, error)) }
                    continue
                }
                if let staged = record.staged { recorded.insert(staged) }
                if told.contains(id) { continue }
                if let item = item(record, isConfigured: names.contains(mount), running) { items.append(item) }
            }
        }
        let named = recorded.union(items.map { Self.name(ofPath: $0.file.place) })
        items += leftovers.filter { !named.contains($0.name) }.map { leftover in
            let file = KeptFile(
                name: leftover.name, mount: Self.label(leftover.name), bytes: leftover.size,
                since: leftover.modified.seconds,
                reason: journal == nil
                    ? "there is no journal to say what it was to be" : "no record says what it was to be",
                place: leftover.path)
            return Item(file: file, owner: .nobody)
        }
        return items
    }

    /// What a running mount says will never be stored.
    private func item(
        _ mount: String, _ kept: MountStatistics.FailedCommit, _ record: RecordedWrite?, _ running: any RunningMount
    ) -> Item {
        let place =
            kept.stagedPath.isEmpty ? record?.staged.flatMap(staging.leftover(named:))?.path ?? "" : kept.stagedPath
        var file = KeptFile(
            name: Self.name(place, kept.record), mount: mount, key: kept.path, bytes: kept.bytes,
            since: kept.since.seconds, reason: kept.error, place: place)
        var kept = kept
        kept.stagedPath = place
        guard let record else { return Item(file: file, owner: .mount(running, kept)) }
        file.key = record.key.string
        return described(file, by: record, .mount(running, kept))
    }

    /// What the journal says; nil: it is stored by itself, or will be when its mount is up.
    private func item(_ record: RecordedWrite, isConfigured: Bool, _ running: [Running]) -> Item? {
        var isFinal = false
        if case .success(let told) = record.told { isFinal = told.isFinal }
        // Of one that runs, the mount tells.
        if isConfigured, !isFinal || running.contains(where: { $0.name == record.mount }) { return nil }
        let leftover = record.staged.flatMap(staging.leftover(named:))
        let reason = isFinal ? "" : "the configuration has no mount '\(record.mount)'"
        let file = KeptFile(
            name: record.staged ?? "record-\(record.id)", mount: record.mount, key: record.key.string,
            bytes: leftover?.size ?? 0, since: 0, reason: reason, place: leftover?.path ?? "")
        return described(file, by: record, .record(record.id))
    }

    private func unreadable(_ id: Int64, _ mount: String, _ error: VFSError) -> Item {
        let file = KeptFile(
            name: "record-\(id)", mount: mount, bytes: 0, since: 0, reason: error.description, place: "")
        return Item(file: file, owner: .record(id))
    }

    private func described(_ file: KeptFile, by record: RecordedWrite, _ owner: Item.Owner) -> Item {
        var file = file
        let told: RecordedWrite.Told
        do throws(VFSError) { told = try record.told.get() } catch {
            if file.reason.isEmpty { file.reason = error.description }
            return Item(file: file, owner: owner)
        }
        (file.size, file.isWhole, file.since) = (told.size, told.isWhole, told.since.seconds)
        if let error = told.error, !error.isEmpty, file.reason != error {
            file.reason = file.reason.isEmpty ? error : "\(file.reason); \(error)"
        }
        if record.staged != nil, file.place.isEmpty { file.reason += "; its bytes are gone" }
        return Item(file: file, ranges: told.ranges, owner: owner)
    }

    /// Takes one away, for good: first what tells of it.
    /// - Throws: `busy` when somebody answers for it by now; `notFound`; `io`.
    func discard(_ item: Item) async throws(VFSError) {
        switch item.owner {
        case .mount(let running, let kept): return try await running.discard(kept)
        case .record(let id):
            guard let journal, journal.claim(id) else {
                throw VFSError(.busy, "a mount has just taken it up, and may store it")
            }
            let result = await attempt { () async throws(VFSError) in try await journal.commit([.remove(id)]) }
            journal.unclaim([id])
            try result.get()
        case .nobody:
            guard journal != nil else {
                throw VFSError(.busy, "there is no journal to say whether something is still to be stored of it")
            }
            // One that somebody has taken up is no leftover any more.
            guard staging.leftover(named: item.file.name) != nil else {
                throw VFSError(.notFound, "it is not kept any more")
            }
        }
        let place = item.file.place
        if place.isEmpty { return }
        try await BlockingPool.shared.run("recover") { () throws(VFSError) in
            if unlink(place) != 0, errno != ENOENT { throw localError("\(place) cannot be removed") }
            // What it took of the limit is free again.
            _ = staging.leftovers
        }
    }

    /// The last component.
    private static func name(ofPath path: String) -> String {
        String(path[(path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex)...])
    }

    private static func name(_ place: String, _ record: Int64?) -> String {
        place.isEmpty ? "record-\(record ?? 0)" : name(ofPath: place)
    }

    /// What the name of a staged file says of its mount: `LABEL-COUNTER-PID-RUN`.
    private static func label(_ name: String) -> String {
        let words = name.split(separator: "-", omittingEmptySubsequences: false)
        return words.count > 3 ? words.dropLast(3).joined(separator: "-") : ""
    }
}

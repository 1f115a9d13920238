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
            case record
            case nobody
        }

        var file: KeptFile
        /// What tells of it.
        var record: Seen?
        let owner: Owner
    }

    /// A record, as it was when it was looked at.
    struct Seen: Sendable {
        let id: Int64
        /// Nil: it could not be read.
        let digest: UInt64?
    }

    /// Blocks on local disk.
    /// - Parameters:
    ///   - names: of all mounts that the configuration has: what is on record of those goes on when they are up.
    ///   - running: those that are.
    /// - Throws: `io`: the journal cannot be read.
    func items(names: Set<String>, running: [Running]) throws(VFSError) -> [Item] {
        // Looked at first: what gets a record, or loses its owner, meanwhile is not taken for nobody's.
        let leftovers = staging.leftovers
        var (items, told): ([Item], Set<Int64>) = ([], [])
        for (name, running) in running {
            for kept in running.kept() {
                var record: Journal.Record?
                if let id = kept.record {
                    told.insert(id)
                    // One that cannot be read is told by what the mount knows.
                    record = (try? journal?.record(id)) ?? nil
                }
                items.append(item(name, kept, record, running))
            }
        }
        for mount in try journal?.mounts().keys.sorted() ?? [] {
            for id in try journal?.ids(of: mount) ?? [] {
                if told.contains(id) { continue }
                let record: Journal.Record
                do throws(VFSError) {
                    guard let found = try journal?.record(id) else { continue }
                    record = found
                } catch {
                    if !names.contains(mount) { items.append(unreadable(id, mount, error)) }
                    continue
                }
                if let item = item(record, isConfigured: names.contains(mount), running) { items.append(item) }
            }
        }
        let recorded = recorded
        let named = recorded.names.union(items.map { Self.name(ofPath: $0.file.place) })
        items += leftovers.filter { !named.contains($0.name) }.map { leftover in
            let file = KeptFile(
                name: leftover.name, mount: Self.label(leftover.name), bytes: leftover.size,
                since: leftover.modified.seconds, reason: recorded.doubt ?? "no record says what it was to be",
                place: leftover.path)
            return Item(file: file, owner: .nobody)
        }
        return items
    }

    /// The staged files that records name, and why these may not be all. Blocks.
    private var recorded: (names: Set<String>, doubt: String?) {
        guard let journal else { return ([], "there is no journal to say what it was to be") }
        do throws(VFSError) {
            let (names, unreadable) = try journal.staged()
            return (names, unreadable == 0 ? nil : "a record that cannot be read may say what it was to be")
        } catch {
            return ([], "what is on record cannot be read: \(error)")
        }
    }

    /// The bytes of `file.place` that are the file's; nil: nobody knows. Blocks.
    /// - Throws: `busy` when it has just changed.
    func ranges(of item: Item) throws(VFSError) -> [Extent]? {
        guard let journal, let seen = item.record, seen.digest != nil else { return nil }
        guard let record = try unchanged(seen, journal) else { return nil }
        return try? RecordedWrite(record).told.get().ranges
    }

    /// - Returns: nil when it still cannot be read.
    /// - Throws: `notFound` when it is there no more, `busy` when it is another by now, `io`.
    private func unchanged(_ seen: Seen, _ journal: Journal) throws(VFSError) -> Journal.Record? {
        let record: Journal.Record?
        do throws(VFSError) { record = try journal.record(seen.id) } catch {
            if seen.digest == nil { return nil }
            throw error
        }
        guard let record else { throw VFSError(.notFound, "it is not kept any more") }
        guard record.digest == seen.digest else {
            throw VFSError(.busy, "what is on record of it has just changed; look again")
        }
        return record
    }

    /// What a running mount says will never be stored.
    private func item(
        _ mount: String, _ kept: MountStatistics.FailedCommit, _ found: Journal.Record?, _ running: any RunningMount
    ) -> Item {
        let record = found.map { RecordedWrite($0) }
        let place =
            kept.stagedPath.isEmpty ? record?.staged.flatMap(staging.leftover(named:))?.path ?? "" : kept.stagedPath
        var file = KeptFile(
            name: Self.name(place, kept.record), mount: mount, key: kept.path, bytes: kept.bytes,
            since: kept.since.seconds, reason: kept.error, place: place)
        var kept = kept
        kept.stagedPath = place
        guard let found, let record else { return Item(file: file, owner: .mount(running, kept)) }
        file.key = record.key.string
        return described(file, by: record, Seen(found), .mount(running, kept))
    }

    /// What the journal says; nil: it is stored by itself, or will be when its mount is up.
    private func item(_ found: Journal.Record, isConfigured: Bool, _ running: [Running]) -> Item? {
        let record = RecordedWrite(found)
        var isFinal = false
        if case .success(let told) = record.told { isFinal = told.isFinal }
        // Of one that runs, the mount tells.
        if isConfigured, !isFinal || running.contains(where: { $0.name == record.mount }) { return nil }
        let leftover = record.staged.flatMap(staging.leftover(named:))
        let reason = isFinal ? "" : "the configuration has no mount '\(record.mount)'"
        let file = KeptFile(
            name: record.staged ?? "record-\(record.id)", mount: record.mount, key: record.key.string,
            bytes: leftover?.size ?? 0, since: 0, reason: reason, place: leftover?.path ?? "")
        return described(file, by: record, Seen(found), .record)
    }

    private func unreadable(_ id: Int64, _ mount: String, _ error: VFSError) -> Item {
        let file = KeptFile(
            name: "record-\(id)", mount: mount, bytes: 0, since: 0, reason: error.description, place: "")
        return Item(file: file, record: Seen(id: id, digest: nil), owner: .record)
    }

    private func described(
        _ file: KeptFile, by record: RecordedWrite, _ seen: Seen, _ owner: Item.Owner
    ) -> Item {
        var file = file
        let told: RecordedWrite.Told
        do throws(VFSError) { told = try record.told.get() } catch {
            if file.reason.isEmpty { file.reason = error.description }
            return Item(file: file, record: seen, owner: owner)
        }
        (file.size, file.isWhole, file.since) = (told.size, told.isWhole, told.since.seconds)
        if let error = told.error, !error.isEmpty, file.reason != error {
            file.reason = file.reason.isEmpty ? error : "\(file.reason); \(error)"
        }
        if record.staged != nil, file.place.isEmpty { file.reason += "; its bytes are gone" }
        return Item(file: file, record: seen, owner: owner)
    }

    /// Takes one away, for good: first what tells of it.
    /// - Throws: `busy` when somebody answers for it by now; `notFound`; `io`.
    func discard(_ item: Item) async throws(VFSError) {
        switch item.owner {
        case .mount(let running, let kept): return try await running.discard(kept)
        case .record:
            guard let journal, let seen = item.record, journal.claim(seen.id) else {
                throw VFSError(.busy, "a mount has just taken it up, and may store it")
            }
            let result = await attempt { () async throws(VFSError) in
                // What was seen was nobody's then: a mount may have come and gone since.
                try await BlockingPool.shared.run("recover") { () throws(VFSError) in _ = try unchanged(seen, journal) }
                try await journal.commit([.remove(seen.id)])
            }
            // A mount that met the claim looks again.
            if case .failure = result { journal.leave([seen.id]) } else { journal.unclaim([seen.id]) }
            try result.get()
        case .nobody: break
        }
        let place = item.file.place
        if place.isEmpty { return }
        try await BlockingPool.shared.run("recover") { () throws(VFSError) in
            if case .nobody = item.owner { try requireNobodys(item.file.name) }
            if unlink(place) != 0, errno != ENOENT { throw localError("\(place) cannot be removed") }
            // What it took of the limit is free again.
            _ = staging.leftovers
        }
    }

    /// Blocks.
    private func requireNobodys(_ name: String) throws(VFSError) {
        // One that somebody has taken up is no leftover any more; and only who has read its record takes it up.
        guard staging.leftover(named: name) != nil else { throw VFSError(.notFound, "it is not kept any more") }
        let recorded = recorded
        if let doubt = recorded.doubt { throw VFSError(.busy, "\(doubt), and whether it is still to be stored") }
        if recorded.names.contains(name) { throw VFSError(.busy, "a record tells of it; look again") }
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

extension KeptWrites.Seen {
    init(_ record: Journal.Record) { self.init(id: record.id, digest: record.digest) }
}

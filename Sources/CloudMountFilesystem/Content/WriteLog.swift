import CloudMountCache
import CloudMountCommit
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Synchronization

/// One mount's part of the journal: what its files hold that the store does not have, a record for each file.
final class WriteLog: Sendable {
    private struct Entry {
        /// On disk; until then nobody may go by it.
        var isDurable = false
        let id: Int64
        /// Of the file that it was put for.
        let inode: InodeID
        /// The bytes that the record names.
        let staged: StagedFile?
        let turn: UInt64
        /// What it tells, but for why.
        let content: JournaledWrite
    }

    private struct State {
        var entries: [InodeID: Entry] = [:]
        var keeping: [InodeID: Keeping] = [:]
        var turns: UInt64 = 0
        /// Records that could not be removed, and that no file has any more.
        var owed: [Entry] = []
        /// Records of files that another has replaced, where they could not go in one step with its own: they go with its next.
        var replaced: [InodeID: [Entry]] = [:]
        /// Removals that are not on disk yet.
        var removing: [InodeID: Int] = [:]

        var unwanted: [Int64] { owed.map(\.id) + replaced.values.joined().map(\.id) }
    }

    /// A record that is about to be put.
    private struct Keeping {
        /// The bytes that it will name.
        var staged: StagedFile?
        /// The file's record was removed meanwhile, though there may have been none: what was seen before may be of a file that is gone.
        var isVoid = false
        /// Bytes that no other record needs any more: they go when this one does not name them in the end.
        var released: StagedFile?
    }

    private let journal: Journal?
    private let mount: String
    private let store: String
    private let state = Mutex(State())
    /// One at a time puts a file's record, so that none is of an older state than the one before it.
    private let keepers = (0..<64).map { _ in Guarded(()) }

    /// - Parameters:
    ///   - journal: nil: nothing outlives the process.
    ///   - hasMarks: objects keep the nonces of writes. Else nobody would know after a crash what was stored, and nothing is put on record.
    ///   - store: names what is mounted: what was written to one bucket goes to no other that has the mount's name by now.
    init(_ journal: Journal?, hasMarks: Bool, mount: String, store: String) {
        (self.journal, self.mount, self.store) = (journal, mount, store)
        isKept = journal != nil && hasMarks
    }

    deinit {
        let ids = state.withLock { state in
            defer { state.entries = [:] }
            _ = try? journal?.submit(state.unwanted.map { .remove($0) })
            return state.entries.values.map(\.id) + state.unwanted
        }
        journal?.leave(ids)
    }

    /// Whether anything outlives the process.
    let isKept: Bool

    func has(_ inode: InodeID) -> Bool { turn(of: inode) != nil }

    /// Whether the file has a record, or is about to: it may have been looked at already for that, when its name was another.
    func concerns(_ inode: InodeID) -> Bool {
        state.withLock { $0.entries[inode] != nil || $0.keeping[inode] != nil }
    }

    /// Whether the file has a record that somebody may count on.
    func isPromised(_ inode: InodeID) -> Bool {
        state.withLock { $0.entries[inode]?.content.mayBePromised ?? false }
    }

    /// Another number for each record that a file gets; nil: it has none.
    func turn(of inode: InodeID) -> UInt64? { state.withLock { $0.entries[inode]?.turn } }

    /// Whether a record of the file names these bytes, or is about to.
    func names(_ staged: StagedFile, of inode: InodeID) -> Bool {
        state.withLock { $0.entries[inode]?.staged === staged || $0.keeping[inode]?.staged === staged }
    }

    /// By which the record knows what was sent: of nothing until it is on disk, nil where there is none.
    func mark(_ inode: InodeID) -> WriteMark? {
        let none = WriteMark(nonce: "", size: 0)
        return state.withLock { state in
            if state.keeping[inode] != nil { return none }
            return state.entries[inode].map { $0.isDurable ? WriteMark($0.content.write) : none }
        }
    }

    /// Those that have a record, or are about to.
    var inodes: Set<InodeID> { state.withLock { Set($0.entries.keys).union($0.keeping.keys) } }

    /// Of all records that this life of the mount answers for, but for those of files that are never stored.
    var ids: Set<Int64> { state.withLock { Set($0.entries.values.map(\.id) + $0.unwanted) } }

    // MARK: Puts and removals

    /// What a record is to tell, and the bytes that it names.
    struct Told: Sendable {
        var write: JournaledWrite
        let staged: StagedFile?
    }

    /// Puts a record in the place of the one that the file has: the bytes first, then the record, are on disk when it returns. Blocks.
    /// - Parameters:
    ///   - replaced: a file whose record goes in the same step.
    ///   - bytes: what `told` may name; nil: it is asked itself.
    ///   - told: looks at the file; nil: there is nothing to tell.
    /// - Returns: whether the file has a record.
    func put(
        _ inode: InodeID, replacing replaced: InodeID? = nil, bytes: (() -> StagedFile?)? = nil, _ told: () -> Told?
    ) throws(VFSError) -> Bool {
        guard isKept else { return false }
        return try keepers[Int(truncatingIfNeeded: inode % 64)].withLock { _ throws(VFSError) in
            defer { endKeeping(inode) }
            while true {
                endKeeping(inode)
                state.withLock { $0.keeping[inode] = Keeping() }
                // Named first, then looked at: from then on nobody cuts these bytes without asking.
                let staged = bytes.map { $0() } ?? told()?.staged
                state.withLock { $0.keeping[inode]?.staged = staged }
                guard let now = told() else { return false }
                guard now.staged === staged || now.staged == nil else { continue }
                if let isPut = try put(inode, replacing: replaced, now) { return isPut }
            }
        }
    }

    /// - Returns: nil when it is to be looked at again.
    private func put(
        _ inode: InodeID, replacing replaced: InodeID?, _ told: Told
    ) throws(VFSError) -> Bool? {
        guard let journal else { return false }
        var write = told.write
        let isSame = state.withLock { state in
            guard let before = state.entries[inode] else { return false }
            // Once promised, it is kept until it is stored.
            if before.content.mayBePromised { write.isPromised = true }
            return before.isDurable && before.staged === told.staged && before.content.isSame(as: write)
        }
        // What the record names may have been written over since.
        try told.staged?.sync()
        if isSame, replaced == nil { return true }
        let payload = try Payload(store: store, write: write).encoded()
        let staged = told.staged
        let put: (entry: Entry, before: Entry?, old: Entry?, gone: [Entry], owed: [Entry], pending: PendingCommit)? =
            try state.withLock {
                state throws(VFSError) in
                guard state.keeping[inode]?.isVoid == false else { return nil }
                let before = state.entries[inode]
                let old = replaced.flatMap { state.entries[$0] }
                let gone = state.replaced[inode] ?? []
                state.turns += 1
                let entry = Entry(
                    id: before?.id ?? journal.newID(), inode: inode, staged: staged, turn: state.turns,
                    content: write)
                let record = Journal.Record(
                    id: entry.id, mount: mount, key: write.write.key, staged: staged?.name, payload: payload)
                // Under the lock, so that the journal hears of puts and removals in their order.
                // Claimed before anybody can find it.
                if before == nil { _ = journal.claim(entry.id) }
                let pending: PendingCommit
                do throws(VFSError) {
                    pending = try journal.submit(
                        [.put(record)] + ([old].compactMap { $0 } + gone + state.owed).map { .remove($0.id) })
                } catch {
                    if before == nil { journal.unclaim([entry.id]) }
                    throw error
                }
                let owed = state.owed
                (state.owed, state.replaced[inode]) = ([], nil)
                staged?.setRecorded(true)
                state.entries[inode] = entry
                if let replaced { remove(replaced, &state) }
                return (entry, before, old, gone, owed, pending)
            }
        guard let (entry, before, old, gone, owed, pending) = put else { return nil }
        do throws(VFSError) {
            try pending.wait()
        } catch {
            let isLast = state.withLock { state in
                state.owed += owed
                // Perhaps it has its name still; else `inherit` follows.
                if let old, let replaced, state.entries[replaced] == nil { state.entries[replaced] = old }
                if !gone.isEmpty { state.replaced[inode, default: []] += gone }
                // One that may be on disk all the same keeps its id.
                guard state.entries[inode]?.turn == entry.turn, before != nil || error.code != .io else { return false }
                state.entries[inode] = before
                return before == nil
            }
            if isLast { journal.unclaim([entry.id]) }
            // It may be on disk all the same.
            if error.code != .io { release(staged, inode) }
            throw error
        }
        state.withLock { if $0.entries[inode]?.turn == entry.turn { $0.entries[inode]?.isDurable = true } }
        if let before, before.staged !== staged { release(before.staged, inode) }
        for one in [old].compactMap({ $0 }) + gone + owed { ended(one) }
        return true
    }

    /// A file has lost its name to another, whose record could not be put: its own goes with the next one of that.
    func inherit(_ replaced: InodeID, by inode: InodeID) {
        state.withLock { state in
            let left = [state.entries.removeValue(forKey: replaced)].compactMap { $0 }
            // One that is about to be put would be the latest with the name.
            state.keeping[replaced]?.isVoid = true
            let inherited = left + (state.replaced.removeValue(forKey: replaced) ?? [])
            if !inherited.isEmpty { state.replaced[inode, default: []] += inherited }
        }
    }

    /// A file is stored that has taken the name of others: their records go. One of its own that has come since is of a later state.
    func removeInherited(_ inode: InodeID) async throws(VFSError) {
        guard let journal else { return }
        let removal: (gone: [Entry], pending: PendingCommit)? = try state.withLock { state throws(VFSError) in
            guard let gone = state.replaced[inode] else { return nil }
            let pending = try journal.submit(gone.map { .remove($0.id) })
            state.replaced[inode] = nil
            return (gone, pending)
        }
        guard let (gone, pending) = removal else { return }
        let result = await attempt { () async throws(VFSError) in try await pending.done() }
        if case .failure = result { state.withLock { $0.owed += gone } }
        try result.get()
        for one in gone { ended(one) }
    }

    private func remove(_ inode: InodeID, _ state: inout State) {
        state.entries[inode] = nil
        state.keeping[inode]?.isVoid = true
    }

    private func ended(_ entry: Entry) {
        journal?.unclaim([entry.id])
        release(entry.staged, entry.inode)
    }

    /// Its bytes are needed no more, unless a record names them or is about to.
    private func release(_ staged: StagedFile?, _ inode: InodeID) {
        guard let staged else { return }
        // Under the lock, under which others begin to name them.
        state.withLock { state in
            if state.entries[inode]?.staged === staged { return }
            if state.keeping[inode]?.staged === staged {
                state.keeping[inode]?.released = staged
            } else {
                staged.setRecorded(false)
            }
        }
    }

    private func endKeeping(_ inode: InodeID) {
        state.withLock { state in
            guard let staged = state.keeping.removeValue(forKey: inode)?.released else { return }
            if state.entries[inode]?.staged !== staged { staged.setRecorded(false) }
        }
    }

    /// The record of a file that is stored, or wanted no more. Its bytes are needed no more when it returns.
    /// - Parameter turn: of the one that is meant; nil: whatever there is, or is about to be, for good: should that fail, it goes with
    ///   what is put next.
    func remove(_ inode: InodeID, of turn: UInt64? = nil) async throws(VFSError) {
        guard let journal else { return }
        let removal: (entry: Entry?, replaced: [Entry], pending: PendingCommit)? = try state.withLock {
            state throws(VFSError) in
            let entry = state.entries[inode]
            if let turn, entry?.turn != turn { return nil }
            remove(inode, &state)
            let replaced = state.replaced[inode] ?? []
            // One that is under way is waited for: the journal does one thing after the other.
            guard entry != nil || !replaced.isEmpty || state.removing[inode] != nil else { return nil }
            do throws(VFSError) {
                let pending = try journal.submit(((entry.map { [$0] } ?? []) + replaced).map { .remove($0.id) })
                state.replaced[inode] = nil
                state.removing[inode, default: 0] += 1
                return (entry, replaced, pending)
            } catch {
                if let entry { giveBack(entry, isMeant: turn != nil, &state) }
                throw error
            }
        }
        guard let (entry, replaced, pending) = removal else { return }
        let result = await attempt { () async throws(VFSError) in try await pending.done() }
        state.withLock { state in
            let left = (state.removing[inode] ?? 1) - 1
            state.removing[inode] = left > 0 ? left : nil
            guard case .failure = result else { return }
            state.owed += replaced
            if let entry { giveBack(entry, isMeant: turn != nil, &state) }
        }
        try result.get()
        for one in (entry.map { [$0] } ?? []) + replaced { ended(one) }
    }

    /// A record could not be removed.
    /// - Parameter isMeant: it is still that of its file, which is looked at again; else nobody would.
    private func giveBack(_ entry: Entry, isMeant: Bool, _ state: inout State) {
        let there = state.entries[entry.inode]
        if isMeant, there == nil {
            state.entries[entry.inode] = entry
        } else if there?.id != entry.id {
            state.owed.append(entry)
        }
    }

    /// The last record of a file that will never be stored; it stays until `drop`. Blocks.
    /// - Returns: its id; nil without a journal.
    func end(_ inode: InodeID, _ told: Told) throws(VFSError) -> Int64? {
        guard try put(inode, { told }) else { return nil }
        return state.withLock { $0.entries.removeValue(forKey: inode)?.id }
    }

    /// Nobody needs these any more. What cannot be removed is there again after the next start.
    func drop(_ ids: [Int64]) {
        _ = try? journal?.submit(ids.map { .remove($0) })
        journal?.unclaim(ids)
    }

    /// Somebody has decided that it is not wanted: it is off the disk when this returns.
    func discard(_ id: Int64) async throws(VFSError) {
        try await journal?.commit([.remove(id)])
        journal?.unclaim([id])
    }

    /// This life of the mount does not answer for them any more.
    func leave(_ ids: [Int64]) { journal?.leave(ids) }

    // MARK: Of earlier processes

    /// A file of an earlier process goes on as `inode`, and may have been put on record anew in this moment.
    func adopt(_ id: Int64, _ inode: InodeID, _ write: JournaledWrite, _ staged: StagedFile?) {
        state.withLock { state in
            let entry = Entry(
                isDurable: true, id: id, inode: inode, staged: staged, turn: state.turns + 1, content: write)
            if state.entries[inode] != nil {
                state.replaced[inode, default: []].append(entry)
                return
            }
            state.turns += 1
            state.entries[inode] = entry
        }
    }

    struct Left {
        let id: Int64
        let key: ObjectKey
        let staged: String?
        /// `stale` when it was written to another store.
        let write: Result<JournaledWrite, VFSError>
    }

    /// The ids of what earlier processes have left, the latest first. Blocks.
    func left() throws(VFSError) -> [Int64] {
        try journal.map { journal throws(VFSError) in try journal.ids(of: mount).reversed() } ?? []
    }

    enum Claim {
        case taken(Left)
        /// A life of the mount that is not over answers for it.
        case held
        /// It was removed.
        case gone
    }

    /// This life answers for a record from now on. Blocks.
    func claim(_ id: Int64) -> Claim {
        guard let journal, journal.claim(id) else { return .held }
        // Only now: whoever had it may just have removed it.
        if let left = look(id, journal) { return .taken(left) }
        journal.unclaim([id])
        return .gone
    }

    /// - Returns: nil: it was removed.
    private func look(_ id: Int64, _ journal: Journal) -> Left? {
        let record: Journal.Record?
        do throws(VFSError) {
            record = try journal.record(id)
        } catch {
            return Left(id: id, key: "", staged: nil, write: .failure(error))
        }
        guard let record else { return nil }
        let write = attemptNow { () throws(VFSError) in
            let payload = try Payload(record.payload)
            guard payload.write.write.key == record.key else {
                throw VFSError(.corrupted, "a record of the journal contradicts itself")
            }
            guard payload.store == store else {
                throw VFSError(.stale, "it was written to \(payload.store), which is not what is mounted now")
            }
            return payload.write
        }
        return Left(id: id, key: record.key, staged: record.staged, write: write)
    }

    /// What is on record and nobody of this process answers for: of a mount that is read-only, or that could not read it. Blocks.
    func unanswered() throws(VFSError) -> [Left] {
        guard let journal else { return [] }
        // Nothing is claimed: a mount that takes up its records meanwhile would meet that.
        return try left().compactMap { id in
            guard !journal.isClaimed(id), let left = look(id, journal) else { return nil }
            // Taken up, or put, while it was looked at.
            return journal.isClaimed(id) ? nil : left
        }
    }

    /// Not yet.
    func unclaim(_ id: Int64) { journal?.unclaim([id]) }

    /// Another number whenever a life of any mount has left records.
    var leavings: Int { journal?.left ?? 0 }
}

extension JournaledWrite {
    /// But for the reason.
    fileprivate func isSame(as other: JournaledWrite) -> Bool {
        write == other.write && Set(marks) == Set(other.marks) && Set(kin) == Set(other.kin) && isFinal == other.isFinal
            && unseen == other.unseen && isPromised == other.isPromised
    }

    fileprivate var mayBePromised: Bool { isPromised ?? true }
}

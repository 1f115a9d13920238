import CloudMountFilesystem
import CloudMountLayers
import CloudMountVFS
import MountHarness
import Synchronization

/// The ledger held against the history, when all is quiet.
extension Round {
    func check() async throws {
        let account = mount.ledger.account
        let current = try await mount.contents()
        let staged = mount.stagedFiles()
        let seen = history.withLock { $0 }
        var found = seen
        checkLosses(account, seen, &found)
        checkContents(account, seen, &found)
        checkAcknowledged(account, current, staged, seen, &found)
        await settled { mount.memoryUsed == 0 && (!mount.namedFiles.isEmpty || mount.stagingUsed == 0) }
        if mount.memoryUsed != 0 {
            let statistics = mount.fs.statistics()
            let failed = statistics.failedCommits.map { "\($0.path) at \($0.stagedPath): \($0.error)" }
            found.violate(
                "(d) memory leaks",
                "\(mount.memoryUsed) bytes are used at rest, \(statistics.dirtyFiles) files are dirty, \(failed)")
        }
        if mount.stagingUsed != 0, mount.namedFiles.isEmpty {
            found.violate("(d) staging leaks", "\(mount.stagingUsed) bytes are staged at rest, and nothing has failed")
        }
        let result = found
        history.withLock { $0 = result }
    }

    // MARK: (a) What was destroyed had been seen, and its loss was asked for

    private func checkLosses(_ account: Ledger.State, _ history: History, _ found: inout History) {
        for loss in account.destroyed {
            guard case .mount(let life) = loss.by else { continue }
            let version = loss.version
            // A folder's marker holds nothing.
            if version.key.hasSuffix("/"), version.bytes.isEmpty { continue }
            let isOwn = isOwn(version, life) || isCopyOfOwn(version, of: loss.by, account)
            let isCommit =
                loss.verb == .put || loss.verb == .completeUpload || loss.verb == .copy && loss.source == version.key
            if setting.rule == .overwrite, isCommit { continue }
            // What is not gone but only below another version, and is on top again in the end, was not destroyed.
            let isRestored = account.versions.values.contains {
                $0.key == version.key && $0.made > loss.time && $0.bytes == version.bytes && $0.verb == .copy
            }
            if setting.capabilities.versions, isRestored { continue }
            let time = isOwn ? version.made : seen(version, by: life, account)
            let what =
                "\(loss.verb.rawValue) of \(version.key) at \(loss.time), made at \(version.made) by \(version.maker)"
            if time > loss.time {
                found.violate("(a) \(loss.verb.rawValue) destroyed a version that was not seen", what)
                continue
            }
            let reasons = history.intents.filter {
                $0.begin <= loss.time && $0.end >= (isOwn ? 0 : time) && explains($0, loss, isOwn, history)
            }
            if reasons.isEmpty, !version.key.contains("(conflict") {
                found.violate("(a) \(loss.verb.rawValue) destroyed a version whose loss nobody asked for", what)
            }
            checkMoved(loss, reasons, account, history, what, &found)
        }
    }

    /// A life that goes on with the records of those before knows what they had made.
    private func isOwn(_ version: Version, _ life: Int) -> Bool {
        guard case .mount(let maker) = version.maker else { return false }
        return maker == life || setting.writesBack && maker < life
    }

    /// When the life, or one whose records it goes on with, was told of the version.
    private func seen(_ version: Version, by life: Int, _ account: Ledger.State) -> Int {
        let lives = setting.writesBack ? 1...life : life...life
        return lives.compactMap { account.seen[$0]?[version.etag] }.min() ?? .max
    }

    /// Who copies what the mount has written copies its nonce as well, which makes it the mount's.
    private func isCopyOfOwn(_ version: Version, of maker: Actor, _ account: Ledger.State) -> Bool {
        version.verb == .copy
            && account.versions.values.contains {
                $0.maker == maker && $0.made < version.made && $0.bytes == version.bytes
            }
    }

    /// Folders above may get other names while a call is under way, so the key may be that of another path.
    private func explains(_ intent: History.Intent, _ loss: Loss, _ isOwn: Bool, _ history: History) -> Bool {
        let key = loss.version.key
        func isNamed(_ path: String) -> Bool { history.names(of: path, since: intent.found).contains(key) }
        func isWithin(_ path: String) -> Bool {
            history.names(of: path, since: intent.found).contains { isAtOrBelow(key, $0) }
        }
        switch intent.kind {
        case .change(let exclusive): return (isOwn || !exclusive) && isNamed(intent.path)
        case .unlink: return isNamed(intent.path)
        case .rmdir: return isWithin(intent.path)
        case .rename(let to, let noReplace):
            // Copies that are taken back are the mount's own.
            return isWithin(intent.path) && !isWithin(to) || isWithin(to) && (isOwn || !noReplace)
                || isAtOrBelow(key, intent.path)
        }
    }

    /// What a rename takes away under the old name is under the new one.
    private func checkMoved(
        _ loss: Loss, _ reasons: [History.Intent], _ account: Ledger.State, _ history: History, _ what: String,
        _ found: inout History
    ) {
        guard loss.verb == .delete, !loss.version.bytes.isEmpty, !reasons.isEmpty else { return }
        var targets: Set<String> = []
        for reason in reasons {
            guard case .rename(let to, _) = reason.kind, isAtOrBelow(loss.version.key, reason.path) else { return }
            let target = to + loss.version.key.dropFirst(reason.path.count)
            targets.formUnion(history.names(of: target, since: reason.found))
        }
        let isCopied = account.versions.values.contains { version in
            guard version.made < loss.time, version.bytes == loss.version.bytes else { return false }
            // Under the new name, or beside what somebody else had put there.
            return targets.contains(version.key) || targets.contains { version.key.hasPrefix($0 + " (conflict ") }
        }
        if !isCopied { found.violate("(a) a rename deleted what it had not copied", what) }
    }

    // MARK: (b) No two versions in one

    private func checkContents(_ account: Ledger.State, _ history: History, _ found: inout History) {
        for version in account.versions.values where version.maker != .foreign {
            let content = Block.parse(version.bytes)
            if let torn = content.torn.first {
                found.violate("(b) an object has bytes that nobody wrote there", "\(version.key) at \(torn)")
            }
            if content.foreign.count > 1 {
                found.violate("(b) an object mixes two foreign versions", "\(version.key): contents \(content.foreign)")
            }
            guard let base = content.foreign.first, let came = history.foreignPuts[base] else { continue }
            for key in Set(content.blocks.map(\.key)) where key.writer != Block.foreign {
                guard let write = history.writes[key], came > history.handles[write.handle].bound else { continue }
                found.violate(
                    "(b) an object mixes a write with a version that came after its handle's first bytes",
                    "\(version.key) by \(version.verb.rawValue) at \(version.made): write \(key.number) of program "
                        + "\(key.writer) and content \(base), which came at \(came)")
                break
            }
        }
    }

    // MARK: (c) Every acknowledged byte is somewhere, or was destroyed by right

    private func checkAcknowledged(
        _ account: Ledger.State, _ current: [String: [UInt8]], _ staged: [(path: String, bytes: [UInt8])],
        _ history: History, _ found: inout History
    ) {
        var present: Set<Block> = []
        for bytes in current.values { present.formUnion(Block.parse(bytes).blocks) }
        for file in staged { present.formUnion(Block.parse(file.bytes).blocks) }
        var missing: [Block.Key: Set<Int>] = [:]
        for (key, write) in history.writes where write.isAcknowledged || isToBeKept(write, history) {
            for offset in stride(from: write.offset, to: write.offset + write.count, by: Block.size)
            where !present.contains(Block(writer: key.writer, number: key.number, offset: offset)) {
                missing[key, default: []].insert(offset)
            }
        }
        if missing.isEmpty { return }
        let stored = account.versions.mapValues { Set(Block.parse($0.bytes).blocks) }
        let taken = Dictionary(grouping: account.destroyed, by: \.version.etag)
        for (key, offsets) in missing {
            guard let write = history.writes[key] else { continue }
            let opened = history.handles[write.handle].opened
            let names = history.names(of: write.path, since: opened)
            if isReplaced(write, names, since: opened, history) { continue }
            let lost = offsets.filter { offset in
                if isRewritten(write, key, offset, names, history) { return false }
                let block = Block(writer: key.writer, number: key.number, offset: offset)
                let holders = stored.filter { $0.value.contains(block) }.keys
                return !holders.contains { etag in
                    (taken[etag] ?? []).contains { $0.by == .foreign || setting.rule == .overwrite }
                }
            }
            guard let first = lost.min() else { continue }
            let wasStored = stored.values.contains { $0.contains { $0.key == key } }
            let what = write.isAcknowledged ? "acknowledged bytes" : "bytes of a flush that failed"
            found.violate(
                wasStored ? "(c) \(what) were lost again" : "(c) \(what) are nowhere",
                "\(lost.count) blocks of write \(key.number) of program \(key.writer) to \(write.path) "
                    + "at \(write.begin), the first at \(first)")
        }
    }

    /// A process that ends in peace leaves what it could not store in the staging area.
    private func isToBeKept(_ write: History.Write, _ history: History) -> Bool {
        write.isDone && !history.crashed.contains(write.life) && write.end < history.drained[write.life] ?? .max
    }

    /// Whether somebody has removed or replaced a file of these names since it was opened.
    private func isReplaced(
        _ write: History.Write, _ names: Set<String>, since opened: Int, _ history: History
    ) -> Bool {
        history.intents.enumerated().contains { index, intent in
            guard intent.end >= opened else { return false }
            switch intent.kind {
            // Folders above may get other names while the call is under way.
            case .unlink: return !names.isDisjoint(with: history.names(of: intent))
            case .rename(let to, _):
                let targets = history.names(of: to, since: intent.found)
                let taken = names.filter { name in targets.contains { isAtOrBelow(name, $0) } }
                if taken.isEmpty { return false }
                if write.path == to || !names.contains(where: { isAtOrBelow($0, intent.path) }) { return true }
                // Its own way there is no replacement; who comes after it does replace it.
                return history.intents.enumerated().contains { other, earlier in
                    guard case .rename(let place, _) = earlier.kind, other != index else { return false }
                    return earlier.begin <= intent.end && earlier.end >= opened
                        && taken.contains { isAtOrBelow($0, place) }
                }
            default: return false
            }
        }
    }

    private func isRewritten(
        _ write: History.Write, _ key: Block.Key, _ offset: Int, _ names: Set<String>, _ history: History
    ) -> Bool {
        let isCut = history.cuts.contains { cut in
            cut.end >= write.begin && cut.size <= offset
                && (cut.inode == write.inode && cut.life == write.life || names.contains(cut.path))
        }
        if isCut { return true }
        return history.writes.contains { other in
            other.key != key && other.value.end >= write.begin
                && (other.value.offset..<other.value.offset + other.value.count).contains(offset)
                && (other.value.inode == write.inode || names.contains(other.value.path))
        }
    }
}

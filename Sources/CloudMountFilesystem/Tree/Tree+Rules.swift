import CloudMountVFS

extension Tree {
    /// What the kernel has to be told to ask for again.
    struct Forgotten: Sendable {
        var entries: [(parent: InodeID, name: FileName, isDirectory: Bool)] = []
        var inodes: [InodeID] = []
        var isEmpty: Bool { entries.isEmpty && inodes.isEmpty }
    }

    /// Goes by other rules: what is known is valid no longer than they say, and what has no owner or mode has their defaults.
    func adopt(_ rules: TreeRules) -> Forgotten {
        let now = now()
        return withNames { names in
            let old = names.rules
            names.rules = rules
            var forgotten = Forgotten()
            if rules.metadataTTL < old.metadataTTL || rules.negativeTTL < old.negativeTTL {
                Self.shorten(names, rules, now, &forgotten)
            }
            if rules.hasOtherDefaults(than: old) {
                for node in names.all where !node.defaulted.isEmpty {
                    node.applyDefaults(rules)
                    if node.lookups > 0 { forgotten.inodes.append(node.id) }
                }
            }
            if rules.forced != old.forced {
                forgotten.inodes += names.all.compactMap { $0.lookups > 0 ? $0.id : nil }
            }
            return forgotten
        }
    }

    private static func shorten(_ names: Namespace, _ rules: TreeRules, _ now: UInt64, _ forgotten: inout Forgotten) {
        let known = rules.expiry(now)
        let absent = rules.absence(now).until
        for node in names.all {
            node.validUntil = min(node.validUntil, known)
            if node.lookups > 0, node.parent != 0 {
                forgotten.entries.append((node.parent, node.name, node.kind == .directory))
            }
            if node.lookups > 0 { forgotten.inodes.append(node.id) }
            guard let directory = node.directory else { continue }
            directory.completeUntil = min(directory.completeUntil, known)
            for (name, absence) in directory.absent where absence.until > absent {
                directory.setAbsent(name, Directory.Absence(since: absence.since, until: absent))
                forgotten.entries.append((node.id, name, false))
            }
        }
    }
}

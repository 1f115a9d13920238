public import CloudMountConfig
import CloudMountVFS

/// What a reload has done, or would do, mount by mount.
public struct ReloadReport: Codable, Sendable, Equatable {
    public enum Outcome: String, Codable, Sendable {
        case kept
        /// In place, while it is in use.
        case changed
        case added, removed, remounted
        /// It is in use: it is done as soon as it is not, or by `--force`.
        case pending
        /// What was running goes on, or is tried again.
        case failed
    }

    public struct Mount: Codable, Sendable, Equatable {
        public var name: String
        public var outcome: Outcome
        /// Keys of `mounts.yaml` that differ.
        public var settings: [String] = []
        /// Why it is pending or failed.
        public var reason: String?
    }

    public var isDryRun = false
    public var mounts: [Mount] = []
    /// Settings of the process that hold now.
    public var changed: [String] = []
    /// Settings that hold from the next start.
    public var needRestart: [String] = []
    /// What is risky in the file, as `file:line:column: text`.
    public var warnings: [String] = []

    public var hasFailed: Bool { mounts.contains { $0.outcome == .failed } }

    /// A line for each, for people.
    public var text: String {
        var lines = mounts.map { mount in
            var line = "\(mount.name): \(word(mount.outcome))"
            if !mount.settings.isEmpty { line += " (\(mount.settings.joined(separator: ", ")))" }
            return line + (mount.reason.map { ": \($0)" } ?? "")
        }
        if !changed.isEmpty { lines.append("changed: \(changed.joined(separator: ", "))") }
        if !needRestart.isEmpty { lines.append("from the next start: \(needRestart.joined(separator: ", "))") }
        return lines.map(\.printable).joined(separator: "\n") + "\n"
    }

    private func word(_ outcome: Outcome) -> String {
        switch (outcome, isDryRun) {
        case (.changed, false): "changed in place"
        case (.pending, _): "pending"
        case (.added, true): "would be added"
        case (.removed, true): "would be removed when it is not in use"
        case (.remounted, true): "would be remounted when it is not in use"
        case (.changed, true): "would be changed in place"
        default: outcome.rawValue
        }
    }
}

extension ReloadReport {
    /// What a reload would do in a daemon that serves all of `old`.
    public init(from old: Configuration, to new: Configuration) {
        let diff = ConfigurationDiff(from: old, mounts: old.mounts, to: new)
        self.init(isDryRun: true, diff, new)
    }

    init(isDryRun: Bool, _ diff: ConfigurationDiff, _ new: Configuration) {
        self.init(
            isDryRun: isDryRun, mounts: isDryRun ? diff.mounts.map { Mount($0) } : [], changed: diff.live,
            needRestart: diff.restart, warnings: new.warnings.map(\.description))
    }
}

extension ReloadReport.Mount {
    /// What a step would come to if nothing is in its way.
    init(_ mount: ConfigurationDiff.Mount) {
        switch mount.step {
        case .keep: self.init(name: mount.name, outcome: .kept)
        case .add: self.init(name: mount.name, outcome: .added)
        case .remove: self.init(name: mount.name, outcome: .removed)
        case .change(let diff):
            self.init(
                name: mount.name, outcome: diff.remount.isEmpty ? .changed : .remounted, settings: diff.settings)
        }
    }
}

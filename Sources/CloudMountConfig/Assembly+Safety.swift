import CloudMountVFS

/// Checks over several parts of the file: paths that clash, secrets that everyone can read.
extension Assembly {
    mutating func checkPaths(_ configuration: Configuration) {
        var taken: [(path: String, name: String, line: Int)] = []
        for mount in fields.list("mounts") {
            guard let path = mount.text("path") else { continue }
            let mark = mount.mark("path")
            let name = mount.text("name") ?? "?"
            if path == "/" { problems.error(mark, "'path: /' would hide the whole system") }
            for other in taken {
                if path == other.path {
                    problems.error(mark, "the path \(path) is taken by the mount '\(other.name)' on line \(other.line)")
                } else if Self.contains(other.path, path) {
                    problems.error(
                        mark,
                        "the path \(path) lies inside the mount '\(other.name)' (\(other.path), line \(other.line))")
                } else if Self.contains(path, other.path) {
                    problems.error(
                        mark,
                        "the path \(path) would hide the mount '\(other.name)' (\(other.path), line \(other.line))")
                }
            }
            for (what, inner) in [
                ("the cache directory", configuration.cache.directory),
                ("the control socket", configuration.controlSocket),
            ] where path != "/" && (path == inner || Self.contains(path, inner)) {
                problems.error(mark, "the path \(path) would hide \(what) \(inner)")
            }
            if Self.contains(configuration.cache.directory, path) {
                problems.error(
                    mark, "the path \(path) lies inside the cache directory \(configuration.cache.directory)")
            }
            taken.append((path, name, mark.line))
        }
    }

    /// `inner` lies below `outer`; by bytes.
    private static func contains(_ outer: String, _ inner: String) -> Bool {
        inner.utf8.starts(with: (outer == "/" ? "/" : outer + "/").utf8) && outer.utf8.count < inner.utf8.count
    }

    /// Mounts and credentials.
    private var sectionsOfProviders: [Fields] {
        var sections = fields.table("credentials").map(\.fields)
        for mount in fields.list("mounts") {
            sections.append(mount)
            if let credentials = mount.section("credentials") { sections.append(credentials) }
        }
        return sections
    }

    /// Who may write the file would run programs as the daemon's user.
    mutating func refuseCommands(mode: UInt32, owner: UInt32) {
        guard let fault = CommandFile.fault("this file", mode: mode, owner: owner, user: places.uid) else { return }
        for section in sectionsOfProviders {
            for field in section.all where field.setting.isCommand {
                problems.error(field.mark, "'\(field.setting.name)' names a command, and \(fault)")
            }
        }
    }

    mutating func warnOfSecrets(mode: UInt32) {
        for section in sectionsOfProviders {
            for field in section.all where field.setting.secret && field.inPlace {
                guard case .option = field.value, field.setting.name != "credentials" else { continue }
                problems.warn(
                    field.mark,
                    "'\(field.setting.name)' is written here, and everyone can read this file (mode 0"
                        + "\(String(mode & 0o777, radix: 8))); chmod 600 it, or use ${env:…} or ${file:…}")
            }
        }
    }
}

import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Glibc

/// The daemons that mounts have for themselves, beside that of the file: of URLs, and of lines of fstab.
extension ConfigurationFile {
    /// Those that answer, by the names of their mounts. With `-f` those that were started with the same file.
    func ownDaemons() -> [ControlClient] {
        let usual = UserPlaces(environment: Self.environment).controlSocket
        let folder = String(usual.dropLast("/control.sock".utf8.count))
        let wanted = file.map { Self.resolved($0) }
        return Self.names(in: folder).filter { $0.hasPrefix("mount-") && $0.hasSuffix(".sock") }.sorted().compactMap {
            name in
            let client = ControlClient(socket: "\(folder)/\(name)", owners: Self.trusted)
            // One that was killed has left its socket.
            guard let status = try? client.ask(ControlRequest(.status)).status else { return nil }
            guard let wanted else { return client }
            return wanted.utf8.elementsEqual(status.configuration.utf8) ? client : nil
        }
    }

    /// The daemons that serve these places, each with those that are its own; without any, all daemons.
    func daemons(for words: [String]) throws -> [(client: ControlClient, words: [String])] {
        if words.isEmpty { return [(try client(of: nil), [])] + ownDaemons().map { ($0, []) } }
        var found: [(client: ControlClient, words: [String])] = []
        for word in words {
            let client = try client(of: Self.nameOrPath(word))
            if let index = found.firstIndex(where: { $0.client.path == client.path }) {
                found[index].words.append(word)
            } else {
                found.append((client, [word]))
            }
        }
        return found
    }

    /// Has each of them do it, one after the other, also when one fails.
    /// - Returns: what those that run have said.
    /// - Throws: exits with 3 when one that is asked for something of its own does not run, or none at all.
    func askAll(
        _ words: [String], _ request: (_ words: [String]) throws -> ControlRequest,
        progress: (ControlAnswer) -> Void = { _ in }
    ) throws -> [ControlAnswer] {
        var answers: [ControlAnswer] = []
        var missing: VFSError?
        for daemon in try daemons(for: words) {
            let request = try request(daemon.words)
            do throws(VFSError) { answers.append(try daemon.client.ask(request, progress: progress)) } catch {
                if error.code == .notFound, words.isEmpty {
                    missing = missing ?? error
                } else if error.code == .notFound {
                    throw ExitStatus.noDaemon.error(error.message)
                } else {
                    answers.append(ControlAnswer(ok: false, error: error.message))
                }
            }
        }
        if answers.isEmpty, let missing { throw ExitStatus.noDaemon.error(missing.message) }
        return answers
    }

    /// The folders of caches that are there: that of the file, and those of mounts that have one for themselves.
    static func caches(beside directories: [String]) -> [String] {
        var found: [String] = []
        for directory in directories {
            guard let slash = directory.utf8.lastIndex(of: UInt8(ascii: "/")) else { continue }
            let folder = slash == directory.startIndex ? "/" : String(directory[..<slash])
            let base = directory[directory.utf8.index(after: slash)...] + "-"
            for name in names(in: folder).sorted() where name.hasPrefix(base) {
                let path = folder == "/" ? "/\(name)" : "\(folder)/\(name)"
                let isCache = access(path + "/staged", F_OK) == 0 && access(path + "/lock", F_OK) == 0
                if isCache, !found.contains(path) { found.append(path) }
            }
        }
        return found
    }

    static func resolved(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return absolute(path) }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
        }
        return names
    }
}

import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Glibc

/// Whoever can tell what is kept: daemons that run, and the caches of those that do not.
struct RecoverySources {
    private let source: ConfigurationFile

    init(_ source: ConfigurationFile) { self.source = source }

    /// What all of them say, as one answer. Blocks.
    /// - Throws: exits with the error of one that cannot be asked, or when what is named is kept nowhere, or in several places.
    func ask(_ request: ControlRequest) throws -> ControlAnswer {
        let answers = try all(request)
        var answer = ControlAnswer(kept: [])
        var unnamed = 0
        let good = answers.filter { $0.ok && $0.kept != nil }
        guard !good.isEmpty else {
            // One that knows the mount says more than one that does not, and that more than one that has nothing.
            func rank(_ error: String) -> Int {
                error.hasPrefix("nothing is kept in") ? 2 : error.hasPrefix("there is no mount") ? 1 : 0
            }
            let error = answers.compactMap(\.error).min { rank($0) < rank($1) }
            throw ExitStatus.failure.error(error ?? "refused")
        }
        for one in good {
            answer.kept? += one.kept ?? []
            unnamed += one.unnamed ?? 0
            for remark in one.remarks ?? [] { TerminalLog.write("\(remark.printable) (warning)\n") }
        }
        if unnamed > 0 { answer.unnamed = unnamed }
        if let name = request.name, let kept = answer.kept, kept.count > 1 {
            throw ExitStatus.failure.error(
                "several are kept of '\(name)': \(kept.map(\.name).joined(separator: ", "))")
        }
        return answer
    }

    private func all(_ request: ControlRequest) throws -> [ControlAnswer] {
        var answers: [ControlAnswer] = []
        if let answer = try source.askIfRunning(request) { answers.append(answer) }
        let isServed = !answers.isEmpty
        for daemon in source.ownDaemons() {
            do throws(VFSError) { answers.append(try daemon.ask(request)) } catch {
                // It has just ended: its cache is looked at below.
                if error.code != .notFound, error.code != .connectionFailed {
                    throw ExitStatus.failure.error(error.message)
                }
            }
        }
        let configuration = try configuration()
        let cache = configuration.cache
        let names = Set(configuration.mounts.map(\.name))
        if !isServed { answers.append(try offline(request, cache, names, isFile: true)) }
        let usual = UserPlaces(environment: ConfigurationFile.environment).cacheDirectory
        for place in ConfigurationFile.caches(beside: [cache.directory] + (source.file == nil ? [usual] : [])) {
            var own = cache
            own.directory = place
            let answer = try offline(request, own, names, isFile: false)
            // Its daemon has answered, or there is nothing to be had from it.
            if answer.error != Self.held { answers.append(answer) }
        }
        return answers
    }

    private static let held = "a daemon has it"

    /// Without `-f` there need not be a file.
    private func configuration() throws -> Configuration {
        guard source.file == nil, access(source.path, F_OK) != 0 else { return try source.load(quietly: true) }
        do throws(ConfigurationError) {
            return try MountsFile(path: source.path).configuration(
                providers: CloudMountProgram.providers, environment: ConfigurationFile.environment)
        } catch { throw ExitStatus.configuration.error(error.description) }
    }

    /// What the daemon would say, where there is none.
    /// - Parameter isFile: of the mounts that the file has; else of one mount that has a cache for itself.
    private func offline(
        _ request: ControlRequest, _ cache: Configuration.Cache, _ names: Set<String>, isFile: Bool
    ) throws -> ControlAnswer {
        do throws(VFSError) {
            if let answer = try OfflineRecovery(cache, names: names).ask(request) { return answer }
            let isKnown = request.target.map { names.contains($0) } ?? true
            if isKnown, request.name == nil { return ControlAnswer(kept: []) }
            return ControlAnswer(ok: false, error: "nothing is kept in \(cache.directory)")
        } catch {
            if !isFile {
                if error.code != .busy { TerminalLog.write("\(error.message.printable) (warning)\n") }
                return ControlAnswer(ok: false, error: Self.held)
            }
            throw ExitStatus.failure.error(error.message)
        }
    }
}

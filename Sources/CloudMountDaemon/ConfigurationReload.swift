import CloudMountConfig
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Logging

/// Puts another state of the file in the place of the one in use: checked whole before anything is touched, and one at a
/// time.
actor ConfigurationReload {
    enum Refusal: Error {
        /// The file is wrong; nothing has changed.
        case wrong(ConfigurationError)
        /// Another reload is under way.
        case busy
        case stopping
        /// The file, or one that it refers to, is on a disk that does not answer.
        case slow
        /// Of the mounts that this daemon was started for, the file has none.
        case empty

        static let tooSlow = "the file could not be read within 30 s; nothing has changed"
        static let nothingLeft = "the file has none of the mounts that this daemon was started for; nothing has changed"
    }

    private var configuration: Configuration
    private let load: @Sendable () throws(ConfigurationError) -> Configuration
    private let supervisor: Supervisor
    private let staging: StagingArea
    private let memory: BufferPool
    private let output: LogOutput
    private let notices: ServiceNotices
    private let logger: Logger
    private let disk = BlockingPool(name: "cm-load", width: 1)
    private var isRunning = false
    /// A signal came while another reload was under way.
    private var isWantedAgain = false

    init(
        _ configuration: Configuration, load: @escaping @Sendable () throws(ConfigurationError) -> Configuration,
        supervisor: Supervisor, staging: StagingArea, memory: BufferPool, output: LogOutput,
        notices: ServiceNotices = ServiceNotices(), logger: Logger
    ) {
        self.configuration = configuration
        self.load = load
        self.supervisor = supervisor
        self.staging = staging
        self.memory = memory
        self.output = output
        self.notices = notices
        self.logger = logger
    }

    /// - Parameters:
    ///   - force: what needs a remount is remounted though it is in use; programs keep the files that they have open.
    ///   - dryRun: only tells.
    func run(force: Bool = false, dryRun: Bool = false) async throws(Refusal) -> ReloadReport {
        if await supervisor.isStopping { throw .stopping }
        guard !isRunning else { throw .busy }
        isRunning = true
        if !dryRun { notices.beginReload() }
        defer {
            isRunning = false
            if !dryRun { notices.endReload() }
        }
        let load = load
        let loaded = await within(.seconds(30)) { [disk] in
            await disk.run { () -> Result<Configuration, ConfigurationError> in
                do throws(ConfigurationError) { return .success(try load()) } catch { return .failure(error) }
            }
        }
        let new: Configuration
        switch loaded {
        case nil: throw .slow
        case .success(let configuration): new = configuration
        case .failure(let error): throw .wrong(error)
        }
        guard !new.mounts.isEmpty else { throw .empty }
        let diff = ConfigurationDiff(from: configuration, mounts: await supervisor.configurations, to: new)
        var report = ReloadReport(isDryRun: dryRun, diff, new)
        if dryRun { return report }
        memory.limit = new.memory
        staging.limit(to: new.cache.size, keepFree: new.cache.keepFree)
        output.set(new.log)
        report.mounts = await supervisor.reload(new.mounts, force: force)
        // What only a start reads is still as it was.
        let before = configuration
        configuration = new
        configuration.cache.directory = before.cache.directory
        configuration.controlSocket = before.controlSocket
        tell(report)
        return report
    }

    /// As `run`, by a signal: nobody waits for an answer, so it goes to the log; one that comes while another is under way
    /// follows it.
    func runBySignal() async {
        repeat {
            isWantedAgain = false
            do throws(Refusal) {
                _ = try await run()
            } catch {
                switch error {
                case .busy: isWantedAgain = true
                case .stopping: return
                case .slow: logger.error("\(Refusal.tooSlow)")
                case .empty: logger.error("\(Refusal.nothingLeft)")
                case .wrong(let error):
                    for problem in error.problems { logger.error("\(problem.description)") }
                    logger.error("the file is wrong; the configuration stays as it is")
                }
            }
            while isWantedAgain, isRunning { try? await Task.sleep(for: .milliseconds(50)) }
        } while isWantedAgain
    }

    private func tell(_ report: ReloadReport) {
        for warning in report.warnings { logger.warning("\(warning)") }
        for mount in report.mounts where mount.outcome != .kept {
            let level: Logger.Level = mount.outcome == .failed ? .error : .notice
            let details = mount.settings.isEmpty ? "" : " (\(mount.settings.joined(separator: ", ")))"
            logger.log(
                level: level,
                "reload: \(mount.name): \(mount.outcome.rawValue)\(details)\(mount.reason.map { ": \($0)" } ?? "")")
        }
        if !report.needRestart.isEmpty {
            logger.warning("from the next start: \(report.needRestart.joined(separator: ", "))")
        }
    }
}

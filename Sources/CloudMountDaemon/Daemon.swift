import CloudMountCache
public import CloudMountConfig
import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS
import Glibc
public import Logging

/// The process that serves the mounts of one configuration.
public struct Daemon: Sendable {
    private let configuration: Configuration
    private let logger: Logger
    private let announce: @Sendable (String) -> Void
    private let choose: @Sendable (String) -> @Sendable () -> Void
    private let whenTried: (@Sendable () -> Void)?
    private let output: LogOutput
    private let notices: ServiceNotices
    private let load: @Sendable () throws(ConfigurationError) -> Configuration

    /// - Parameters:
    ///   - configuration: with the mounts to serve.
    ///   - output: what the loggers go by; a reload changes it.
    ///   - load: reads the file again, for a reload.
    ///   - notices: to the service manager, if any.
    ///   - choose: what `load` returns has this mount from now on, if the file has it; what it returns takes that back.
    ///   - whenTried: called once, when each mount came up or failed.
    ///   - announce: takes one line of progress for a person.
    public init(
        configuration: Configuration, logger: Logger, output: LogOutput, notices: ServiceNotices = ServiceNotices(),
        load: @escaping @Sendable () throws(ConfigurationError) -> Configuration,
        choose: @escaping @Sendable (String) -> @Sendable () -> Void = { _ in {} },
        whenTried: (@Sendable () -> Void)? = nil,
        announce: @escaping @Sendable (String) -> Void
    ) {
        self.configuration = configuration
        self.logger = logger
        self.output = output
        self.notices = notices
        self.load = load
        self.announce = announce
        self.choose = choose
        self.whenTried = whenTried
    }

    /// Serves until every mount has ended: unmounted from outside, or by SIGTERM or SIGINT, which drain. A second of
    /// these gives up the drain. SIGHUP reads the file again.
    /// - Parameter signals: of `ForegroundProcess`.
    public func run(signals: AsyncStream<Int32>) async -> ExitStatus {
        ProcessLimits.apply()
        do throws(VFSError) {
            return try await serve(signals)
        } catch {
            logger.critical("\(error.message)")
            return .failure
        }
    }

    private func serve(_ signals: AsyncStream<Int32>) async throws(VFSError) -> ExitStatus {
        let cache = configuration.cache
        let staging = try await openStaging(cache)
        let journal = openJournal(staging)
        defer { journal?.close() }
        let versions = openVersions(staging)
        let names = openNames(staging)
        let memory = BufferPool(limit: configuration.memory)
        let engine = KernelMounts(
            staging: staging, journal: journal, versions: versions, names: names, memory: memory,
            control: configuration.controlSocket, logger: logger)
        let supervisor = Supervisor(
            mounts: configuration.mounts, engine: engine, logger: logger, announce: announce)
        let reload = ConfigurationReload(
            configuration, load: load, supervisor: supervisor, staging: staging, memory: memory, output: output,
            notices: notices, logger: logger)
        let control = ControlDesk(
            supervisor: supervisor, configuration: configuration, staging: staging, journal: journal, memory: memory,
            reload: reload, choose: choose)
        let server = try ControlServer(path: configuration.controlSocket) { await control.answer($0, $1) }
        let obedience = Task { await self.obey(signals, supervisor, reload) }
        if let whenTried {
            Task {
                while await !supervisor.serviceLook.areTried { try? await Task.sleep(for: .milliseconds(20)) }
                whenTried()
            }
        }
        let service = Task { await ServiceWatch(notices, supervisor, logger: logger).run() }
        let endings = await supervisor.run()
        obedience.cancel()
        service.cancel()
        notices.stopping()
        await server.close()
        await BlockingPool.shared.run("staging") {
            staging.finishRemovals(seconds: 10)
            versions?.finish(seconds: 10)
            versions?.close()
        }
        await notices.flush()
        return report(endings, staging)
    }

    /// Who has the directory may be about to end: a daemon that is restarted, or `cloudmount recover`.
    private func openStaging(_ cache: Configuration.Cache) async throws(VFSError) -> StagingArea {
        for _ in 0..<30 {
            do throws(VFSError) {
                return try StagingArea(directory: cache.directory, limit: cache.size, keepFree: cache.keepFree)
            } catch {
                guard error.code == .busy else { throw error }
            }
            try? await Task.sleep(for: .milliseconds(100))
        }
        return try StagingArea(directory: cache.directory, limit: cache.size, keepFree: cache.keepFree)
    }

    /// Nil when there is none to be had: the mounts serve all the same, and what they cannot store has no record.
    private func openJournal(_ staging: StagingArea) -> Journal? {
        do throws(VFSError) {
            let journal = try Journal(directory: staging.directory)
            try tell(journal, staging)
            return journal
        } catch {
            logger.error(
                "there is no journal, so nothing is written back, and what a crash leaves has no name: \(error)")
            tell(staging, recorded: [])
            return nil
        }
    }

    /// Nil when there is none to be had: nothing is kept on local disk.
    private func openVersions(_ staging: StagingArea) -> VersionStore? {
        do throws(VFSError) {
            return try VersionStore(staging)
        } catch {
            logger.error("what is read is not kept on local disk: \(error)")
            return nil
        }
    }

    /// Nil when there is none to be had: names are asked for again after a restart.
    private func openNames(_ staging: StagingArea) -> NamesFolder? {
        do throws(VFSError) {
            return try NamesFolder(staging)
        } catch {
            logger.error("what is known of names does not outlive this process: \(error)")
            return nil
        }
    }

    /// What earlier runs have left.
    private func tell(_ journal: Journal, _ staging: StagingArea) throws(VFSError) {
        if let damage = journal.damage {
            let place = damage.path.map { "; it lies in \($0) now" } ?? ""
            logger.error(
                "the journal was damaged (\(damage.reason))\(place); \(damage.carried) writes were carried over")
        }
        let names = Set(configuration.mounts.map(\.name))
        let recorded = try journal.staged().names
        for (mount, count) in try journal.mounts().sorted(by: { $0.key < $1.key }) {
            if names.contains(mount) { continue }
            logger.warning("\(count) files of the mount '\(mount)', which is not in the configuration, are not stored")
        }
        tell(staging, recorded: recorded)
    }

    private func tell(_ staging: StagingArea, recorded: Set<String>) {
        for leftover in staging.leftovers where !recorded.contains(leftover.name) {
            logger.warning("bytes that an earlier run did not store are in \(leftover.path) (\(leftover.size) bytes)")
        }
    }

    private func obey(_ signals: AsyncStream<Int32>, _ supervisor: Supervisor, _ reload: ConfigurationReload) async {
        var count = 0
        for await signal in signals {
            if signal == SIGHUP {
                Task { await reload.runBySignal() }
                continue
            }
            count += 1
            if count == 1 {
                notices.stopping()
                announce("stopping: what is not stored yet is being stored; a second signal gives that up")
                Task { await self.showProgress(supervisor) }
                await supervisor.stop()
            } else {
                await supervisor.abandon()
            }
        }
    }

    private func showProgress(_ supervisor: Supervisor) async {
        var pause = Duration.seconds(1)
        while await !supervisor.isOver {
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, .seconds(10))
            let dirty = await supervisor.dirty
            if dirty.files > 0 { announce("\(dirty.files) files with \(dirty.bytes >> 20) MiB are not stored yet") }
        }
    }

    /// Tells what was not stored and where its bytes are.
    private func report(_ endings: [String: MountLife.Ending], _ staging: StagingArea) -> ExitStatus {
        var status = ExitStatus.success
        for (name, ending) in endings.sorted(by: { $0.key < $1.key }) where !ending.isClean {
            status = .failure
            let files = max(ending.dirtyFiles, ending.stagedPaths.count)
            logger.error(
                "mount '\(name)' left \(files) files with \(ending.dirtyBytes) bytes that the store does not have"
            )
        }
        if status == .failure {
            let earlier = Set(staging.leftovers.map(\.path))
            for path in Self.files(in: staging.directory + "/staged") where !earlier.contains(path) {
                logger.error("bytes that were not stored are kept in \(path)")
            }
        }
        return status
    }

    /// The files of a folder that hold anything.
    private static func files(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var paths: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            var status = stat()
            let path = "\(folder)/\(name)"
            guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size > 0 else { continue }
            paths.append(path)
        }
        return paths.sorted()
    }
}

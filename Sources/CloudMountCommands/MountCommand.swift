public import ArgumentParser
import CloudMountConfig
public import CloudMountDaemon
import CloudMountVFS
import Glibc
public import Logging

struct MountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mount", abstract: "Mounts, and serves until everything is unmounted.",
        usage: """
            cloudmount mount [-f <mounts.yaml>] [<name> ...] [--detach]
            cloudmount mount <URL> <path> [--profile <name>] [--endpoint <URL>] [--cache <policy>] [--read-only] [--save]
            """,
        discussion: """
            In the foreground, or with --detach in the background: then it returns when each mount is up (0) or was tried \
            (1, and names those that are not up and why; they are tried again).

            SIGTERM and SIGINT store what is not stored yet and unmount; a second one gives that up. A mount that fails \
            is tried again while the others serve. When every mount has been unmounted the command ends. SIGHUP reads the \
            file again, as 'cloudmount reload' does.

            One bucket needs no file: s3://bucket/prefix, b2://bucket, file:///srv/folder, https://host/webdav; \
            'cloudmount providers' names all forms. What a file says of cache, policies and credentials holds for it too. It has \
            a daemon and a cache of its own: 'cloudmount status', 'unmount', 'sync' and 'wait' find it by its name or path.
            """)

    @OptionGroup var source: ConfigurationFile
    @OptionGroup(title: "One bucket by its URL") var store: StoreOptions
    @Option(
        help: ArgumentHelp(
            "What a bucket by its URL is called. (default: the end of the URL)", valueName: "name"))
    var name: String?
    @Flag(help: "Add the bucket to mounts.yaml, as 'cloudmount add' does.")
    var save = false
    @Option(help: "trace, debug, info, notice, warning, error or critical. (default: what the file says, or notice)")
    var logLevel: Logger.Level?
    @Option(help: "text or json. (default: what the file says, or text)")
    var logFormat: TerminalLog.Format?
    @Flag(help: "Return when the mounts are up, and serve in the background.")
    var detach = false
    @Option(
        help: ArgumentHelp(
            "With --detach: where the log goes. (default: daemon.log in the cache's folder)", valueName: "file"))
    var logFile: String?
    /// The process that `--detach` starts.
    @Flag(help: .hidden)
    var background = false
    /// For mount.cloudmount: a daemon for one mount, which is given up when it does not come up.
    @Flag(help: .hidden)
    var helper = false
    /// For mount.cloudmount: where the one mount must be.
    @Option(help: .hidden)
    var at: String?
    /// For mount.cloudmount.
    @Flag(help: .hidden)
    var noexec = false
    @Flag(help: .hidden)
    var nosymfollow = false
    @Flag(help: .hidden)
    var ro = false
    @Argument(help: "Only these mounts (default: all); or a URL and where to mount it.")
    var names: [String] = []

    private var isURL: Bool { names.first.map { StoreURL($0) != nil } ?? false }

    func validate() throws {
        if isURL, names.count != 2 { throw ValidationError("Give the URL and one path.") }
        if !isURL, store.isGiven || name != nil || save {
            throw ValidationError("Such options are for a bucket by its URL: 'mount URL PATH'.")
        }
        if logFile != nil, !detach, !background { throw ValidationError("--log-file belongs to --detach.") }
    }

    func run() throws {
        let file = ConfigurationFile.absolute(source.path)
        let flags = MountFlags(readOnly: ro, noExec: noexec, noSymlinkFollow: nosymfollow)
        var choice = MountChoice(file: file, names: names, isOwn: helper, flags: flags)
        if isURL {
            let entry: MountEntry
            do throws(MountEntry.Fault) { entry = try store.entry(names[0], at: names[1], name: name) } catch {
                throw ExitStatus.usage.error(error.message)
            }
            // Whoever serves the file serves the new mount too.
            if save, let answer = try source.add(entry) {
                throw answer.ok ? ExitStatus.success.error() : ExitStatus.failure.error(answer.error ?? "refused")
            }
            choice = MountChoice(file: file, names: [entry.name], entry: save ? nil : entry, flags: flags)
        }
        let configuration = try loaded(choice)
        if detach { return try Detached(choice, configuration, self).run() }
        serve(configuration, choice)
    }

    /// - Throws: what is wrong with the file, or with the names.
    private func loaded(_ choice: MountChoice) throws -> Configuration {
        let configuration: Configuration
        do throws(ConfigurationError) { configuration = changed(try choice.load()) } catch {
            throw ExitStatus.configuration.error(error.description)
        }
        if configuration.mounts.isEmpty, names.isEmpty {
            throw ExitStatus.configuration.error(
                "\(configuration.file): there are no mounts to serve; 'cloudmount add' writes one")
        }
        for name in isURL ? [] : names where !configuration.mounts.contains(where: { $0.name == name }) {
            let all = try source.load(quietly: true)
            let known = all.mounts.map(\.name).joined(separator: ", ")
            throw ExitStatus.usage.error("there is no mount '\(name)' in \(all.file); there are \(known)")
        }
        if let at, let mount = configuration.mounts.first, mount.path != ConfigurationFile.absolute(at) {
            throw ExitStatus.configuration.error(
                "\(configuration.file): the mount '\(mount.name)' is at \(mount.path), not at \(at)")
        }
        return configuration
    }

    private func serve(_ configuration: Configuration, _ choice: MountChoice) -> Never {
        let output = LogOutput(
            level: Logger.Level(rawValue: configuration.log.level) ?? .notice,
            format: TerminalLog.Format(rawValue: configuration.log.format.rawValue) ?? .text,
            isJournal: LogOutput.isJournal(environment: ConfigurationFile.environment))
        LoggingSystem.bootstrap { TerminalLog(label: $0, output: output) }
        let onTerminal = isatty(STDERR_FILENO) == 1
        let logger = Logger(label: "cloudmount")
        for warning in configuration.warnings {
            if configuration.log.format == .json || output.isJournal {
                logger.warning("\(warning.description)")
            } else {
                TerminalLog.write("\(warning.description.printable) (warning)\n")
            }
        }
        let notices = ServiceNotices(environment: ConfigurationFile.environment)
        // They are for this process alone, not for the programs that it starts.
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] { unsetenv(name) }
        // In the background nobody knows which folder it would keep in use.
        if background { _ = chdir("/") }
        let daemon = Daemon(
            configuration: configuration, logger: logger, output: output, notices: notices,
            load: { [self] () throws(ConfigurationError) in self.changed(try choice.load()) },
            choose: { choice.choose($0) },
            // Until then autofs must see who mounts in the process group of mount(8): anybody else would wait for the mount.
            whenTried: { [helper] in if helper { _ = setsid() } },
            announce: { line in
                if onTerminal { TerminalLog.post(line.printable + "\n") } else { logger.notice("\(line)") }
            })
        ForegroundProcess.run { signals in await daemon.run(signals: signals) }
    }

    /// For the process that serves in place of this one.
    func backgroundWords(_ configuration: Configuration) -> [String] {
        var words = CloudMountProgram.words.filter { $0 != "--detach" }
        if save {
            words = ["mount", "-f", ConfigurationFile.absolute(source.path)] + configuration.mounts.map(\.name)
            if let logLevel { words += ["--log-level", logLevel.rawValue] }
            if let logFormat { words += ["--log-format", logFormat.rawValue] }
        }
        words.insert("--background", at: min(1, words.count))
        return words
    }

    /// What the command line makes of a file.
    private func changed(_ file: Configuration) -> Configuration {
        var configuration = file
        if let logLevel { configuration.log.level = logLevel.rawValue }
        if let logFormat { configuration.log.format = Configuration.Log.Format(rawValue: logFormat.rawValue) ?? .text }
        return configuration
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
extension TerminalLog.Format: ExpressibleByArgument {}

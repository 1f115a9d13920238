import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountVFS
import Glibc

extension ConfigurationFile {
    /// Writes a mount into the file, and has whoever serves the file serve it.
    /// - Returns: nil when no daemon is running.
    func add(_ entry: MountEntry) throws -> ControlAnswer? {
        try change { (file: MountsFile) throws(ConfigurationError) in
            try file.adding(entry, providers: CloudMountProgram.providers, environment: Self.environment).file
        }
        TerminalLog.write("the mount '\(entry.name)' is in \(Self.absolute(path).printable) now\n")
        return try askIfRunning(ControlRequest(.mount, target: entry.name))
    }

    /// - Throws: what is wrong with the file, as it is or would be; then it stays as it was.
    func change(_ change: (MountsFile) throws(ConfigurationError) -> MountsFile) throws {
        do throws(ConfigurationError) {
            try change(try MountsFile(path: Self.absolute(path))).save()
        } catch {
            throw ExitStatus.configuration.error(error.description)
        }
    }
}

struct AddCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Writes a bucket into mounts.yaml, and mounts it if the daemon runs.",
        discussion: """
            All that the file says, comments too, stays as it is, and what it was is kept beside it as FILE.bak. A file that \
            does not exist is made, for its owner alone. 'cloudmount providers' names the forms of URLs.
            """)

    @OptionGroup var source: ConfigurationFile
    @OptionGroup var store: StoreOptions
    @Argument(help: "What the mount is called.") var name: String
    @Argument(help: "The bucket, such as s3://bucket/prefix.") var url: String
    @Argument(help: "Where it is mounted.") var path: String

    func run() throws {
        let entry: MountEntry
        do throws(MountEntry.Fault) { entry = try store.entry(url, at: path, name: name) } catch {
            throw ExitStatus.usage.error(error.message)
        }
        if let answer = try source.add(entry), !answer.ok { throw ExitStatus.failure.error(answer.error ?? "refused") }
    }
}

struct RemoveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Takes a mount out of mounts.yaml, and unmounts it if the daemon runs.",
        discussion: """
            All else in the file, comments too, stays as it is, and what it was is kept beside it as FILE.bak. The bucket is not \
            touched; what is not stored yet is stored before. A mount in use goes as soon as it is not, or by --force.
            """)

    @OptionGroup var source: ConfigurationFile
    @Flag(help: "Unmount it though it is in use; programs keep the files that they have open.")
    var force = false
    @Argument(help: "The mount.") var name: String

    func run() throws {
        var isLast = false
        try source.change { (file: MountsFile) throws(ConfigurationError) in
            let (changed, configuration) = try file.removing(
                name, providers: CloudMountProgram.providers, environment: ConfigurationFile.environment)
            isLast = configuration.mounts.isEmpty
            return changed
        }
        TerminalLog.write(
            "the mount '\(name)' is not in \(ConfigurationFile.absolute(source.path).printable) any more\n")
        // A daemon without a mount ends, which a reload never has it do.
        let request =
            isLast ? ControlRequest(.unmount, target: name, lazy: force) : ControlRequest(.reload, force: force)
        if let answer = try source.askIfRunning(request) { try ReloadCommand.tell(answer) }
    }
}

struct EditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "edit", abstract: "Opens mounts.yaml in an editor, checks what comes of it, and applies it.",
        discussion: """
            $VISUAL, $EDITOR or vi gets a copy. What is wrong with it is told as file:line:column and can be mended; nothing wrong \
            ever takes the file's place. Then what a reload will do is shown, the file is replaced (what it was is kept \
            beside it as FILE.bak), and the daemon goes by it, if it runs. On a terminal each step asks; elsewhere a wrong copy \
            ends with 78 and is kept.
            """)

    @OptionGroup var source: ConfigurationFile
    @Flag(help: "Apply without asking.")
    var yes = false
    @Flag(help: "Remount and remove also what is in use; programs keep the files that they have open.")
    var force = false

    func run() throws {
        let path = ConfigurationFile.absolute(source.path)
        let file: MountsFile
        do throws(ConfigurationError) { file = try MountsFile(path: path) } catch {
            throw ExitStatus.configuration.error(error.description)
        }
        // The daemon listens where the file said so when it started.
        let socket = try? Configuration.controlSocket(file: path, environment: ConfigurationFile.environment)
        let copy = try EditedCopy(of: file)
        while true {
            let bytes = try copy.edit()
            guard bytes != file.bytes else {
                copy.remove()
                return TerminalLog.write("nothing has changed\n")
            }
            do {
                let changed = file.replacing(bytes)
                print(try plan(from: file, to: changed), terminator: "")
                switch yes ? "y" : ask("Apply it? [y]es, [e]dit again, [q]uit", among: "yeq", elsewhere: "y") {
                case "y": try changed.save()
                case "e": continue
                default: throw copy.kept(.failure)
                }
            } catch let error as ConfigurationError {
                TerminalLog.write(CloudMount.printable(error.description) + "\n")
                guard ask("[e]dit again, [q]uit", among: "eq", elsewhere: "q") == "e" else {
                    throw copy.kept(.configuration)
                }
                continue
            }
            break
        }
        copy.remove()
        let request = ControlRequest(.reload, force: force)
        if let answer = try source.askIfRunning(request, at: socket) { try ReloadCommand.tell(answer) }
    }

    /// What a reload will do, and what is risky in the file.
    /// - Throws: what is wrong with it.
    private func plan(from old: MountsFile, to new: MountsFile) throws(ConfigurationError) -> String {
        let (providers, environment) = (CloudMountProgram.providers, ConfigurationFile.environment)
        let configuration = try new.configuration(providers: providers, environment: environment)
        for warning in configuration.warnings { TerminalLog.write("\(warning.description.printable) (warning)\n") }
        guard let before = try? old.configuration(providers: providers, environment: environment) else {
            return "the file was wrong before\n" + configuration.effectiveText
        }
        return ReloadReport(from: before, to: configuration).text
    }

    /// - Parameters:
    ///   - letters: of the answers; the first one is that of an empty line.
    ///   - elsewhere: the answer where nobody can be asked.
    private func ask(_ question: String, among letters: String, elsewhere: Character) -> Character {
        guard isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else { return elsewhere }
        while true {
            TerminalLog.write("\(question) (\(letters.prefix(1))): ")
            guard let line = readLine() else { return "q" }
            guard let letter = line.lowercased().first(where: { $0 != " " }) ?? letters.first else { return elsewhere }
            if letters.contains(letter) { return letter }
        }
    }
}

/// The copy that an editor gets: in a folder of its own, which nobody else can look into, for it may have secrets.
private struct EditedCopy {
    private let folder: String
    private let path: String

    init(of file: MountsFile) throws {
        let environment = ConfigurationFile.environment
        let place = environment["XDG_RUNTIME_DIR"] ?? environment["TMPDIR"] ?? "/tmp"
        var template = Array("\(place)/cloudmount-edit-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw ExitStatus.failure.error("no folder can be made in \(place): \(String(cString: strerror(errno)))")
        }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        path = folder + "/mounts.yaml"
        do throws(ConfigurationError) { try MountsFile(path: path).replacing(file.bytes).save() } catch {
            remove()
            throw ExitStatus.failure.error(error.description)
        }
    }

    /// - Returns: what the person has made of it.
    func edit() throws -> [UInt8] {
        let environment = ConfigurationFile.environment
        let editor = [environment["VISUAL"], environment["EDITOR"]].compactMap { $0 }.first { !$0.isEmpty } ?? "vi"
        // As the shell has it: an editor may be named with options.
        let quoted = "'" + path.replacing("'", with: "'\\''") + "'"
        let status = system("\(editor) \(quoted)")
        guard status == 0 else {
            TerminalLog.write("the editor '\(editor.printable)' did not end well; $EDITOR names another\n")
            throw kept(.failure)
        }
        do throws(ConfigurationError) { return try MountsFile(path: path).bytes } catch {
            TerminalLog.write(CloudMount.printable(error.description) + "\n")
            throw kept(.failure)
        }
    }

    func remove() {
        for name in [path, path + MountsFile.backup] { unlink(name) }
        rmdir(folder)
    }

    func kept(_ status: ExitStatus) -> any Error {
        status.error("nothing has changed; the copy is kept in \(path.printable)")
    }
}

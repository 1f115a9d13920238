import ArgumentParser
import CloudMountConfig
import CloudMountDaemon
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// `-f FILE`, which every command takes.
struct ConfigurationFile: ParsableArguments {
    @Option(
        name: [.customShort("f"), .customLong("file")],
        help: ArgumentHelp("The configuration.", valueName: "mounts.yaml"))
    var file: String?

    static var environment: [String: String] { ProcessEnvironment.variables }

    var path: String { file ?? UserPlaces(environment: Self.environment).configurationFile }

    /// The checked configuration; errors go to standard error, and warnings unless `quietly`.
    func load(_ named: String? = nil, quietly: Bool = false) throws -> Configuration {
        do throws(ConfigurationError) {
            let configuration = try Configuration.load(
                file: named ?? path, providers: CloudMountProgram.providers, environment: Self.environment)
            for warning in configuration.warnings where !quietly {
                TerminalLog.write("\(warning.description.printable) (warning)\n")
            }
            return configuration
        } catch {
            throw ExitStatus.configuration.error(error.description)
        }
    }

    /// Asks the daemon of this configuration. Exits with 3 when there is none.
    func ask(
        _ request: ControlRequest, of target: String? = nil, progress: (ControlAnswer) -> Void = { _ in }
    ) throws -> ControlAnswer {
        let client = try client(of: target)
        do throws(VFSError) {
            return try client.ask(request, progress: progress)
        } catch {
            throw (error.code == .notFound ? ExitStatus.noDaemon : .failure).error(error.message)
        }
    }

    /// - Parameter socket: nil: the one of the file as it is now.
    /// - Returns: nil when no daemon is running.
    func askIfRunning(_ request: ControlRequest, at socket: String? = nil) throws -> ControlAnswer? {
        let client = try socket.map { ControlClient(socket: $0, owners: Self.trusted) } ?? client()
        do throws(VFSError) {
            return try client.ask(request)
        } catch {
            if error.code == .notFound { return nil }
            throw ExitStatus.failure.error(error.message)
        }
    }

    /// Where there is no folder of the user's own the socket's place is everybody's, and who listens there may be anybody.
    static var trusted: Set<UInt32>? { geteuid() == 0 ? nil : [geteuid(), 0] }

    /// The daemon of the file; without `-f` the one that a mount has for itself, if it has one.
    /// - Parameter target: a mount's name, or an absolute path.
    func client(of target: String? = nil) throws -> ControlClient {
        if file == nil, let target {
            let name = target.hasPrefix("/") ? ControlTarget.mountName(at: target) : target
            let socket = name.map { UserPlaces(environment: Self.environment).controlSocket(ofMount: $0) }
            if let socket, access(socket, F_OK) == 0 {
                let own = ControlClient(socket: socket, owners: Self.trusted)
                // One that was killed has left its socket.
                do throws(VFSError) { _ = try own.ask(ControlRequest(.status)) } catch {
                    if error.code == .notFound { return try client() }
                }
                return own
            }
        }
        return try client()
    }

    /// - Parameter words: names of mounts, or paths in mounts; none: all.
    static func request(_ command: ControlRequest.Command, at words: [String]) throws -> ControlRequest {
        var request = ControlRequest(command)
        do throws(VFSError) {
            var places: [ControlTarget] = []
            for word in words { places.append(try ControlTarget(word)) }
            request.targets = places
        } catch {
            throw ExitStatus.failure.error(error.message)
        }
        return request
    }

    /// A name stays one; anything with a slash, and `.`, is a path.
    static func nameOrPath(_ word: String) -> String {
        word.utf8.contains(UInt8(ascii: "/")) || word == "." ? absolute(word) : word
    }

    /// A path as the daemon knows it: absolute, without a slash at its end. The file system is not asked.
    static func absolute(_ path: String) -> String {
        var path = path
        if path.utf8.first != UInt8(ascii: "/"), let here = getcwd(nil, 0) {
            path = String(cString: here) + "/" + path
            free(here)
        }
        var components: [Substring] = []
        for component in path.utf8.split(separator: UInt8(ascii: "/")).map(Substring.init) where component != "." {
            if component == ".." { _ = components.popLast() } else { components.append(component) }
        }
        return "/" + components.joined(separator: "/")
    }

    private func client() throws -> ControlClient {
        let places = UserPlaces(environment: Self.environment)
        let socket: String
        if file == nil, access(path, F_OK) != 0 {
            socket = places.controlSocket
        } else {
            do throws(ConfigurationError) {
                socket = try Configuration.controlSocket(file: path, environment: Self.environment)
            } catch {
                throw ExitStatus.configuration.error(error.description)
            }
        }
        return ControlClient(socket: socket, owners: Self.trusted)
    }
}

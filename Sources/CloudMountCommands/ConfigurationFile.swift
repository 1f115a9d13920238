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
        _ request: ControlRequest, progress: (ControlAnswer) -> Void = { _ in }
    ) throws -> ControlAnswer {
        let client = try client()
        do throws(VFSError) {
            return try client.ask(request, progress: progress)
        } catch {
            throw (error.code == .notFound ? ExitStatus.noDaemon : .failure).error(error.message)
        }
    }

    /// - Returns: nil when no daemon is running.
    func askIfRunning(_ request: ControlRequest) throws -> ControlAnswer? {
        let client = try client()
        do throws(VFSError) {
            return try client.ask(request)
        } catch {
            if error.code == .notFound { return nil }
            throw ExitStatus.failure.error(error.message)
        }
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
        // Where there is no folder of the user's own the socket's place is everybody's, and who listens there may be anybody.
        let owners: Set<UInt32>? = geteuid() == 0 ? nil : [geteuid(), 0]
        return ControlClient(socket: socket, owners: owners)
    }
}

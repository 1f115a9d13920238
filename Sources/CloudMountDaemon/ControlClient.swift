import CloudMountPlatform
public import CloudMountVFS

/// The other end of the control socket.
public struct ControlClient: Sendable {
    private let path: String

    public init(socket path: String) { self.path = path }

    /// Asks the daemon and waits for its answer as long as that takes. Blocks.
    /// - Throws: `notFound` when no daemon listens, `connectionFailed` when it went away without an answer.
    public func ask(_ request: ControlRequest) throws(VFSError) -> ControlAnswer {
        let socket = try UnixSocket.connect(to: path)
        let gone = VFSError(.connectionFailed, "the daemon at \(path) went away without an answer")
        do {
            guard UnixSocket.write(try ControlJSON.line(request), to: socket),
                let line = UnixSocket.readLine(socket)
            else { throw gone }
            return try ControlJSON.decode(ControlAnswer.self, from: line)
        } catch {
            throw error as? VFSError ?? VFSError(.malformedResponse, "the daemon at \(path) speaks another protocol")
        }
    }
}

import CloudMountPlatform
public import CloudMountVFS
import Glibc

/// The other end of the control socket.
public struct ControlClient: Sendable {
    /// Of the socket.
    public let path: String
    private let owners: Set<UInt32>?

    /// - Parameter owners: the users of whom one's daemon must be listening there; nil: whoever may make the socket is trusted.
    public init(socket path: String, owners: Set<UInt32>? = nil) {
        self.path = path
        self.owners = owners
    }

    /// Asks the daemon and waits for its answer: a minute for a status, ten for a reload, which end by themselves; an
    /// unmount as long as storing takes; a minute for each word of how far it is. Blocks.
    /// - Parameter progress: takes what is told before the answer.
    /// - Throws: `tooLarge`; `notFound` when no daemon listens, `connectionFailed` when it went away without an answer, `timedOut`;
    ///   `permissionDenied` when somebody else's is listening, who then is told nothing.
    public func ask(
        _ request: ControlRequest, progress: (ControlAnswer) -> Void = { _ in }
    ) throws(VFSError) -> ControlAnswer {
        let socket = try UnixSocket.connect(to: path)
        if let owners, !(UnixSocket.peer(of: socket).map(owners.contains) ?? false) {
            let names = owners.sorted().map(String.init).joined(separator: " or ")
            throw VFSError(.permissionDenied, "the daemon at \(path) is not that of uid \(names)")
        }
        let seconds: Int? =
            switch request.command {
            case .status, .stop, .sync, .recover, .refresh, .offline: 60
            case .reload, .mount: 600
            case .unmount, .remount: nil
            }
        if let seconds { UnixSocket.setTimeout(socket, seconds: seconds) }
        let gone = VFSError(.connectionFailed, "the daemon at \(path) went away without an answer")
        do {
            let line = try ControlJSON.line(request)
            guard line.count <= ControlServer.maxRequest else {
                throw VFSError(.tooLarge, "these are more words than a request may have; name a folder above them")
            }
            guard UnixSocket.write(line, to: socket) else { throw gone }
            var lines = UnixSocket.Lines(socket)
            while true {
                guard let line = lines.next() else {
                    throw errno == EAGAIN ? VFSError(.timedOut, "the daemon at \(path) does not answer") : gone
                }
                let answer = try ControlJSON.decode(ControlAnswer.self, from: line)
                if answer.isProgress != true { return answer }
                progress(answer)
            }
        } catch {
            throw error as? VFSError ?? VFSError(.malformedResponse, "the daemon at \(path) speaks another protocol")
        }
    }
}

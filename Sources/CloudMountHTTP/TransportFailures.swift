public import CloudMountVFS

extension VFSError {
    /// What a transfer without a complete answer means to the core, and what may be done about it.
    public init(_ error: HTTPError, wire: Wire) {
        let text = error.message
        self =
            switch error.kind {
            case .cancelled: .cancelled
            case .resolve: VFSError(.connectionFailed, "host name not found: \(text)", retry: .backoff, wire: wire)
            case .connect: VFSError(.connectionFailed, "no connection: \(text)", retry: .backoff, wire: wire)
            case .tls: VFSError(.connectionFailed, "no secure connection: \(text)", retry: .backoff, wire: wire)
            case .timedOut: VFSError(.timedOut, "no connection in time: \(text)", retry: .backoff, wire: wire)
            case .stalled: VFSError(.timedOut, "the transfer stalled: \(text)", retry: .backoff, wire: wire)
            case .reset: VFSError(.connectionFailed, "the connection broke: \(text)", retry: .backoff, wire: wire)
            case .dropped:
                VFSError(.connectionFailed, "the connection had died: \(text)", retry: .immediately, wire: wire)
            case .truncated: VFSError(.corrupted, "the answer was cut short: \(text)", retry: .backoff, wire: wire)
            case .malformed: VFSError(.malformedResponse, "not an HTTP answer: \(text)", retry: .backoff, wire: wire)
            case .tooLarge: VFSError(.malformedResponse, "the answer is too long: \(text)", wire: wire)
            case .noRoom: VFSError(.io, text, retry: .backoff)  // Not the endpoint's fault.
            case .sourceFailed: VFSError(.io, "the bytes to upload cannot be read: \(text)", wire: wire)
            }
    }
}

import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import CloudMountXML

/// From what was on the wire to `VFSError`.
enum WebDAVErrors {
    static func error(_ response: HTTPResponse, wire: VFSError.Wire) -> VFSError {
        var wire = wire
        wire.status = response.status
        wire.requestID = response.headers["x-request-id"]
        let said = said(response.body)
        wire.code = said.code
        var verdict = HTTPVerdict(status: response.status, retryAfter: response.headers.retryAfter)
        switch response.status {
        case 401: verdict = HTTPVerdict(.credentialsInvalid)
        case 423: verdict = HTTPVerdict(.conflict, .backoff, "somebody has locked the file or its folder")
        case 507: verdict = HTTPVerdict(.quotaExceeded, .never, "the server has no more room for this account")
        case 300..<400:
            let target = response.headers["location"].map { ", to \(WebURL.shown($0))" } ?? ""
            verdict = HTTPVerdict(.invalidArgument, .never, "the server redirects elsewhere\(target)")
        default: break
        }
        return verdict.error(saying: said.message, wire: wire)
    }

    /// An answer that is good by its status, and not what this request is answered with.
    static func odd(_ message: String, _ response: HTTPResponse?, wire: VFSError.Wire) -> VFSError {
        var wire = wire
        wire.status = response?.status ?? 0
        return VFSError(.malformedResponse, message, retry: .backoff, wire: wire)
    }

    static func changed(_ key: ObjectKey, wire: VFSError.Wire? = nil) -> VFSError {
        VFSError(.preconditionFailed, "“\(key)” has been changed or made meanwhile", wire: wire)
    }

    static func stale(_ key: ObjectKey, wire: VFSError.Wire? = nil) -> VFSError {
        VFSError(.stale, "“\(key)” has changed since it was opened", wire: wire)
    }

    static func notFound(_ key: ObjectKey) -> VFSError { VFSError(.notFound, "there is no “\(key)”") }

    /// What sabre/dav (Nextcloud, ownCloud) says in the body of an error.
    private static func said(_ body: [UInt8]) -> (code: String?, message: String?) {
        guard body.first == UInt8(ascii: "<"), body.count <= 1 << 20 else { return (nil, nil) }
        let handler = Handler()
        guard (try? XMLReader().read(body, into: handler)) != nil, handler.isError else { return (nil, nil) }
        return (handler.code, handler.message)
    }

    private final class Handler: XMLHandler {
        var isError = false
        var code: String?
        var message: String?

        func start(_ name: XMLText, in space: XMLText, depth: Int) {
            if depth == 1 { isError = space == "DAV:" && name == "error" }
        }

        func end(_ name: XMLText, in space: XMLText, text: XMLText, depth: Int) {
            guard depth == 2, space == "http://sabredav.org/ns" else { return }
            switch name {
            case "exception": code = text.string.split(separator: "\\").last.map { String($0.prefix(60)) }
            case "message": message = text.string
            default: break
            }
        }
    }
}

extension VFSError {
    /// The server may have carried out what was asked, or be about to.
    var leavesOpen: Bool {
        if wire?.status == 429 { return false }
        return code.isUnreachable || code == .cancelled || code == .malformedResponse || code == .corrupted
    }
}

import CloudMountHTTP
import CloudMountKit
import CloudMountVFS

/// Calls servers that give credentials out. Answers are small, and nobody is waited for long.
struct S3CredentialService: Sendable {
    /// How messages name it.
    var name: String
    var options = HTTPOptions()
    /// How often a request is sent when there is no answer, or one of 500 and above.
    var tries = 2
    var engine = HTTPEngine.shared

    /// Of AWS itself: by TLS, and by the proxy where there is one.
    init(_ name: String, caFile: String?) {
        self.init(name, timeout: .seconds(5))
        options.caFile = caFile
    }

    /// Of this machine or its host: never by a proxy.
    init(onLink name: String, timeout: Duration, tries: Int) {
        self.init(name, timeout: timeout)
        options.isDirect = true
        self.tries = tries
    }

    private init(_ name: String, timeout: Duration) {
        self.name = name
        options.connectTimeout = timeout
        options.stallTimeout = timeout
        options.answerTimeout = timeout
        // Connecting, sending, waiting and taking the answer; a head that drips or never comes to its end is neither stalled nor overdue.
        options.wholeTimeout = timeout * 4
        options.maxBodyBytes = 256 << 10
    }

    /// - Returns: an answer of any status below 500.
    func answer(_ request: HTTPRequest) async throws(VFSError) -> HTTPResponse {
        var request = request
        request.options = options
        var tried = 1
        while true {
            do throws(HTTPError) {
                let response = try await engine.perform(request)
                guard response.status >= 500 else { return response }
                if tried >= tries { throw HTTPError(.malformed, "it answered \(response.status)") }
            } catch {
                if error.kind == .cancelled { throw .cancelled }
                if tried >= tries { throw .credentials("\(name): \(error.message)", retry: .backoff) }
            }
            tried += 1
        }
    }

    /// The error of an answer that says no.
    /// - Parameters:
    ///   - code: the server's own.
    ///   - text: what it says for a person.
    ///   - secrets: what was sent, which it might say back.
    func refusal(
        _ status: Int, code: String?, text: String?, hiding secrets: [String?] = [], advice: String = ""
    ) -> VFSError {
        // Longer than what is shown by as much as a part of a secret may reach over its end.
        let whole = [code, text].compactMap { $0 }.joined(separator: ": ").cut(to: 300 + 2 * Self.longestShownPart)
        let tells = secrets.contains { $0.map { Self.tells(whole, of: $0) } ?? false }
        var said = tells ? "" : whole.cut(to: 300).printable
        if said.isEmpty { said = "it answered \(status)" }
        return .credentials("\(name): \(said)\(advice)", retry: status == 429 ? .throttle(after: nil) : .never)
    }

    /// Bytes that a text may have in common with a secret.
    private static let longestShownPart = 15

    /// Whether a text holds the secret, one of its words of 8 bytes and more, or any longer part of it.
    static func tells(_ text: String, of secret: String) -> Bool {
        guard !secret.isEmpty else { return false }
        let (text, bytes) = (Array(text.utf8), Array(secret.utf8))
        func holds(_ part: ArraySlice<UInt8>) -> Bool {
            part.count <= text.count && (0...text.count - part.count).contains { text[$0...].starts(with: part) }
        }
        if holds(bytes[...]) { return true }
        let words = bytes.split { $0 == 0x20 || $0 == UInt8(ascii: ".") }
        if words.contains(where: { $0.count >= 8 && holds($0) }) { return true }
        let length = longestShownPart + 1
        guard text.count >= length, bytes.count >= length else { return false }
        let parts = Set((0...text.count - length).map { text[$0..<$0 + length] })
        return (0...bytes.count - length).contains { parts.contains(bytes[$0..<$0 + length]) }
    }

    func broken() -> VFSError { .credentials("\(name): what it answered is no credentials", retry: .backoff) }
}

extension HTTPRequest {
    static let formType = "application/x-www-form-urlencoded; charset=utf-8"

    static func formBody(_ fields: [(String, String)]) -> [UInt8] {
        var body: [UInt8] = []
        for (name, value) in fields {
            if !body.isEmpty { body.append(UInt8(ascii: "&")) }
            body.put("\(name)=")
            PercentEncoding.append(value, keepSlash: false, to: &body)
        }
        return body
    }

    /// What of a type is posted to a service.
    static func post(_ url: String, _ type: String, _ body: [UInt8]) -> HTTPRequest {
        var headers = HTTPHeaders()
        headers.append("content-type", type)
        return HTTPRequest(.post, url, headers: headers, body: BytesSource(body))
    }
}

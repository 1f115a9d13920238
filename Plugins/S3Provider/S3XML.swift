import CloudMountHTTP
import CloudMountKit
import CloudMountVFS
import CloudMountXML

/// The name of the element that a good answer is. Some servers say `…Response` or nothing where S3 says `…Result`.
struct S3Root: ExpressibleByStringLiteral {
    private let stem: String

    /// - Parameter name: S3's, ending in `Result`.
    init(stringLiteral name: String) { stem = name.hasSuffix("Result") ? String(name.dropLast(6)) : name }

    func matches(_ text: XMLText) -> Bool {
        guard text.bytes.starts(with: stem.utf8) else { return false }
        let ending = XMLText(UnsafeBufferPointer(rebasing: text.bytes[stem.utf8.count...]))
        return ending == "Result" || ending == "Response" || ending == ""
    }
}

/// The simple fields of a small answer: the children of the root that have text and no children of their own.
final class S3Fields: XMLHandler {
    private let wanted: S3Root
    private(set) var isWanted = false
    private(set) var values: [String: String] = [:]

    init(root: S3Root) { wanted = root }

    subscript(name: String) -> String? { values[name] }

    func start(_ name: XMLText, depth: Int) {
        if depth == 1 { isWanted = wanted.matches(name) }
    }

    func end(_ name: XMLText, text: XMLText, depth: Int) {
        if depth == 2, isWanted { values[name.string] = text.string }
    }
}

/// Reads an answer of any number of entries.
protocol S3Parser: XMLHandler, SendableMetatype {
    associatedtype Answer: Sendable
    var answer: Answer { get }
    /// As many as have come; those beyond `S3Client.mostEntries` are not kept.
    var entries: Int { get }
}

extension S3Client {
    /// Ten times what was asked for: stores may pass over that, but not by any number.
    static let mostEntries = 10_000

    /// Sends a request whose answer is read by a parser.
    /// - Throws: `corrupted` when the document is cut short or broken, or has too many entries.
    func send<Parser: S3Parser>(
        _ request: S3Request, parsedBy parser: @escaping @Sendable () -> Parser
    ) async throws(VFSError) -> (Parser.Answer, HTTPResponse) {
        try await send(request) { body throws(XMLError) in
            let parser = parser()
            try XMLReader().read(body, into: parser)
            guard parser.entries <= Self.mostEntries else { throw .tooLarge }
            return parser.answer
        }
    }

    /// Sends a request whose answer is a document.
    ///
    /// S3 may say 200 before it knows the outcome of a long operation and write an `<Error>` afterwards, or be cut off:
    /// success is the right root element and a document that is well-formed to its end.
    func send(_ request: S3Request, root: S3Root) async throws(VFSError) -> (S3Fields, HTTPResponse) {
        let fields = S3Fields(root: root)
        var request = request
        request.maxBodyBytes = min(request.maxBodyBytes, Self.mostOfSmall)
        let response = try await send(request)
        do throws(XMLError) {
            try XMLReader().read(Self.trimmed(response.body), into: fields)
        } catch {
            throw broken(request, response)
        }
        guard fields.isWanted else { throw refusal(request, response) }
        return (fields, response)
    }

    /// Bytes of an answer of a few fields, and the white space before it.
    private static let mostOfSmall = 1 << 20

    /// Sends a request whose answer may be long.
    /// - Parameter read: given the document.
    /// - Throws: `corrupted` when the document is cut short or broken.
    func send<Value: Sendable>(
        _ request: S3Request, _ read: @escaping @Sendable ([UInt8]) throws(XMLError) -> Value
    ) async throws(VFSError) -> (Value, HTTPResponse) {
        let response = try await send(request)
        let body = response.body
        let value = await LongAnswer.read(body.count, over: 512 << 10) { try? read(Self.trimmed(body)) }
        guard let value else { throw broken(request, response) }
        return (value, response)
    }

    private func broken(_ request: S3Request, _ response: HTTPResponse) -> VFSError {
        error(.corrupted, "the answer to \(request.operation) is no whole XML document", request, response.head)
    }

    /// The error inside an answer of status 200 that has not the expected root.
    func refusal(_ request: S3Request, _ response: HTTPResponse) -> VFSError {
        guard let body = S3ErrorBody(Self.trimmed(response.body)) else {
            return error(
                .malformedResponse, "the answer to \(request.operation) is of another kind", request, response.head)
        }
        return S3Errors.error(
            status: response.status, headers: response.headers, body: body, isOfStore: false,
            wire: VFSError.Wire(
                operation: request.operation, key: request.key?.string, endpoint: route.authority))
    }

    /// A request whose good answer says nothing that matters: some stores say something. A refusal, or the page of a portal or of a proxy
    /// that comes with a good status, is no such answer, nor is one that is of another kind.
    @discardableResult
    func sendForNothing(_ request: S3Request) async throws(VFSError) -> HTTPResponse {
        let response = try await send(request)
        let body = Self.trimmed(response.body)
        let isPage = !body.isEmpty && (response.headers["content-type"]?.lowercased().hasPrefix("text/html") ?? false)
        let start = String(decoding: body.prefix(16), as: UTF8.self).lowercased()
        guard [200, 201, 202, 204].contains(response.status), !isPage, !start.hasPrefix("<!doctype"),
            !start.hasPrefix("<html"), S3ErrorBody(body) == nil
        else { throw refusal(request, response) }
        return response
    }

    /// Some gateways keep the connection alive with white space before the XML declaration.
    private static func trimmed(_ body: [UInt8]) -> [UInt8] {
        guard let first = body.first, first <= 0x20 else { return body }
        return Array(body.drop { $0 == 0x20 || 0x09...0x0D ~= $0 })
    }
}

/// Writes small request documents.
struct S3Document {
    private(set) var bytes: [UInt8] = []

    init(_ root: String, _ content: (inout S3Document) -> Void) {
        bytes += "<\(root) xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".utf8
        content(&self)
        bytes += "</\(root)>".utf8
    }

    mutating func element(_ name: String, _ content: (inout S3Document) -> Void) {
        bytes += "<\(name)>".utf8
        content(&self)
        bytes += "</\(name)>".utf8
    }

    mutating func element(_ name: String, text: String) { element(name) { $0.text(text) } }

    private mutating func text(_ text: String) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "&"): bytes += "&amp;".utf8
            case UInt8(ascii: "<"): bytes += "&lt;".utf8
            case UInt8(ascii: ">"): bytes += "&gt;".utf8
            case UInt8(ascii: "\""): bytes += "&quot;".utf8
            case 0x09: bytes += "&#x9;".utf8
            case 0x0A: bytes += "&#xA;".utf8
            case 0x0D: bytes += "&#xD;".utf8
            default: bytes.append(byte)
            }
        }
    }

    /// Whether XML 1.0 can hold the text at all: control characters and U+FFFE, U+FFFF it cannot.
    static func canHold(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy {
            $0.value >= 0x20 && $0.value & 0xFFFE != 0xFFFE || $0.value == 0x09 || $0.value == 0x0A || $0.value == 0x0D
        }
    }
}

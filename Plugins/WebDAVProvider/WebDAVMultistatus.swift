import CloudMountKit
import CloudMountVFS
import CloudMountXML

/// One `response` of a 207, as far as CloudMount asks for it.
struct WebDAVResponse: Sendable, Equatable {
    var href = ""
    /// Of the whole, where the server gives no properties.
    var status: Int?
    // Properties whose own status is 200 to 299.
    var isFolder: Bool?
    var size: Int?
    /// As it is sent, with quotes and mark.
    var tag: String?
    var modified: Timestamp?
    var record: String?
    var quotaAvailable: Int?
    var quotaUsed: Int?
    /// The worst status of any property, nil when there are none.
    var worst: Int?
}

/// Reads the body of a 207.
enum WebDAVMultistatus {
    /// The namespace of the property that holds an object's metadata.
    static let namespace: StaticString = "urn:cloudmount:dav"
    /// More responses than any folder that is kept whole in memory.
    static let most = 250_000

    /// Longer ones are none of ours.
    static let mostRecord = 16 << 10
    /// - Returns: nil when the body is none, or not whole.
    static func read(_ body: [UInt8]) -> [WebDAVResponse]? {
        let handler = Handler()
        guard (try? XMLReader().read(body, into: handler)) != nil, handler.isGood else { return nil }
        return handler.responses
    }

    /// What is in no place where RFC 4918 has it is passed over; what contradicts it ends the reading.
    private final class Handler: XMLHandler {
        private(set) var responses: [WebDAVResponse] = []
        private(set) var isGood = true
        private var response = WebDAVResponse()
        private var hrefs = 0
        /// Of the propstat that is being read.
        private var found = WebDAVResponse()
        private var status: Int?
        /// The elements that are open, nil where they mean nothing here.
        private var path: [Element?] = []

        private enum Element { case multistatus, response, href, propstat, status, prop, resourcetype, other }

        func start(_ name: XMLText, in space: XMLText, depth: Int) {
            let element = Self.element(name, in: space, below: path.last ?? nil, depth: depth)
            path.append(element)
            switch element {
            case .response?:
                response = WebDAVResponse()
                hrefs = 0
            case .propstat?:
                found = WebDAVResponse()
                status = nil
            case .resourcetype?: found.isFolder = false
            case nil where depth == 1: isGood = false
            case nil where path.dropLast().last == .resourcetype && space == "DAV:" && name == "collection":
                found.isFolder = true
            default: break
            }
        }

        private static func element(_ name: XMLText, in space: XMLText, below parent: Element?, depth: Int) -> Element?
        {
            guard space == "DAV:" else { return parent == .prop ? .other : nil }
            switch (parent, name) {
            case (nil, "multistatus"): return depth == 1 ? .multistatus : nil
            case (.multistatus?, "response"): return .response
            case (.response?, "href"): return .href
            case (.response?, "propstat"): return .propstat
            case (.response?, "status"), (.propstat?, "status"): return .status
            case (.propstat?, "prop"): return .prop
            case (.prop?, "resourcetype"): return .resourcetype
            case (.prop?, _): return .other
            default: return nil
            }
        }

        func end(_ name: XMLText, in space: XMLText, text: XMLText, depth: Int) {
            guard let element = path.popLast() ?? nil else { return }
            let parent = path.last ?? nil
            switch element {
            case .href:
                hrefs += 1
                response.href = Self.trimmed(text)
            case .status where parent == .response: response.status = Self.status(text) ?? 0
            case .status: status = Self.status(text)
            case .other: property(name, in: space, text)
            case .propstat: take()
            case .response:
                if response.href.isEmpty || hrefs > 1 && response.worst != nil { isGood = false }
                if responses.count >= WebDAVMultistatus.most { isGood = false } else { responses.append(response) }
            case .multistatus, .prop, .resourcetype: break
            }
        }

        private func property(_ name: XMLText, in space: XMLText, _ text: XMLText) {
            if space == WebDAVMultistatus.namespace {
                if name == "record", text.bytes.count <= WebDAVMultistatus.mostRecord {
                    found.record = Self.trimmed(text)
                }
                return
            }
            guard space == "DAV:" else { return }
            switch name {
            case "getcontentlength": found.size = text.integer
            case "getetag": found.tag = Self.trimmed(text)
            case "getlastmodified": found.modified = WireDate.http(Self.trimmed(text))
            case "quota-available-bytes": found.quotaAvailable = text.integer
            case "quota-used-bytes": found.quotaUsed = text.integer
            default: break
            }
        }

        /// The properties of one propstat, where its status is good.
        private func take() {
            guard let status else {
                isGood = false
                return
            }
            response.worst = max(response.worst ?? 0, status)
            guard 200..<300 ~= status else { return }
            response.isFolder = found.isFolder ?? response.isFolder
            response.size = found.size ?? response.size
            response.tag = found.tag ?? response.tag
            response.modified = found.modified ?? response.modified
            response.record = found.record ?? response.record
            response.quotaAvailable = found.quotaAvailable ?? response.quotaAvailable
            response.quotaUsed = found.quotaUsed ?? response.quotaUsed
        }

        /// `HTTP/1.1 200 OK`
        private static func status(_ text: XMLText) -> Int? {
            let words = trimmed(text).split(separator: " ")
            guard words.count >= 2, words[0].hasPrefix("HTTP/"), words[1].utf8.count == 3 else { return nil }
            return Int(words[1])
        }

        private static func trimmed(_ text: XMLText) -> String {
            var bytes = text.bytes[...]
            while let byte = bytes.first, byte <= 0x20 { bytes.removeFirst() }
            while let byte = bytes.last, byte <= 0x20 { bytes.removeLast() }
            return String(decoding: bytes, as: UTF8.self)
        }
    }
}

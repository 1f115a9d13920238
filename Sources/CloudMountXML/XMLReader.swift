import CXML2

/// The receiver of a document's elements, in document order.
///
/// Attributes, comments and processing instructions are passed over; names come without their namespace prefix. Whom namespaces concern
/// implements the two that tell them, which by default call the others.
public protocol XMLHandler: AnyObject {
    /// - Parameter depth: 1 for the root element.
    func start(_ name: XMLText, depth: Int)

    /// - Parameter text: the characters directly before this end tag since the last tag: for an element without
    ///   children, its whole text, with character references resolved.
    func end(_ name: XMLText, text: XMLText, depth: Int)

    /// - Parameter space: the URI of the namespace; empty where there is none, or its prefix was never declared.
    func start(_ name: XMLText, in space: XMLText, depth: Int)
    func end(_ name: XMLText, in space: XMLText, text: XMLText, depth: Int)
}

extension XMLHandler {
    public func start(_ name: XMLText, depth: Int) {}
    public func end(_ name: XMLText, text: XMLText, depth: Int) {}
    public func start(_ name: XMLText, in space: XMLText, depth: Int) { start(name, depth: depth) }
    public func end(_ name: XMLText, in space: XMLText, text: XMLText, depth: Int) {
        end(name, text: text, depth: depth)
    }
}

/// Why a document was refused.
public enum XMLError: Error, Sendable, Equatable {
    /// Cut short, badly nested, an undeclared entity, a character that XML cannot hold; libxml2's number of the fault.
    case malformed(Int)
    /// It has a document type, which no answer of a store has.
    case doctype
    /// Nested deeper than the limit.
    case tooDeep
    /// More bytes than the limit, a namespace of more than 256, or more than 512 attributes in a tag or namespaces in force.
    case tooLarge
}

/// Reads documents of untrusted origin with libxml2: no tree, no document types, no entities but the five built in,
/// nothing fetched from anywhere, and the time in proportion to the bytes. They are UTF-8.
public struct XMLReader: Sendable {
    public var maxBytes = 64 << 20
    public var maxDepth = 32

    public init() {}

    /// Feeds `document` to `handler`. When it throws, the handler has seen a part of the elements, which must not be
    /// used.
    public func read(_ document: [UInt8], into handler: any XMLHandler) throws(XMLError) {
        guard document.count <= min(maxBytes, Int(Int32.max)) else { throw .tooLarge }
        try document.withUnsafeBytes { bytes in Result { () throws(XMLError) in try XMLMarkup.check(bytes) } }.get()
        Self.initialized
        let state = ReaderState(handler, maxDepth: maxDepth)
        var callbacks = cm_xml_callbacks()
        callbacks.start = { ReaderState.of($0)?.start(XMLText($1, $2), XMLText($3, $4), declaring: $5) ?? 1 }
        callbacks.end = { ReaderState.of($0)?.end(XMLText($1, $2), XMLText($3, $4)) ?? 1 }
        callbacks.text = { context, bytes, count in ReaderState.of(context)?.text(bytes, count) ?? 1 }
        callbacks.context = Unmanaged.passUnretained(state).toOpaque()
        let code = withExtendedLifetime(state) {
            document.withUnsafeBytes { bytes in
                cm_xml_parse(bytes.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(bytes.count), &callbacks)
            }
        }
        if callbacks.doctype != 0 { throw .doctype }
        if state.tooDeep { throw .tooDeep }
        if callbacks.stopped != 0 { throw .tooLarge }
        if code != 0 { throw .malformed(Int(code)) }
    }

    /// libxml2 wants to be initialised once before threads share it.
    private static let initialized: Void = xmlInitParser()
}

/// What the callbacks of one `read` share.
private final class ReaderState {
    private let handler: any XMLHandler
    private let maxDepth: Int
    private var depth = 0
    /// Namespaces that are in force in each of the open elements.
    private var namespaces: [Int] = []
    private var characters: [UInt8] = []
    private(set) var tooDeep = false

    init(_ handler: any XMLHandler, maxDepth: Int) {
        self.handler = handler
        self.maxDepth = maxDepth
        characters.reserveCapacity(256)
    }

    static func of(_ context: UnsafeMutableRawPointer?) -> ReaderState? {
        context.map { Unmanaged<ReaderState>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Each name that has a prefix is looked up among all namespaces that are in force.
    private static let mostNamespaces = XMLMarkup.mostAttributes

    func start(_ name: XMLText, _ space: XMLText, declaring declared: Int32) -> Int32 {
        let inForce = (namespaces.last ?? 0) + Int(declared)
        guard inForce <= Self.mostNamespaces else { return 1 }
        namespaces.append(inForce)
        depth += 1
        guard depth <= maxDepth else {
            tooDeep = true
            return 1
        }
        characters.removeAll(keepingCapacity: true)
        handler.start(name, in: space, depth: depth)
        return 0
    }

    func end(_ name: XMLText, _ space: XMLText) -> Int32 {
        characters.withUnsafeBufferPointer { handler.end(name, in: space, text: XMLText($0), depth: depth) }
        characters.removeAll(keepingCapacity: true)
        depth -= 1
        _ = namespaces.popLast()
        return 0
    }

    func text(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
        characters.append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
        return 0
    }
}

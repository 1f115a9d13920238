import CCurl

/// The header list of one request in the form that libcurl reads, in memory that is used again and again.
struct HeaderArena {
    private var text = UnsafeMutablePointer<CChar>.allocate(capacity: 2048)
    private var textCapacity = 2048
    private var nodes = UnsafeMutablePointer<curl_slist>.allocate(capacity: 32)
    private var nodeCapacity = 32
    private var count = 0
    private(set) var namesContentType = false

    // SAFETY: libcurl reads the list during the transfer, which ends before `begin` is called again; it neither changes
    // nor frees it. A text from a `StaticString` lives for ever.
    var list: UnsafeMutablePointer<curl_slist>? { count == 0 ? nil : nodes }

    /// Starts anew with the caller's fields.
    mutating func begin(_ headers: HTTPHeaders) {
        count = 0
        namesContentType = false
        if textCapacity < headers.bytes.count {
            text.deallocate()
            textCapacity = headers.bytes.count * 2
            text = .allocate(capacity: textCapacity)
        }
        if nodeCapacity < headers.marks.count + 2 {
            nodes.deallocate()
            nodeCapacity = headers.marks.count * 2 + 2
            nodes = .allocate(capacity: nodeCapacity)
        }
        headers.bytes.withUnsafeBytes { bytes in
            UnsafeMutableRawBufferPointer(start: text, count: textCapacity).copyMemory(from: bytes)
        }
        for mark in headers.marks {
            let length = mark.colon - mark.start
            if length == 6, Self.is(text + mark.start, "expect", 6) { continue }
            if length == 14, Self.is(text + mark.start, "content-length", 14) { continue }
            if length == 12, Self.is(text + mark.start, "content-type", 12) { namesContentType = true }
            if mark.end == mark.colon + 2 {
                // An empty value; "Name:" would tell libcurl to leave the field out.
                text[mark.colon] = CChar(bitPattern: UInt8(ascii: ";"))
                text[mark.colon + 1] = 0
            }
            push(text + mark.start)
        }
    }

    /// - Precondition: at most two calls after `begin`.
    mutating func append(_ line: StaticString) {
        push(UnsafeMutableRawPointer(mutating: line.utf8Start).assumingMemoryBound(to: CChar.self))
    }

    private mutating func push(_ line: UnsafeMutablePointer<CChar>) {
        (nodes + count).initialize(to: curl_slist(data: line, next: nil))
        if count > 0 { nodes[count - 1].next = nodes + count }
        count += 1
    }

    private static func `is`(_ name: UnsafeMutablePointer<CChar>, _ other: StaticString, _ length: Int) -> Bool {
        for index in 0..<length where UInt8(bitPattern: name[index]) | 0x20 != other.utf8Start[index] | 0x20 {
            return false
        }
        return true
    }

    func deallocate() {
        text.deallocate()
        nodes.deallocate()
    }
}

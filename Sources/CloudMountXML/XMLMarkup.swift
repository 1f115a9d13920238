import CXML2

/// What is looked at before libxml2 reads a document: it holds each attribute of a tag against all others of the tag, before it calls anybody
/// who could stop it.
enum XMLMarkup {
    /// Far more than any answer of a store has in a tag, namespaces among them.
    static let mostAttributes = 512
    /// Bytes of a name or a value, and of a whole tag.
    private static let (mostOfWord, mostOfTag) = (4096, 1 << 20)

    /// One pass over the bytes. A start tag begins at a `<` and reaches to no other: none may stand in it, and libxml2 leaves off there. So what
    /// lies around the tags (comments, text that looks like one, what is broken) need not be understood.
    static func check(_ bytes: UnsafeRawBufferPointer) throws(XMLError) {
        guard let start = bytes.baseAddress else { return }
        try checkEncoding(bytes, start)
        var index = 0
        while let found = memchr(start + index, 0x3C, bytes.count - index) {
            index = start.distance(to: found) + 1
            guard index < bytes.count else { return }
            let isStart = bytes[index] != UInt8(ascii: "/") && bytes[index] != UInt8(ascii: "!")
            guard isStart, bytes[index] != UInt8(ascii: "?") else { continue }
            try checkTag(bytes, &index)
        }
    }

    /// Leaves `index` at the tag's end, or at the `<` that should not be in it.
    private static func checkTag(_ bytes: UnsafeRawBufferPointer, _ index: inout Int) throws(XMLError) {
        var quote: UInt8 = 0
        var (values, word) = (0, index)
        let end = index + mostOfTag
        while index < bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "<") { return }
            if quote != 0 {
                if byte == quote { (quote, word) = (0, index) }
            } else if byte == UInt8(ascii: ">") {
                return
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                (quote, word) = (byte, index)
                values += 1
                guard values <= mostAttributes else { throw .tooLarge }
            } else if byte <= 0x20 {
                word = index
            }
            guard index - word <= mostOfWord, index < end else { throw .tooLarge }
            index += 1
        }
    }

    /// In UTF-8 a `<` is a `<`. libxml2 is told to take all for it, and guesses others by the first bytes: UTF-16 and UTF-32, which have zeros,
    /// and EBCDIC.
    private static func checkEncoding(_ bytes: UnsafeRawBufferPointer, _ start: UnsafeRawPointer) throws(XMLError) {
        let other = XMLError.malformed(Int(XML_ERR_UNSUPPORTED_ENCODING.rawValue))
        guard memchr(start, 0, bytes.count) == nil else { throw other }
        let body = bytes.dropFirst(bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0)
        guard let first = body.first, first == UInt8(ascii: "<") || first <= 0x20 else { throw other }
        // Names in Latin-1 might be read as other names in UTF-8.
        guard body.starts(with: "<?xml".utf8) else { return }
        let declaration = String(decoding: body.prefix(256).prefix { $0 != UInt8(ascii: ">") }, as: UTF8.self)
            .lowercased()
        let isKnown = ["utf-8", "utf8", "ascii"].contains { declaration.contains($0) }
        if declaration.contains("encoding"), !isKnown {
            guard bytes.allSatisfy({ $0 < 0x80 }) else { throw other }
        }
    }
}

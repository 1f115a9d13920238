import CYAML

/// Reads YAML text into a tree by libyaml's events. The first syntax error ends it; duplicate keys are collected.
struct YAMLTree: ~Copyable {
    /// libyaml keeps pointers into the parser, so it has one address for life.
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let lines: SourceLines
    private var anchors: [String: Node] = [:]
    private var depth = 0

    static let maxDepth = 32
    static let maxWeight = 100_000

    private init(_ input: UnsafeBufferPointer<UInt8>, lines: SourceLines) {
        parser = .allocate(capacity: 1)
        parser.initialize(to: yaml_parser_t())
        yaml_parser_initialize(parser)
        yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
        yaml_parser_set_input_string(parser, input.baseAddress, input.count)
        self.lines = lines
    }

    deinit {
        yaml_parser_delete(parser)
        parser.deallocate()
    }

    /// The root of the only document, or nil when the text holds nothing or is not YAML (which is then in `problems`).
    static func parse(_ bytes: [UInt8], problems: inout Problems) -> Node? {
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        let bytes = bytes.starts(with: mark) ? Array(bytes.dropFirst(mark.count)) : bytes
        let lines = SourceLines(bytes)
        if let offset = lines.firstInvalidUTF8 {
            problems.error(lines.mark(offset: offset), "not UTF-8: the byte 0x\(String(bytes[offset], radix: 16))")
            return nil
        }
        return bytes.withUnsafeBufferPointer { input in
            var tree = YAMLTree(input, lines: lines)
            do throws(SyntaxError) {
                return try tree.document(problems: &problems)
            } catch {
                problems.error(error.mark, error.message)
                return nil
            }
        }
    }

    // MARK: Events

    struct SyntaxError: Error {
        var mark: Mark
        var message: String
    }

    private enum Event {
        case streamStart, streamEnd, documentStart, documentEnd, sequenceEnd, mappingEnd, none
        case alias(String)
        case scalar(Node.Scalar, anchor: String?, tag: String?)
        case sequenceStart(anchor: String?, tag: String?)
        case mappingStart(anchor: String?, tag: String?)
    }

    private func next() throws(SyntaxError) -> (event: Event, mark: Mark) {
        var raw = yaml_event_t()
        guard yaml_parser_parse(parser, &raw) == 1 else { throw lines.syntaxError(parser.pointee) }
        defer { yaml_event_delete(&raw) }
        let mark = Mark(line: raw.start_mark.line + 1, column: raw.start_mark.column + 1)
        let event: Event
        switch raw.type {
        case YAML_STREAM_START_EVENT: event = .streamStart
        case YAML_STREAM_END_EVENT: event = .streamEnd
        case YAML_DOCUMENT_START_EVENT: event = .documentStart
        case YAML_DOCUMENT_END_EVENT: event = .documentEnd
        case YAML_SEQUENCE_END_EVENT: event = .sequenceEnd
        case YAML_MAPPING_END_EVENT: event = .mappingEnd
        case YAML_ALIAS_EVENT: event = .alias(text(raw.data.alias.anchor) ?? "")
        case YAML_SCALAR_EVENT:
            let scalar = raw.data.scalar
            let value = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            event = .scalar(
                Node.Scalar(
                    text: String(decoding: value, as: UTF8.self), plain: scalar.style == YAML_PLAIN_SCALAR_STYLE),
                anchor: text(scalar.anchor), tag: text(scalar.tag))
        case YAML_SEQUENCE_START_EVENT:
            event = .sequenceStart(
                anchor: text(raw.data.sequence_start.anchor), tag: text(raw.data.sequence_start.tag))
        case YAML_MAPPING_START_EVENT:
            event = .mappingStart(anchor: text(raw.data.mapping_start.anchor), tag: text(raw.data.mapping_start.tag))
        default: event = .none
        }
        return (event, mark)
    }

    private func text(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
        pointer.map { String(cString: $0) }
    }

    // MARK: Tree

    private mutating func document(problems: inout Problems) throws(SyntaxError) -> Node? {
        var root: Node?
        while true {
            let (event, mark) = try next()
            switch event {
            case .streamEnd: return root
            case .documentStart:
                guard root == nil else {
                    throw SyntaxError(mark: mark, message: "a second document begins here; the file holds one")
                }
                let (first, place) = try next()
                let node = try self.node(first, place, problems: &problems)
                guard node.weight <= Self.maxWeight else {
                    throw SyntaxError(mark: node.mark, message: "its aliases expand to more than 100000 nodes")
                }
                root = node
            default: continue
            }
        }
    }

    private mutating func node(
        _ event: Event, _ mark: Mark, problems: inout Problems
    ) throws(SyntaxError) -> Node {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.maxDepth else {
            throw SyntaxError(mark: mark, message: "nested more than \(Self.maxDepth) deep")
        }
        let node: Node
        let anchor: String?
        switch event {
        case .alias(let name):
            guard let target = anchors[name] else {
                let hint = NearestWord.hint(name, among: anchors.keys.sorted())
                throw SyntaxError(mark: mark, message: "the alias '*\(name)' has no anchor '&\(name)' before it\(hint)")
            }
            return target
        case .scalar(let scalar, let name, let tag):
            try check(tag, mark)
            node = Node(.scalar(scalar), at: mark)
            anchor = name
        case .sequenceStart(let name, let tag):
            try check(tag, mark)
            node = Node(.sequence(try sequence(problems: &problems)), at: mark)
            anchor = name
        case .mappingStart(let name, let tag):
            try check(tag, mark)
            node = Node(.mapping(try mapping(problems: &problems)), at: mark)
            anchor = name
        default: throw SyntaxError(mark: mark, message: "a value is missing")
        }
        if let anchor { anchors[anchor] = node }
        return node
    }

    private func check(_ tag: String?, _ mark: Mark) throws(SyntaxError) {
        guard let tag, tag != "!", !tag.hasPrefix("tag:yaml.org,2002:") else { return }
        throw SyntaxError(mark: mark, message: "the tag '\(tag)' means nothing here")
    }

    private mutating func sequence(problems: inout Problems) throws(SyntaxError) -> [Node] {
        var nodes: [Node] = []
        while true {
            let (event, mark) = try next()
            if case .sequenceEnd = event { return nodes }
            nodes.append(try node(event, mark, problems: &problems))
        }
    }

    private mutating func mapping(problems: inout Problems) throws(SyntaxError) -> [Node.Pair] {
        var pairs: [Node.Pair] = []
        var places: [String: Mark] = [:]
        var merges: [Node] = []
        while true {
            let (event, mark) = try next()
            if case .mappingEnd = event { break }
            let keyNode = try node(event, mark, problems: &problems)
            let (valueEvent, valueMark) = try next()
            let value = try node(valueEvent, valueMark, problems: &problems)
            guard case .scalar(let key) = keyNode.content else {
                throw SyntaxError(mark: mark, message: "a key must be text, found \(keyNode.kindName)")
            }
            if key.plain, key.text == "<<" {
                merges.append(value)
            } else if let first = places[key.text] {
                problems.error(mark, "'\(key.text)' is given twice; the first is on line \(first.line)")
            } else {
                places[key.text] = mark
                pairs.append(Node.Pair(key: key.text, keyMark: mark, value: value))
            }
        }
        for merge in merges {
            for pair in try mergedPairs(merge) where places[pair.key] == nil {
                places[pair.key] = pair.keyMark
                pairs.append(pair)
            }
        }
        return pairs
    }

    private func mergedPairs(_ node: Node) throws(SyntaxError) -> [Node.Pair] {
        switch node.content {
        case .mapping(let pairs): return pairs
        case .sequence(let nodes):
            var pairs: [Node.Pair] = []
            for node in nodes {
                guard case .mapping(let more) = node.content, pairs.count <= Self.maxWeight else {
                    throw SyntaxError(mark: node.mark, message: "'<<' takes a mapping or a list of mappings")
                }
                pairs += more
            }
            return pairs
        case .scalar:
            throw SyntaxError(mark: node.mark, message: "'<<' takes a mapping or a list of mappings")
        }
    }
}

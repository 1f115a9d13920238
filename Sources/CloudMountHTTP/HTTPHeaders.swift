/// Header fields in order; names are found whatever their case.
public struct HTTPHeaders: Sendable, Equatable {
    public struct Field: Sendable, Equatable {
        public var name: String
        public var value: String
    }

    /// Where a field lies in `bytes`: `name` from `start`, `: ` at `colon`, the value up to `end`, a zero byte there.
    struct Mark: Sendable, Equatable {
        var start: Int
        var colon: Int
        var end: Int
    }

    /// All fields as C strings, one after another: what libcurl takes, and one allocation instead of two per field.
    private(set) var bytes: [UInt8] = []
    private(set) var marks: [Mark] = []
    /// Whether a name or value holds a byte that would end its line; such a request is refused. Not told of what came off
    /// the wire line by line.
    private(set) var holdsControlBytes = false

    public init() {}

    public var count: Int { marks.count }
    public var isEmpty: Bool { marks.isEmpty }

    /// All fields in order, made anew by each call.
    public var fields: [Field] {
        marks.map { Field(name: text($0.start, $0.colon), value: text($0.colon + 2, $0.end)) }
    }

    /// Adds a field behind the others, also when there is one of that name.
    public mutating func append(_ name: String, _ value: String) {
        if marks.isEmpty {
            bytes.reserveCapacity(768)
            marks.reserveCapacity(12)
        }
        var name = name
        var value = value
        name.withUTF8 { name in value.withUTF8 { append(name, $0) } }
    }

    /// The same with a value that is in bytes already.
    package mutating func append(_ name: StaticString, _ value: UnsafeBufferPointer<UInt8>) {
        append(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), value)
    }

    /// The first field of that name.
    public subscript(name: String) -> String? {
        var name = name
        return name.withUTF8 { find($0) }.map { text($0.colon + 2, $0.end) }
    }

    /// What `body` makes of the value of the first field of that name; nil when there is none.
    package func value<Result>(of name: StaticString, _ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result? {
        guard let mark = find(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)) else {
            return nil
        }
        return bytes.withUnsafeBufferPointer { body(UnsafeBufferPointer(rebasing: $0[mark.colon + 2..<mark.end])) }
    }

    /// Calls `body` with name and value of each field, in order.
    package func forEach(_ body: (_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) -> Void) {
        bytes.withUnsafeBufferPointer { bytes in
            for mark in marks {
                body(
                    UnsafeBufferPointer(rebasing: bytes[mark.start..<mark.colon]),
                    UnsafeBufferPointer(rebasing: bytes[mark.colon + 2..<mark.end]))
            }
        }
    }

    mutating func reserve(fields: Int, bytes count: Int) {
        marks.reserveCapacity(fields)
        bytes.reserveCapacity(count)
    }

    /// Adds a line as it came off the wire, with or without its end; what has no name is dropped.
    mutating func append(line: UnsafeBufferPointer<UInt8>) {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0 else { return }
        var low = colon + 1
        var high = line.count
        while low < high, Self.isBlank(line[low]) { low += 1 }
        while high > low, Self.isBlank(line[high - 1]) { high -= 1 }
        add(UnsafeBufferPointer(rebasing: line[..<colon]), UnsafeBufferPointer(rebasing: line[low..<high]))
    }

    private mutating func append(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) {
        add(name, value)
        // Without branches, for many bytes at once.
        var control: UInt8 = 0
        for byte in name { control |= (byte <= 0x20 ? 1 : 0) | (byte == 0x7F ? 1 : 0) }
        for byte in value { control |= (byte < 0x20 ? 1 : 0) & (byte != 0x09 ? 1 : 0) | (byte == 0x7F ? 1 : 0) }
        if control != 0 { holdsControlBytes = true }
    }

    private mutating func add(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) {
        let start = bytes.count
        bytes.append(contentsOf: name)
        let colon = bytes.count
        bytes.append(UInt8(ascii: ":"))
        bytes.append(UInt8(ascii: " "))
        bytes.append(contentsOf: value)
        marks.append(Mark(start: start, colon: colon, end: bytes.count))
        bytes.append(0)
    }

    /// - Parameter name: in any case.
    func find(_ name: UnsafeBufferPointer<UInt8>) -> Mark? {
        bytes.withUnsafeBufferPointer { bytes in
            marks.withUnsafeBufferPointer { marks in
                for mark in marks where mark.colon - mark.start == name.count {
                    var index = 0
                    while index < name.count, Self.lower(bytes[mark.start + index]) == Self.lower(name[index]) {
                        index += 1
                    }
                    if index == name.count { return mark }
                }
                return nil
            }
        }
    }

    /// The value of the first field of that name as a decimal number; nil when it is none.
    package func number(_ name: StaticString) -> Int? {
        value(of: name, Self.wholeNumber) ?? nil
    }

    /// Whether there is a Content-Length that is no number, or two that say different things.
    var contradictsItsLength: Bool {
        var told: Int?
        var odd = false
        forEach { name, value in
            guard Self.isSame(name, "content-length") else { return }
            let number = Self.wholeNumber(value)
            odd = odd || number == nil || (told != nil && told != number)
            told = number
        }
        return odd
    }

    private static func wholeNumber(_ value: UnsafeBufferPointer<UInt8>) -> Int? {
        var rest = value[...]
        return number(&rest).flatMap { rest.isEmpty ? $0 : nil }
    }

    private static func isSame(_ name: UnsafeBufferPointer<UInt8>, _ other: StaticString) -> Bool {
        guard name.count == other.utf8CodeUnitCount else { return false }
        for index in 0..<name.count where lower(name[index]) != lower(other.utf8Start[index]) { return false }
        return true
    }

    /// Takes the digits from the front of `text`; nil when there are none, or more than fit.
    package static func number(_ text: inout Slice<UnsafeBufferPointer<UInt8>>) -> Int? {
        var number = 0
        let start = text.startIndex
        while let digit = text.first.map({ $0 &- 0x30 }), digit < 10 {
            guard number < Int.max / 16 else { return nil }
            number = number * 10 + Int(digit)
            text.removeFirst()
        }
        return text.startIndex > start ? number : nil
    }

    private func text(_ start: Int, _ end: Int) -> String {
        bytes.withUnsafeBufferPointer { bytes in
            String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<end]), as: UTF8.self)
        }
    }

    private static func lower(_ byte: UInt8) -> UInt8 { byte &- 65 < 26 ? byte | 32 : byte }
    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0D || byte == 0x0A }
}

/// How much of a list an answer names: together less than a client takes (`UnixSocket.maxLine`), whatever names strangers have chosen.
struct AnswerRoom {
    private var bytes: Int

    init(bytes: Int = UnixSocket.maxLine / 2) { self.bytes = bytes }

    /// Those in front that there is room for.
    mutating func first<Value: Encodable>(of values: [Value], atMost count: Int = .max) -> [Value] {
        var named = 0
        for value in values.prefix(count) {
            bytes -= (try? ControlJSON.line(value).count) ?? 0
            if bytes < 0 { break }
            named += 1
        }
        return Array(values.prefix(named))
    }
}

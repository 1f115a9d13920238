import CloudMountVFS
import Logging
import Testing

@testable import CloudMountDaemon

@Suite("The log")
struct TerminalLogTests {
    let time = Timestamp(seconds: 951_782_400, nanoseconds: 7_000_000)

    @Test("a line of text has time, level, message and metadata in order")
    func text() {
        let log = TerminalLog(label: "cloudmount", level: .info, format: .text)
        #expect(
            log.line(time, .warning, "no answer", ["mount": "photos", "key": "a b", "code": "x=1", "empty": ""])
                == #"2000-02-29T00:00:00.007Z WARNING no answer code="x=1" empty="" key="a b" mount=photos"#)
    }

    @Test("a line of JSON is one object, whatever is in it")
    func json() {
        let log = TerminalLog(label: "cloudmount", level: .info, format: .json)
        #expect(
            log.line(time, .error, "a \"b\"\n\u{1B}", ["key": "\\é"])
                == #"{"time":"2000-02-29T00:00:00.007Z","level":"error","label":"cloudmount","message":"a \"b\"\n\u001b","key":"\\é"}"#
        )
    }

    @Test("strangers' control characters reach no terminal")
    func control() {
        let log = TerminalLog(label: "cloudmount", level: .info, format: .text)
        let line = log.line(time, .error, "a\u{1B}[2Jb\nc", ["key": "\u{9B}2J\u{7F}"])
        #expect(line.unicodeScalars.allSatisfy { $0.value >= 32 && !(127...159).contains($0.value) })
    }
}

import CloudMountVFS
import Logging
import Testing

@testable import CloudMountDaemon

/// Text of stores where people read it: on a terminal.
@Suite("Text of strangers")
struct PrintableTests {
    private static let hostile = "a\u{1B}[2J\u{9B}2J\u{7F}\n\u{202E}\u{2028}ü🚀"

    private func isPlain(_ text: String, lines: Int = 1) -> Bool {
        text.unicodeScalars.allSatisfy { $0.isPrintable || $0 == "\n" } && text.split(separator: "\n").count == lines
    }

    @Test("what controls a terminal is written out, and the rest stays")
    func rule() {
        #expect(Self.hostile.printable == "a\\u{1b}[2J\\u{9b}2J\\u{7f}\\u{a}\\u{202e}\\u{2028}ü🚀")
        #expect("ü 🚀 \u{200D}".printable == "ü 🚀 \u{200D}")
    }

    @Test("an error is one line, whatever the store calls it")
    func errors() {
        let wire = VFSError.Wire(
            operation: "Get", key: Self.hostile, endpoint: "e", status: 500, code: Self.hostile,
            requestID: Self.hostile)
        #expect(isPlain(VFSError(.io, Self.hostile, wire: wire).description))
    }

    @Test("of an error of any length the beginning is kept, of a letter with a million accents too")
    func length() {
        for text in [String(repeating: "A", count: 1 << 20), "e" + String(repeating: "\u{301}", count: 1 << 20)] {
            var wire = VFSError.Wire(operation: "Get", endpoint: "e", status: 500, code: text, requestID: text)
            #expect(wire.code?.unicodeScalars.count == 101)
            wire.code = text
            wire.requestID = text
            var error = VFSError(.io, text, wire: wire)
            #expect(error.description.utf8.count < 20_000)
            error.message = text
            #expect(error.description.utf8.count < 20_000)
            #expect(error.wire?.requestID?.unicodeScalars.count == 101)
        }
        #expect("abc".cut(to: 3) == "abc")
        #expect("äbc".cut(to: 2) == "äb…")
    }

    @Test("a log line has none of it, in either form")
    func log() {
        for format in TerminalLog.Format.allCases {
            let log = TerminalLog(label: "cloudmount", level: .info, format: format)
            let metadata: Logger.Metadata = ["key": "\(Self.hostile)", "c1": "\u{9B}"]
            #expect(isPlain(log.line(Timestamp(seconds: 0), .error, Self.hostile, metadata)))
        }
    }

    @Test("what a reload did is a line for each mount, and as JSON is read back as it was")
    func reload() throws {
        let report = ReloadReport(
            mounts: [ReloadReport.Mount(name: "m", outcome: .failed, reason: Self.hostile)], changed: [Self.hostile])
        #expect(isPlain(report.text, lines: 2))
        let json = try ControlJSON.pretty(report)
        #expect(json.unicodeScalars.allSatisfy { $0.isPrintable || $0 == "\n" })
        #expect(try ControlJSON.decode(ReloadReport.self, from: Array(json.utf8)) == report)
    }
}

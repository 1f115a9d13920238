import CloudMountPlatform
import CloudMountVFS
import Glibc
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

    @Test("under the journal a line begins with its priority, and has no time")
    func journal() {
        let text = TerminalLog(label: "cloudmount", output: LogOutput(level: .info, format: .text, isJournal: true))
        #expect(text.line(time, .warning, "a\nb", ["mount": "photos"]) == #"<4>a\nb mount=photos"#)
        let levels: [Logger.Level] = [.trace, .debug, .info, .notice, .warning, .error, .critical]
        #expect(levels.map { text.line(time, $0, "", [:]) } == ["<7>", "<7>", "<6>", "<5>", "<4>", "<3>", "<2>"])
        let json = TerminalLog(label: "cloudmount", output: LogOutput(level: .info, format: .json, isJournal: true))
        #expect(json.line(time, .error, "a", [:]).hasPrefix(#"<3>{"time":"2000-02-29T00:00:00.007Z","#))
        #expect(!LogOutput.isJournal(environment: ["JOURNAL_STREAM": "0:0"]))
        var status = stat()
        #expect(fstat(STDERR_FILENO, &status) == 0)
        #expect(LogOutput.isJournal(environment: ["JOURNAL_STREAM": "\(status.st_dev):\(status.st_ino)"]))
    }

    @Test("strangers' control characters reach no terminal")
    func control() {
        let log = TerminalLog(label: "cloudmount", level: .info, format: .text)
        let line = log.line(time, .error, "a\u{1B}[2Jb\nc", ["key": "\u{9B}2J\u{7F}"])
        #expect(line.unicodeScalars.allSatisfy { $0.value >= 32 && !(127...159).contains($0.value) })
    }
}

@Suite("Log lines and who does not read them")
struct LogWriterTests {
    /// A pipe that has no room.
    private func fullPipe() throws -> (read: Descriptor, write: Descriptor) {
        let pipe = try #require(Descriptor.pipe())
        let flags = fcntl(pipe.write.raw, F_GETFL)
        _ = fcntl(pipe.write.raw, F_SETFL, flags | O_NONBLOCK)
        let bytes = [UInt8](repeating: UInt8(ascii: "x"), count: 4096)
        while Glibc.write(pipe.write.raw, bytes, bytes.count) > 0 {}
        while Glibc.write(pipe.write.raw, bytes, 1) > 0 {}
        _ = fcntl(pipe.write.raw, F_SETFL, flags)
        return pipe
    }

    /// Reads `pipe` up to a line that says `last`, from this moment on: on a thread of its own, since those of the tests may be
    /// busy for minutes. The one element are the lines, without what filled the pipe.
    private func lines(_ pipe: Descriptor, until last: String) -> AsyncStream<[String]> {
        let (stream, found) = AsyncStream<[String]>.makeStream()
        BlockingPool(name: "reader", width: 1).submit {
            var bytes: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 65536)
            while !String(decoding: bytes.suffix(100), as: UTF8.self).hasSuffix(last + "\n") {
                let count = Glibc.read(pipe.raw, &buffer, buffer.count)
                guard count > 0 else { break }
                bytes += buffer[..<count]
            }
            found.yield(
                String(decoding: bytes.drop { $0 == UInt8(ascii: "x") }, as: UTF8.self).split(separator: "\n")
                    .map(String.init))
            found.finish()
        }
        return stream
    }

    /// Nobody else waits meanwhile. An hour: what is slow is no failure.
    private func flushed(_ writer: LogWriter) async -> Bool {
        await BlockingPool(name: "flush", width: 1).run { writer.flush(milliseconds: 3_600_000) }
    }

    @Test("Nobody waits for a pipe that is full; what had no room is counted, and told in its place when there is room")
    func full() async throws {
        let pipe = try fullPipe()
        let writer = LogWriter(pipe.write.raw, limit: 1000)
        // Forty are taken; when one goes under way while the others come, one more is, and the loss is told in two places.
        for index in 0..<500 { writer.write("line \(1000 + index) of twenty.\n") { "\($0) lost\n" } }
        #expect(!writer.flush(milliseconds: 1))
        let read = lines(pipe.read, until: "after")
        #expect(await flushed(writer))
        writer.write("after\n") { "\($0) lost\n" }
        let found = try #require(await read.first { _ in true })
        #expect(found.last == "after")
        var index = 0
        for line in found.dropLast() {
            if line.hasSuffix(" lost") {
                index += try #require(Int(line.prefix { $0 != " " }))
            } else {
                #expect(line == "line \(1000 + index) of twenty.")
                index += 1
            }
        }
        #expect(index == 500)
        #expect(found.count < 60)
        #expect(await flushed(writer))
    }

    @Test("A pipe whose reader has gone loses lines and nothing else")
    func broken() throws {
        let end = try #require(Descriptor.pipe()).write
        let writer = LogWriter(end.raw)
        for _ in 0..<100 { writer.write("line\n") { "\($0) lost\n" } }
        #expect(writer.flush(milliseconds: 3_600_000))
    }

    @Test("Lines of many threads stay whole and in their order")
    func threads() async throws {
        let pipe = try #require(Descriptor.pipe())
        let writer = LogWriter(pipe.write.raw)
        let read = lines(pipe.read, until: "end")
        await withTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    for index in 0..<500 { writer.write("\(task) \(index)\n") { "\($0) lost\n" } }
                }
            }
        }
        writer.write("end\n") { "\($0) lost\n" }
        let found = try #require(await read.first { _ in true })
        #expect(found.count == 4001)
        for task in 0..<8 {
            #expect(found.filter { $0.hasPrefix("\(task) ") } == (0..<500).map { "\(task) \($0)" })
        }
    }
}

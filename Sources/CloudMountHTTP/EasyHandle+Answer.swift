import CCurl
import CloudMountVFS

extension EasyHandle {
    /// More header bytes than any answer in use; the transfer ends.
    private static var headLimit: Int { 1 << 20 }

    // MARK: What libcurl calls during a transfer

    /// One line of a head, the empty line that ends it, or a trailer.
    func takeHeaderLine(_ start: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        guard let start, count > 0 else { return count }
        pulse.moved += count
        let line = UnsafeBufferPointer(
            start: UnsafeRawPointer(start).assumingMemoryBound(to: UInt8.self), count: count)
        if count > 8, line[0] == UInt8(ascii: "H"), line[1] == UInt8(ascii: "T"), line[2] == UInt8(ascii: "T"),
            line[3] == UInt8(ascii: "P"), line[4] == UInt8(ascii: "/")
        {
            return takeStatusLine(line)
        }
        guard !hasHead else { return count }
        if line[0] == UInt8(ascii: "\r") || line[0] == UInt8(ascii: "\n") {
            hasHead = status >= 200
            if hasHead, answer.contradictsItsLength {
                return refuse(HTTPError(.malformed, "the answer's length is no number, or two of them"))
            }
            return count
        }
        guard answer.bytes.count + count <= Self.headLimit else {
            return refuse(HTTPError(.malformed, "the answer's headers are larger than \(Self.headLimit) bytes"))
        }
        answer.append(line: line)
        return count
    }

    /// Another one follows an interim answer, and an answer that made libcurl send the request again (417).
    private func takeStatusLine(_ line: UnsafeBufferPointer<UInt8>) -> Int {
        if case .sink = body {
            return refuse(HTTPError(.malformed, "a second answer followed the first one's body"))
        }
        if status == 417 { isSpent = true }
        var index = 5
        while index < line.count, line[index] != 0x20 { index += 1 }
        while index < line.count, line[index] == 0x20 { index += 1 }
        var code = 0
        while index < line.count, code < 1000, line[index] &- 0x30 < 10 {
            code = code * 10 + Int(line[index] - 0x30)
            index += 1
        }
        status = code
        hasHead = false
        head = nil
        body = .open
        collected = []
        room = nil
        answer = HTTPHeaders()
        answer.reserve(fields: 16, bytes: 768)
        return line.count
    }

    /// Bytes of the body, in libcurl's own buffer.
    func takeBody(_ start: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        guard let start, count > 0 else { return count }
        pulse.moved += count
        let bytes = UnsafeRawBufferPointer(start: start, count: count)
        if case .open = body {
            if let error = openBody() { return refuse(error) }
            if case .sink(let sink) = body, let transfer {
                sink.attach { [queue] in queue.push(.resume(transfer)) }
            } else {
                // Not before there is a body: an answer may name a length and have none.
                collected.reserveCapacity(min(announced, limit, AnswerBudget.free))
            }
        }
        guard case .sink(let sink) = body else { return collect(bytes) }
        switch sink.receive(bytes) {
        case .proceed:
            tally.bytesReceived.add(count)
            return count
        case .pause:
            pulse.moved -= count
            isPaused = true
            return Int(CURL_WRITEFUNC_PAUSE)
        case .stop:
            return refuse(HTTPError(.cancelled, "the receiver wanted no more"))
        }
    }

    /// Room for the next bytes of the request's body. What is not there at once is read elsewhere; libcurl waits meanwhile.
    func giveBody(_ start: UnsafeMutablePointer<CChar>?, _ room: Int) -> Int {
        let room = min(room, sourceCount - sourceOffset)
        guard let start, let source, let transfer, room > 0 else { return 0 }
        let target = UnsafeMutableRawBufferPointer(start: start, count: room)
        let count: Int
        if let ahead, !ahead.isReading, ahead.offset <= sourceOffset, sourceOffset < ahead.end {
            count = ahead.read(at: sourceOffset - ahead.offset, into: target)
            if sourceOffset + count == ahead.end { self.ahead = nil }
        } else if let now = source.readNow(at: sourceOffset, into: target), now > 0, now <= room {
            count = now
        } else {
            isHungry = true
            pulse.hold()
            if ahead?.isReading != true || ahead?.offset != sourceOffset {
                let stretch = ReadAhead(
                    offset: sourceOffset, count: min(ReadAhead.stretch, sourceCount - sourceOffset))
                ahead = stretch
                transfer.read(stretch, from: source)
            }
            return Int(CURL_READFUNC_PAUSE)
        }
        sourceOffset += count
        pulse.moved += count
        tally.bytesSent.add(count)
        return count
    }

    // MARK: The body's way

    /// Asks who takes the body, once the head is whole.
    private func openBody() -> HTTPError? {
        let head = HTTPResponseHead(status: status, headers: answer)
        self.head = head
        body = .memory
        if case .sink(let sink, let accepts)? = transfer?.target, accepts(head) {
            body = .sink(sink)
            return nil
        }
        return announced > limit && shape != .head && !isRefusal ? tooLarge : nil
    }

    private var isRefusal: Bool { !(200..<300 ~= status) }

    /// The most that is collected.
    private var limit: Int {
        let limit = transfer?.request.options.maxBodyBytes ?? 0
        return isRefusal ? min(limit, HTTPOptions.mostOfRefusal) : limit
    }

    /// How long the body is, as the head has it.
    private var announced: Int { answer.number("content-length") ?? 0 }

    private func collect(_ bytes: UnsafeRawBufferPointer) -> Int {
        let room = limit - collected.count
        guard bytes.count <= room else {
            guard isRefusal else { return refuse(tooLarge) }
            // What it says stands at its beginning; there may be no end.
            collected.append(contentsOf: bytes[..<room])
            isCut = true
            return 0
        }
        collected.append(contentsOf: bytes)
        guard hasRoom() else {
            collected = []
            return refuse(HTTPError(.noRoom, "there is no memory for so many long answers at a time"))
        }
        tally.bytesReceived.add(bytes.count)
        return bytes.count
    }

    private func hasRoom() -> Bool {
        guard collected.capacity > AnswerBudget.free else { return true }
        let room = room ?? AnswerRoom(tally.answers)
        self.room = room
        return room.cover(collected.capacity)
    }

    private var tooLarge: HTTPError { HTTPError(.tooLarge, "the answer is larger than \(limit) bytes") }

    /// Any count but the given one ends the transfer.
    private func refuse(_ error: HTTPError) -> Int {
        failure = error
        return 0
    }

    // MARK: The end

    /// What the transfer came to, by libcurl's verdict on it.
    func outcome(_ code: CURLcode) -> Transfer.Outcome {
        if let failure { return .failure(failure) }
        if diedUnheard(code) { return .failure(Self.dropped) }
        guard code == CURLE_OK || isCut else { return .failure(HTTPError(code, detail: String(cString: errorText))) }
        guard hasHead else { return .failure(HTTPError(.malformed, "the server sent no answer")) }
        if case .open = body, let error = openBody() { return .failure(error) }
        guard let head else { return .failure(HTTPError(.malformed, "the server sent no answer")) }
        var sunk = false
        if case .sink = body { sunk = true }
        var response = HTTPResponse(head: head, body: collected, sunk: sunk, timings: timings)
        response.room = room
        return .success(response)
    }

    private var timings: HTTPTimings {
        var timings = HTTPTimings()
        timings.nameLookup = seconds(CURLINFO_NAMELOOKUP_TIME_T)
        timings.connect = seconds(CURLINFO_CONNECT_TIME_T)
        timings.tls = seconds(CURLINFO_APPCONNECT_TIME_T)
        timings.firstByte = seconds(CURLINFO_STARTTRANSFER_TIME_T)
        timings.total = seconds(CURLINFO_TOTAL_TIME_T)
        timings.reusedConnection = reusedConnection
        timings.attempts = attempts
        return timings
    }

    private func seconds(_ info: CURLINFO) -> Double { Double(cm_easy_offset(raw, info)) / 1e6 }

    var reusedConnection: Bool { attempts > 0 && cm_easy_long(raw, CURLINFO_NUM_CONNECTS) == 0 }

    private static var dropped: HTTPError {
        HTTPError(.dropped, "it was closed before an answer came; the request may have been taken")
    }

    /// Called before each time that the request goes out. libcurl by itself sends one again whose kept-alive connection
    /// died without an answer; only what changes nothing may be sent twice.
    func maySend() -> Bool {
        if attempts > 0, status == 0, !isSafe {
            failure = Self.dropped
            return false
        }
        attempts += 1
        return true
    }

    var isSafe: Bool { transfer?.request.method.isSafe ?? false }

    /// Whether `code` says that a kept-alive connection had died before any byte of an answer came.
    func diedUnheard(_ code: CURLcode) -> Bool {
        guard status == 0, failure == nil, !onFreshConnection, reusedConnection else { return false }
        return code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR
    }
}

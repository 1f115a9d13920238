import CCurl
import CloudMountVFS

extension EasyHandle {
    /// The largest body that goes out together with the headers, in one system call (libcurl's own limit is 64 KiB).
    private static var inlineLimit: Int { 48 << 10 }

    /// Tells libcurl about the request of `transfer`.
    /// - Returns: false, and nothing told, when the body has to be read first where that may block.
    func prepare(_ transfer: Transfer) throws(HTTPError) -> Bool {
        let request = transfer.request
        guard !request.headers.holdsControlBytes else {
            throw HTTPError(.malformed, "a header field of the request holds a control character")
        }
        guard request.method == verb || request.method.isToken else {
            throw HTTPError(.malformed, "the method of the request is no token")
        }
        source = request.body
        sourceCount = request.body?.count ?? 0
        let wanted = wantedShape(request.method)
        guard wanted != .inline || loadInlineBody() else { return false }
        self.transfer = transfer
        attempts = 0
        rewind()
        let options = request.options
        if options.connectTimeout != connectTimeout {
            cm_easy_set_long(raw, CURLOPT_CONNECTTIMEOUT_MS, max(1, options.connectTimeout.milliseconds))
            connectTimeout = options.connectTimeout
        }
        if options.caFile != caFile {
            (options.caFile.map { Authorities(file: $0) } ?? system).apply(to: raw)
            caFile = options.caFile
        }
        // What counts as never leaving this machine must not: a proxy of the environment would be sent it, credentials and all.
        let direct = options.isDirect || Loopback.isHost(ofURL: request.url)
        if direct != isDirect {
            // Of no characters: none; nil: the environment's.
            if direct {
                cm_easy_set_string(raw, CURLOPT_PROXY, "")
            } else {
                cm_easy_set_pointer(raw, CURLOPT_PROXY, nil)
            }
            isDirect = direct
        }
        let accepted = request.url.withCString { cm_easy_set_string(raw, CURLOPT_URL, $0) }
        guard accepted == CURLE_OK else { throw HTTPError(accepted, detail: "") }
        take(wanted, request.method)
        setHeaders(request)
        pulse = TransferPulse(options)
        return true
    }

    private func wantedShape(_ method: HTTPMethod) -> Shape {
        switch method {
        case .head where sourceCount == 0: .head
        case .get where sourceCount == 0, .delete where sourceCount == 0: .bodyless
        default: sourceCount <= Self.inlineLimit ? .inline : .streamed
        }
    }

    private func take(_ wanted: Shape, _ method: HTTPMethod) {
        if wanted != shape {
            // Each of these sets libcurl's own method; what an earlier shape left behind goes first.
            if shape == .inline { cm_easy_set_pointer(raw, CURLOPT_POSTFIELDS, nil) }
            if shape == .streamed { cm_easy_set_long(raw, CURLOPT_UPLOAD, 0) }
            cm_easy_set_long(raw, CURLOPT_HTTPGET, 1)
            switch wanted {
            case .bodyless: break
            case .head: cm_easy_set_long(raw, CURLOPT_NOBODY, 1)
            case .inline: cm_easy_set_long(raw, CURLOPT_POST, 1)
            case .streamed: cm_easy_set_long(raw, CURLOPT_UPLOAD, 1)
            }
            shape = wanted
        }
        if method != verb {
            cm_easy_set_string(raw, CURLOPT_CUSTOMREQUEST, method.rawValue)
            verb = method
        }
        switch wanted {
        case .bodyless, .head: break
        case .inline:
            tally.bytesSent.add(sourceCount)
            cm_easy_set_offset(raw, CURLOPT_POSTFIELDSIZE_LARGE, sourceCount)
            cm_easy_set_pointer(raw, CURLOPT_POSTFIELDS, inlineBody.baseAddress)
        case .streamed:
            cm_easy_set_offset(raw, CURLOPT_INFILESIZE_LARGE, sourceCount)
        }
    }

    /// False when not all of the body is there at once.
    private func loadInlineBody() -> Bool {
        if inlineBody.count < max(1, sourceCount) {
            inlineBody.deallocate()
            inlineBody = .allocate(byteCount: sourceCount <= 8 << 10 ? 8 << 10 : Self.inlineLimit, alignment: 16)
        }
        guard let source else { return true }
        var done = 0
        while done < sourceCount {
            let rest = UnsafeMutableRawBufferPointer(rebasing: inlineBody[done..<sourceCount])
            guard let more = source.readNow(at: done, into: rest) else { return false }
            done += more
        }
        return true
    }

    private func setHeaders(_ request: HTTPRequest) {
        headers.begin(request.headers)
        if shape == .inline, !headers.namesContentType {
            // libcurl would call it a form.
            headers.append("Content-Type:")
        }
        if shape == .streamed, sourceCount <= request.options.expectContinueAbove {
            // libcurl would send `Expect: 100-continue` with more than 1 MiB.
            headers.append("Expect:")
        }
        cm_easy_set_headers(raw, headers.list)
    }
}

extension Duration {
    /// At most some 24 days, which is as far as libcurl counts.
    var milliseconds: Int {
        let (seconds, attoseconds) = components
        guard seconds < 2_000_000 else { return 2_000_000_000 }
        return max(0, Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000))
    }
}

import CCurl
import CloudMountPlatform
import CloudMountVFS
import Glibc

/// A libcurl easy handle that is kept from one transfer to the next, and the state of the transfer that it carries.
///
/// Confined to the transfer thread. What never changes is set once; a transfer sets only what differs from the last one.
final class EasyHandle {
    enum Body {
        /// No byte has come yet.
        case open
        case memory
        case sink(any ByteSink)
    }

    /// What libcurl has been told to do; see `EasyHandle+Request.swift`.
    enum Shape {
        case bodyless, head, inline, streamed
    }

    let raw: UnsafeMutableRawPointer
    let queue: TransferQueue
    let tally: TransferTally

    // Of the handle.
    var headers = HeaderArena()
    var shape: Shape?
    var verb: HTTPMethod?
    var connectTimeout: Duration?
    var caFile: String?
    /// The last transfer went past any proxy of the environment.
    var isDirect = false
    let system: Authorities
    var inlineBody = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    let errorText: UnsafeMutablePointer<CChar>
    /// Not to be used again: after a 417 libcurl never again sends an `Expect` with this handle.
    var isSpent = false

    // Of the transfer.
    var transfer: Transfer?
    /// Its place among the loop's active handles.
    var position = 0
    var status = 0
    var answer = HTTPHeaders()
    /// The final head is whole.
    var hasHead = false
    var head: HTTPResponseHead?
    var body = Body.open
    var collected: [UInt8] = []
    /// `collected` is the beginning of an answer, and all that is wanted of it.
    var isCut = false
    /// Of what is collected.
    var room: AnswerRoom?
    var source: (any ByteSource)?
    var sourceCount = 0
    var sourceOffset = 0
    /// Bytes of the source that were not there when libcurl asked: on their way, or read.
    var ahead: ReadAhead?
    /// libcurl waits for bytes to send.
    var isHungry = false
    /// Why a callback ended the transfer; outranks libcurl's code.
    var failure: HTTPError?
    var isPaused = false
    /// The head of an answer is there, of which no sink has taken anything.
    var isCollecting: Bool { if case .sink = body { false } else { hasHead } }
    var attempts = 0
    var onFreshConnection = false
    var pulse = TransferPulse()

    init?(queue: TransferQueue, tally: TransferTally, share: UnsafeMutableRawPointer?, sockets: SocketTable) {
        guard let raw = curl_easy_init() else { return nil }
        self.raw = raw
        self.queue = queue
        self.tally = tally
        system = Authorities(ofNewHandle: raw)
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.pointee = 0
        configure(share: share, sockets: sockets)
    }

    /// Bytes of a body that libcurl asks for at once.
    private static let uploadBuffer = 128 << 10

    deinit {
        curl_easy_cleanup(raw)
        errorText.deallocate()
        inlineBody.deallocate()
        headers.deallocate()
    }

    private func configure(share: UnsafeMutableRawPointer?, sockets: SocketTable) {
        let this = Unmanaged.passUnretained(self).toOpaque()
        cm_easy_set_pointer(raw, CURLOPT_PRIVATE, this)
        cm_easy_set_pointer(raw, CURLOPT_ERRORBUFFER, errorText)
        if let share { cm_easy_set_share(raw, share) }
        cm_easy_set_long(raw, CURLOPT_NOSIGNAL, 1)
        // Otherwise the end of a transfer whose name is still being looked up waits for the resolver, and with it the thread
        // that serves all mounts.
        cm_easy_set_long(raw, CURLOPT_QUICK_EXIT, 1)
        cm_easy_set_string(raw, CURLOPT_PROTOCOLS_STR, "http,https")
        cm_easy_set_long(raw, CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
        cm_easy_set_long(raw, CURLOPT_FOLLOWLOCATION, 0)
        cm_easy_set_long(raw, CURLOPT_PATH_AS_IS, 1)
        cm_easy_set_long(raw, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        cm_easy_set_long(raw, CURLOPT_TCP_NODELAY, 1)
        cm_easy_set_long(raw, CURLOPT_TCP_KEEPALIVE, 1)
        cm_easy_set_long(raw, CURLOPT_MAXAGE_CONN, 15)
        cm_easy_set_long(raw, CURLOPT_SSL_VERIFYPEER, 1)
        cm_easy_set_long(raw, CURLOPT_SSL_VERIFYHOST, 2)
        cm_easy_set_long(raw, CURLOPT_BUFFERSIZE, 256 << 10)
        // Each that uploads has one, and nothing counts them: no larger than it takes to be as fast as with any (64 KiB costs a tenth more CPU).
        cm_easy_set_long(raw, CURLOPT_UPLOAD_BUFFERSIZE, Self.uploadBuffer)
        cm_easy_set_long(raw, CURLOPT_EXPECT_100_TIMEOUT_MS, 1000)
        system.apply(to: raw)

        cm_easy_on_header(raw, { EasyHandle.at($3).takeHeaderLine($0, $1 * $2) }, this)
        cm_easy_on_write(raw, { EasyHandle.at($3).takeBody($0, $1 * $2) }, this)
        cm_easy_on_read(raw, { EasyHandle.at($3).giveBody($0, $1 * $2) }, this)
        cm_easy_on_seek(
            raw,
            { user, offset, origin in
                guard origin == SEEK_SET else { return CURL_SEEKFUNC_FAIL }
                EasyHandle.at(user).sourceOffset = Int(offset)
                return CURL_SEEKFUNC_OK
            }, this)
        cm_easy_on_request(
            raw,
            { user, _, _, _, _ in EasyHandle.at(user).maySend() ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT }, this)
        cm_easy_on_socket(
            raw, { user, _, address in SocketTable.at(user).open(address) },
            { user, fd in SocketTable.at(user).close(fd) }, Unmanaged.passUnretained(sockets).toOpaque())
    }

    // SAFETY: libcurl hands back the pointer set in `configure`; the loop keeps the handle alive while it is in the multi
    // handle, and callbacks come from nowhere else.
    @inline(__always)
    static func at(_ user: UnsafeMutableRawPointer?) -> EasyHandle {
        Unmanaged<EasyHandle>.fromOpaque(user.unsafelyUnwrapped).takeUnretainedValue()
    }

    /// Ready for the first or another attempt at the same transfer.
    func rewind() {
        status = 0
        hasHead = false
        head = nil
        body = .open
        sourceOffset = 0
        ahead = nil
        isHungry = false
        failure = nil
        isCut = false
        isPaused = false
        errorText.pointee = 0
    }

    /// Forgets the transfer. The handle is out of the multi handle.
    func clear() {
        transfer = nil
        source = nil
        ahead = nil
        answer = HTTPHeaders()
        head = nil
        body = .open
        collected = []
        room = nil
        if onFreshConnection {
            onFreshConnection = false
            cm_easy_set_long(raw, CURLOPT_FRESH_CONNECT, 0)
        }
    }
}

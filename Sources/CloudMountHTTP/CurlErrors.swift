import CCurl

extension HTTPError {
    /// - Parameter detail: libcurl's error buffer; it names hosts, ports and system errors, never headers.
    init(_ code: CURLcode, detail: String) {
        let text = detail.isEmpty ? String(cString: curl_easy_strerror(code)) : detail
        self.init(Self.kind(of: code), text)
    }

    private static func kind(of code: CURLcode) -> Kind {
        switch code {
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY:
            .resolve
        case CURLE_COULDNT_CONNECT, CURLE_INTERFACE_FAILED, CURLE_PROXY, CURLE_NO_CONNECTION_AVAILABLE,
            CURLE_QUIC_CONNECT_ERROR:
            .connect
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER,
            CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CRL_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_ENGINE_NOTFOUND,
            CURLE_SSL_ENGINE_SETFAILED, CURLE_SSL_ENGINE_INITFAILED, CURLE_SSL_INVALIDCERTSTATUS,
            CURLE_SSL_PINNEDPUBKEYNOTMATCH, CURLE_SSL_CLIENTCERT, CURLE_USE_SSL_FAILED:
            .tls
        case CURLE_OPERATION_TIMEDOUT:
            .timedOut
        case CURLE_PARTIAL_FILE:
            .truncated
        case CURLE_READ_ERROR, CURLE_SEND_FAIL_REWIND:
            .sourceFailed
        case CURLE_WRITE_ERROR, CURLE_ABORTED_BY_CALLBACK:
            .cancelled
        case CURLE_FILESIZE_EXCEEDED:
            .tooLarge
        case CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_SSL_SHUTDOWN_FAILED, CURLE_AGAIN:
            .reset
        default:
            // What is left is no HTTP (1, 8, 61, 92 ...), a request that cannot be sent (3, 43 ...) or a library that
            // cannot work (2, 4, 27 ...): to send the same again would not help.
            .malformed
        }
    }
}

"""HTTP/1.1 with keep-alive for the B2 server: one thread a connection, bodies from and to files, in blocks."""
import json
import os
import socket
import struct
import threading
import time
from email.utils import formatdate
from urllib.parse import parse_qsl, unquote_plus

BLOCK = 1 << 20
HEAD_LIMIT = 1 << 16
# What an answer before the body was read leaves unread is read and thrown away up to here, else the connection closes.
DRAIN_LIMIT = 1 << 32

REASONS = {
    200: "OK", 206: "Partial Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 411: "Length Required",
    416: "Range Not Satisfiable", 429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}


class ApiError(Exception):
    """An answer with B2's error object."""

    def __init__(self, status, code, message="", headers=()):
        super().__init__(f"{status} {code} {message}")
        self.status, self.code, self.message, self.headers = status, code, message, headers

    def body(self):
        return json.dumps({"status": self.status, "code": self.code, "message": self.message}).encode()


class Disconnected(Exception):
    """The client has gone, or the server resets the connection on purpose."""


def bad_request(message):
    return ApiError(400, "bad_request", message)


class Request:
    """One request: its head, and its body still on the wire."""

    def __init__(self, connection, method, target, headers):
        self.connection, self.method, self.headers = connection, method, headers
        path, _, query = target.partition("?")
        self.raw_path = path
        self.query_text = query
        self.started = time.monotonic()
        self.length = int(headers.get("content-length") or 0)
        self.unread = self.length
        self.expects = headers.get("expect", "").lower() == "100-continue"
        # For the log.
        self.operation, self.bucket, self.key_id, self.status = "", "", "", 0
        self.sent, self.reset_after = 0, None

    @property
    def query(self):
        return dict(parse_qsl(self.query_text, keep_blank_values=True))

    def segment(self, text):
        """A decoded piece of the path or of a header: percent-encoded UTF-8, and `+` for a space."""
        try:
            return unquote_plus(text, errors="strict")
        except UnicodeDecodeError:
            raise bad_request("not UTF-8: " + text[:100])

    def _continue(self):
        if self.expects:
            self.expects = False
            self.connection.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def body_blocks(self):
        """The body in blocks; each is valid until the next one is asked for."""
        self._continue()
        connection = self.connection
        while self.unread:
            if self.reset_after is not None and self.length - self.unread >= self.reset_after:
                connection.reset()
            block = connection.receive(self.unread if self.reset_after is None else min(self.unread, 65536))
            self.unread -= len(block)
            yield block

    def body(self, limit=8 << 20):
        if self.length > limit:
            raise bad_request("the request is too large")
        return b"".join(bytes(block) for block in self.body_blocks())


class Connection:
    def __init__(self, sock, address, serve):
        self.socket, self.address, self.serve = sock, address, serve
        self.pending = b""
        self.buffer = None

    def receive(self, most):
        """A block of at most so many bytes.
        :raises Disconnected: when the client has gone."""
        if self.pending:
            block = memoryview(self.pending)[:most]
            self.pending = self.pending[len(block):]
            return block
        if self.buffer is None:
            self.buffer = memoryview(bytearray(BLOCK))
        count = self.socket.recv_into(self.buffer, min(most, BLOCK))
        if not count:
            raise Disconnected
        return self.buffer[:count]

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Disconnected

    def _head(self):
        data = self.pending
        while True:
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                break
            if len(data) > HEAD_LIMIT:
                raise Disconnected
            more = self.socket.recv(65536)
            if not more:
                raise Disconnected
            data += more
        self.pending = data[end + 4:]
        lines = data[:end].decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        self.keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return Request(self, method, target, headers)

    def run(self):
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.keep = True
            while self.keep:
                request = self._head()
                self.serve(request)
                if request.unread and self.keep:
                    if request.expects or request.unread > DRAIN_LIMIT:
                        break
                    for _ in request.body_blocks():
                        pass
        except (Disconnected, ConnectionError, ValueError):
            pass
        finally:
            self.socket.close()

    def answer(self, request, status, headers, body=b""):
        """A whole answer from memory; for HEAD its head alone."""
        request.status = status
        if request.unread and request.expects:
            self.keep = False
        head = self._head_of_answer(status, headers, len(body))
        self.socket.sendall(head if request.method == "HEAD" else head + body)
        request.sent += 0 if request.method == "HEAD" else len(body)

    def answer_pieces(self, request, status, headers, length, pieces):
        """An answer whose body is extents of files: `(path, offset, count)`."""
        request.status = status
        self.socket.sendall(self._head_of_answer(status, headers, length))
        if request.method == "HEAD":
            return
        for path, offset, count in pieces:
            file = os.open(path, os.O_RDONLY)
            try:
                while count:
                    most = min(count, 8 << 20)
                    if request.reset_after is not None:
                        most = min(most, request.reset_after - request.sent)
                        if most <= 0:
                            self.reset()
                    done = os.sendfile(self.socket.fileno(), file, offset, most)
                    if not done:
                        raise Disconnected
                    offset, count = offset + done, count - done
                    request.sent += done
            finally:
                os.close(file)

    def _head_of_answer(self, status, headers, length):
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"Content-Length: {length}",
                 f"Date: {formatdate(usegmt=True)}"]
        if not self.keep:
            lines.append("Connection: close")
        lines += [f"{name}: {value}" for name, value in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def listen(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(512)
    return listener


def serve_forever(listener, serve):
    while True:
        sock, address = listener.accept()
        threading.Thread(target=Connection(sock, address, serve).run, daemon=True).start()

// HTTP/1.1 over one accepted socket: blocking calls, a thread for each connection.
#pragma once
#include "Store.hpp"
#include <cstdint>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

namespace bench {

/// What the network is made to look like, and what went over it.
struct Network {
    std::atomic<uint64_t> delay{0}; // microseconds, before each answer and before the first of a connection
    std::atomic<uint64_t> rate{0};  // bytes a second on one connection, each way; 0 is no limit
    std::atomic<uint64_t> received{0}, sent{0}, connections{0};
};

inline uint64_t microseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

inline void pause(uint64_t microseconds) {
    if (microseconds == 0) return;
    timespec time{time_t(microseconds / 1000000), long(microseconds % 1000000) * 1000};
    while (nanosleep(&time, &time) != 0) {}
}

inline std::string unescaped(std::string_view text, bool plusIsSpace = false) {
    std::string result;
    result.reserve(text.size());
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] == '%' && i + 2 < text.size()) {
            const char digits[] = {text[i + 1], text[i + 2], 0};
            result += char(strtol(digits, nullptr, 16));
            i += 2;
        } else {
            result += plusIsSpace && text[i] == '+' ? ' ' : text[i];
        }
    }
    return result;
}

struct Request {
    std::string method, bucket, key;
    Headers query, headers;

    bool asks(const char *name) const { return query.count(name) != 0; }
    std::string parameter(const char *name, const char *otherwise = "") const {
        auto it = query.find(name);
        return it == query.end() ? otherwise : it->second;
    }
    uint64_t number(const char *name, uint64_t otherwise = 0) const {
        auto it = query.find(name);
        return it == query.end() ? otherwise : strtoull(it->second.c_str(), nullptr, 10);
    }
    std::string header(const char *name) const {
        auto it = headers.find(name);
        return it == headers.end() ? "" : it->second;
    }
    bool isControl() const { return bucket == "_"; }
};

class Connection {
public:
    Connection(int socket, Network &network) : socket_(socket), network_(network), buffer_(256 * KiB) {
        int on = 1;
        setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    Connection(const Connection &) = delete;
    ~Connection() { close(socket_); }

    /// False when the client has gone or does not speak HTTP.
    bool next(Request &request) {
        size_t head;
        for (size_t searched = 0;;) {
            char *start = &buffer_[low_];
            if (auto end = memmem(start + searched, high_ - low_ - searched, "\r\n\r\n", 4)) {
                head = static_cast<char *>(end) + 2 - start;
                break;
            }
            searched = high_ - low_ > 3 ? high_ - low_ - 3 : 0;
            if (!fill()) return false;
        }
        if (!parse(std::string_view(&buffer_[low_], head), request)) return false;
        low_ += head + 2;
        left_ = strtoull(request.header("content-length").c_str(), nullptr, 10);
        bodyBegan_ = microseconds();
        bodyTaken_ = 0;
        if (!request.isControl() && isFresh_) {
            isFresh_ = false;
            network_.connections++;
            pause(network_.delay);
        }
        if (strcasecmp(request.header("expect").c_str(), "100-continue") == 0) send("HTTP/1.1 100 Continue\r\n\r\n");
        return true;
    }

    /// Bytes of the request's body that have not been taken yet.
    uint64_t bodyLeft() const { return left_; }

    /// As much of the body as fits; 0 at its end.
    size_t body(char *to, size_t room) {
        size_t count = std::min<uint64_t>(room, left_);
        if (count == 0) return 0;
        if (low_ < high_) {
            count = std::min(count, high_ - low_);
            memcpy(to, &buffer_[low_], count);
            low_ += count;
        } else {
            ssize_t got = recv(socket_, to, count, 0);
            if (got <= 0) {
                isBroken_ = true;
                left_ = 0;
                return 0;
            }
            count = got;
        }
        left_ -= count;
        network_.received += count;
        bodyTaken_ += count;
        if (uint64_t rate = network_.rate) {
            uint64_t due = bodyBegan_ + bodyTaken_ * 1000000 / rate, now = microseconds();
            if (due > now + 500) pause(due - now);
        }
        return count;
    }

    std::string wholeBody() {
        std::string text;
        char piece[16 * KiB];
        while (size_t count = body(piece, sizeof piece)) text.append(piece, count);
        return text;
    }

    /// False when the client went away in the middle.
    bool isWhole() const { return !isBroken_; }

    void answer(const Request &request, int status, const std::string &headers, const std::string &body) {
        std::string text = head(status, headers);
        if (status != 204 && status != 304) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
        text += "\r\n";
        if (request.method != "HEAD") {
            text += body;
            network_.sent += body.size();
        }
        send(text);
    }

    /// Answers with part of an object; to HEAD with its headers alone.
    void answer(
        const Request &request, int status, const std::string &headers, const std::vector<Segment> &segments,
        uint64_t count) {
        std::string text = head(status, headers) + "Content-Length: " + std::to_string(count) + "\r\n\r\n";
        if (request.method == "HEAD") return send(text);
        network_.sent += count;
        setPace();
        if (segments.size() == 1 && segments[0].block->file() < 0) {
            text.append(segments[0].block->text(), segments[0].offset, segments[0].count);
            return send(text);
        }
        send(text, count ? MSG_MORE : 0);
        for (auto &segment : segments) sendSegment(segment);
    }

private:
    static std::string head(int status, const std::string &headers) {
        const char *reason = status < 300 ? "OK" : status < 400 ? "Not Modified" : "Refused";
        return "HTTP/1.1 " + std::to_string(status) + " " + reason + "\r\nServer: bench\r\n" + headers;
    }

    void send(const std::string &text, int flags = 0) { sendBytes(text.data(), text.size(), flags); }

    void sendBytes(const char *bytes, size_t count, int flags = 0) {
        while (count > 0 && !isBroken_) {
            ssize_t sent = ::send(socket_, bytes, count, MSG_NOSIGNAL | flags);
            if (sent <= 0) isBroken_ = true;
            bytes += sent;
            count -= sent;
        }
    }

    void sendSegment(const Segment &segment) {
        if (segment.block->file() < 0) return sendBytes(segment.block->text().data() + segment.offset, segment.count);
        off_t offset = segment.offset;
        for (uint64_t left = segment.count; left > 0 && !isBroken_;) {
            ssize_t sent = sendfile(socket_, segment.block->file(), &offset, left);
            if (sent <= 0) isBroken_ = true;
            left -= sent;
        }
    }

    /// The kernel spreads what is sent evenly over time.
    void setPace() {
        uint64_t rate = network_.rate;
        if (rate == pace_) return;
        pace_ = rate;
        uint64_t value = rate ? rate : ~0ull;
        setsockopt(socket_, SOL_SOCKET, SO_MAX_PACING_RATE, &value, sizeof value);
    }

    bool fill() {
        if (low_ > 0) {
            memmove(buffer_.data(), &buffer_[low_], high_ - low_);
            high_ -= low_;
            low_ = 0;
        }
        if (high_ == buffer_.size()) return false;
        ssize_t count = recv(socket_, &buffer_[high_], buffer_.size() - high_, 0);
        if (count <= 0) return false;
        high_ += count;
        return true;
    }

    /// `text` is the head with the line end of its last line.
    static bool parse(std::string_view text, Request &request) {
        auto line = text.substr(0, text.find("\r\n"));
        size_t first = line.find(' '), last = line.rfind(' ');
        if (first == line.npos || last <= first) return false;
        request.method = line.substr(0, first);
        auto target = line.substr(first + 1, last - first - 1);
        size_t mark = target.find('?');
        std::string path = unescaped(target.substr(0, mark));
        if (path.empty() || path[0] != '/') return false;
        size_t slash = path.find('/', 1);
        request.bucket = path.substr(1, slash == path.npos ? slash : slash - 1);
        if (slash != path.npos) request.key = path.substr(slash + 1);
        for (auto rest = mark == target.npos ? "" : target.substr(mark + 1); !rest.empty();) {
            auto item = rest.substr(0, rest.find('&'));
            rest.remove_prefix(std::min(item.size() + 1, rest.size()));
            size_t equals = item.find('=');
            auto value = equals == item.npos ? std::string_view() : item.substr(equals + 1);
            request.query[unescaped(item.substr(0, equals), true)] = unescaped(value, true);
        }
        for (text.remove_prefix(line.size() + 2); !text.empty();) {
            auto field = text.substr(0, text.find("\r\n"));
            text.remove_prefix(field.size() + 2);
            size_t colon = field.find(':');
            if (colon == field.npos) return false;
            std::string name(field.substr(0, colon));
            for (auto &c : name) c = tolower(c);
            size_t value = field.find_first_not_of(" \t", colon + 1);
            request.headers[name] = value == field.npos ? "" : field.substr(value);
        }
        return true;
    }

    const int socket_;
    Network &network_;
    std::vector<char> buffer_;
    size_t low_ = 0, high_ = 0;
    uint64_t left_ = 0, bodyBegan_ = 0, bodyTaken_ = 0, pace_ = 0;
    bool isFresh_ = true, isBroken_ = false;
};

} // namespace bench

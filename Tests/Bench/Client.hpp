// HTTP/1.1 from the side of who asks: blocking calls over one connection.
#pragma once
#include "Pattern.hpp"
#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

using std::string;

[[noreturn]] inline void giveUp(const string &what) {
    fprintf(stderr, "raw: %s\n", what.c_str());
    exit(1);
}

/// A connection that is kept.
class Client {
public:
    explicit Client(int port) : buffer_(512 * KiB) {
        host_ = "127.0.0.1:" + std::to_string(port);
        socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(socket_, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0) giveUp("connect");
        int on = 1;
        setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    Client(const Client &) = delete;
    ~Client() { close(socket_); }

    /// Sends a request with `size` bytes of the pattern from `offset` on.
    void send(
        const string &method, const string &path, const string &headers = "", uint64_t offset = 0, uint64_t size = 0) {
        bool hasBody = method == "PUT" || method == "POST";
        string text = method + " " + path + " HTTP/1.1\r\nHost: " + host_ + "\r\n" + headers;
        if (hasBody) text += "Content-Length: " + std::to_string(size) + "\r\n";
        text += "\r\n";
        transmit(text.data(), text.size(), size ? MSG_MORE : 0);
        for (uint64_t done = 0; done < size;) {
            uint64_t step = std::min<uint64_t>(Pattern::reach, size - done);
            transmit(pattern_.at(offset + done), step);
            done += step;
        }
    }

    /// Sends a text, and takes the answer's.
    string post(const string &path, const string &body) {
        string text = "POST " + path + " HTTP/1.1\r\nHost: " + host_ + "\r\nContent-Length: " +
                      std::to_string(body.size()) + "\r\n\r\n" + body;
        transmit(text.data(), text.size());
        string answer;
        receive(&answer);
        return answer;
    }

    /// Takes the answer; its body too when there is room for it.
    /// - Returns: bytes of the body.
    uint64_t receive(string *body = nullptr) {
        size_t filled = 0;
        char *end = nullptr;
        while (!end) {
            filled += take(&buffer_[filled], buffer_.size() - filled);
            end = static_cast<char *>(memmem(buffer_.data(), filled, "\r\n\r\n", 4));
        }
        *end = 0;
        const char *head = buffer_.data();
        if (atoi(head + 9) >= 300) giveUp(head);
        etag = field(head, "\nETag: ");
        uint64_t size = strtoull(field(head, "\nContent-Length: ").c_str(), nullptr, 10);
        uint64_t got = filled - (end + 4 - head);
        if (body) body->assign(end + 4, got);
        while (got < size) {
            size_t count = take(buffer_.data(), std::min<uint64_t>(buffer_.size(), size - got));
            if (body) body->append(buffer_.data(), count);
            got += count;
        }
        return got;
    }

    string etag;

private:
    static string field(const char *head, const char *name) {
        const char *at = strcasestr(head, name);
        if (!at) return "";
        at += strlen(name);
        return string(at, strcspn(at, "\r\n"));
    }

    void transmit(const char *bytes, size_t count, int flags = 0) {
        while (count > 0) {
            ssize_t sent = ::send(socket_, bytes, count, MSG_NOSIGNAL | flags);
            if (sent <= 0) giveUp("the server does not listen");
            bytes += sent;
            count -= sent;
        }
    }

    size_t take(char *to, size_t room) {
        ssize_t count = recv(socket_, to, room, 0);
        if (count <= 0) giveUp("the server went away");
        return count;
    }

    static inline const Pattern pattern_;
    int socket_;
    string host_;
    std::vector<char> buffer_;
};

} // namespace bench

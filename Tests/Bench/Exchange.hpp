// What the two interfaces of the server have in common.
#pragma once
#include "Connection.hpp"
#include "SHA1.hpp"

namespace bench {

using std::string;

/// How often each kind of request was made.
class Counts {
public:
    void add(const string &kind) {
        std::lock_guard guard(lock_);
        counts_[kind]++;
    }

    /// The entries of a JSON object, each followed by a comma.
    string json() {
        std::lock_guard guard(lock_);
        string text;
        for (auto &[kind, count] : counts_) text += "\"" + kind + "\": " + std::to_string(count) + ", ";
        return text;
    }

private:
    std::mutex lock_;
    std::map<std::string, uint64_t> counts_;
};

/// The server's state.
struct Service {
    Store store;
    Network network;
    Counts counts;
};

inline string formatted(const char *format, const timespec &time) {
    char text[64];
    tm parts;
    gmtime_r(&time.tv_sec, &parts);
    strftime(text, sizeof text, format, &parts);
    return text;
}

inline string percentEncoded(const string &text) {
    static const char *const digits = "0123456789ABCDEF";
    string result;
    for (unsigned char c : text)
        if (isalnum(c) || strchr("-_.~/", c)) result += c;
        else (result += '%') += {digits[c >> 4], digits[c & 15]};
    return result;
}

/// The first key behind all that begin with `prefix`.
inline string behind(string prefix) {
    prefix.back()++;
    return prefix;
}

/// One request and the connection that it came by.
class Exchange {
protected:
    Exchange(Service &service, Connection &connection, const Request &request)
        : store(service.store), network(service.network), counts(service.counts), connection(connection),
          request(request) {}

    void answer(int status, const string &headers = "", const string &body = "") {
        connection.answer(request, status, headers, body);
    }

    /// The request's body as an object, but for its last `tail` bytes.
    std::shared_ptr<Object> received(size_t tail = 0, string *end = nullptr) {
        static thread_local std::vector<char> piece(256 * KiB);
        uint64_t size = connection.bodyLeft() - std::min<uint64_t>(tail, connection.bodyLeft());
        auto block = std::make_shared<Block>(size);
        while (block->size() < size) {
            size_t count = connection.body(piece.data(), std::min<uint64_t>(piece.size(), size - block->size()));
            if (count == 0) break;
            block->append(piece.data(), count);
        }
        if (end) *end = connection.wholeBody();
        auto object = std::make_shared<Object>();
        object->add(block);
        return object;
    }

    /// Answers with an object, or the range of it that is asked for. False when it has no such range.
    bool deliver(const Object &object, string headers) {
        uint64_t low = 0, high = object.size;
        bool isPart = range(request.header("range"), object.size, low, high);
        if (isPart && low >= object.size) return false;
        if (isPart)
            headers += "Content-Range: bytes " + std::to_string(low) + "-" + std::to_string(high - 1) + "/" +
                       std::to_string(object.size) + "\r\n";
        headers += "Accept-Ranges: bytes\r\n";
        connection.answer(request, isPart ? 206 : 200, headers, object.slice(low, high - low), high - low);
        return true;
    }

    /// Reads `bytes=LOW-HIGH` with or without its ends. False when it is none.
    static bool range(const string &text, uint64_t size, uint64_t &low, uint64_t &high) {
        if (!text.starts_with("bytes=")) return false;
        const char *at = text.c_str() + 6;
        if (*at == '-') {
            low = size - std::min<uint64_t>(size, strtoull(at + 1, nullptr, 10));
            return true;
        }
        char *end;
        low = strtoull(at, &end, 10);
        if (*end == '-' && end[1] != 0) high = std::min<uint64_t>(size, strtoull(end + 1, nullptr, 10) + 1);
        return true;
    }

    Store &store;
    Network &network;
    Counts &counts;
    Connection &connection;
    const Request &request;
};

} // namespace bench

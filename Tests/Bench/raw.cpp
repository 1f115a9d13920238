// raw PORT WHAT ...: the requests that a file system has to make, without a file system: the limit. Each thread has one
// connection that it keeps. Prints one JSON object.
//   get KEY SIZE CONNECTIONS         an object in ranges of 8 MiB, thrown away
//   put KEY SIZE CONNECTIONS         an object in parts of 8 MiB
//   create PREFIX COUNT CONNECTIONS  objects of 4 KiB
//   readall PREFIX COUNT CONNECTIONS
//   random KEY SIZE CONNECTIONS SECONDS   ranges of 4 KiB
//   list PREFIX                      pages of a thousand, one after the other
//   tree PREFIX CONNECTIONS          the folder, then each folder in it
//   rename FROM TO COUNT CONNECTIONS copies, then deletes by the thousand
#include "Clock.hpp"
#include "Pattern.hpp"
#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace bench;
using std::string;

namespace {

constexpr uint64_t part = 8 * MiB, block = 4096;
const Pattern pattern;
int port;

[[noreturn]] void fail(const string &what) {
    fprintf(stderr, "raw: %s\n", what.c_str());
    exit(1);
}

class Client {
public:
    Client() : buffer_(512 * KiB) {
        socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(socket_, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0) fail("connect");
        int on = 1;
        setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    Client(const Client &) = delete;
    ~Client() { close(socket_); }

    /// Sends a request with `size` bytes of the pattern from `offset` on.
    void send(const string &method, const string &path, const string &headers = "", uint64_t offset = 0, uint64_t size = 0) {
        bool hasBody = method == "PUT" || method == "POST";
        string text = method + " /bench/" + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers;
        if (hasBody) text += "Content-Length: " + std::to_string(size) + "\r\n";
        text += "\r\n";
        transmit(text.data(), text.size(), size ? MSG_MORE : 0);
        for (uint64_t done = 0; done < size;) {
            uint64_t step = std::min<uint64_t>(Pattern::reach, size - done);
            transmit(pattern.at(offset + done), step);
            done += step;
        }
    }

    void post(const string &path, const string &body) {
        string text = "POST /bench/" + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " +
                      std::to_string(body.size()) + "\r\n\r\n" + body;
        transmit(text.data(), text.size());
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
        if (atoi(head + 9) >= 300) fail(head);
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
            if (sent <= 0) fail("the server does not listen");
            bytes += sent;
            count -= sent;
        }
    }

    size_t take(char *to, size_t room) {
        ssize_t count = recv(socket_, to, room, 0);
        if (count <= 0) fail("the server went away");
        return count;
    }

    int socket_;
    std::vector<char> buffer_;
};

auto client() { return std::make_unique<Client>(); }
using Connection = std::unique_ptr<Client>;

string range(uint64_t low, uint64_t high) {
    return "Range: bytes=" + std::to_string(low) + "-" + std::to_string(high - 1) + "\r\n";
}

string numbered(const string &prefix, uint64_t index) {
    char name[32];
    snprintf(name, sizeof name, "f%06llu", static_cast<unsigned long long>(index));
    return prefix + name;
}

uint64_t get(const string &key, uint64_t size, int connections) {
    share((size + part - 1) / part, connections, client, [&](Connection &client, uint64_t index) {
        client->send("GET", key, range(index * part, std::min(size, (index + 1) * part)));
        client->receive();
    });
    return size;
}

uint64_t put(const string &key, uint64_t size, int connections) {
    Client first;
    string answer;
    first.send("POST", key + "?uploads=");
    first.receive(&answer);
    size_t at = answer.find("<UploadId>") + 10;
    const string id = answer.substr(at, answer.find('<', at) - at);
    std::vector<string> etags((size + part - 1) / part);
    share(etags.size(), connections, client, [&](Connection &client, uint64_t index) {
        client->send("PUT", key + "?partNumber=" + std::to_string(index + 1) + "&uploadId=" + id, "", index * part,
                     std::min(part, size - index * part));
        client->receive();
        etags[index] = client->etag;
    });
    string parts = "<CompleteMultipartUpload>";
    for (size_t i = 0; i < etags.size(); i++)
        parts += "<Part><PartNumber>" + std::to_string(i + 1) + "</PartNumber><ETag>" + etags[i] + "</ETag></Part>";
    first.post(key + "?uploadId=" + id, parts + "</CompleteMultipartUpload>");
    first.receive();
    return size;
}

uint64_t create(const string &prefix, uint64_t count, int connections) {
    share(count, connections, client, [&](Connection &client, uint64_t index) {
        client->send("PUT", numbered(prefix, index), "", 0, block);
        client->receive();
    });
    return count;
}

uint64_t readAll(const string &prefix, uint64_t count, int connections) {
    share(count, connections, client, [&](Connection &client, uint64_t index) {
        client->send("GET", numbered(prefix, index));
        client->receive();
    });
    return count;
}

uint64_t readRandomly(const string &key, uint64_t size, int connections, double time) {
    double end = seconds() + time;
    std::atomic<uint64_t> total{0};
    share(connections, connections, client, [&](Connection &client, uint64_t index) {
        Dice dice(index + 1);
        for (; seconds() < end; total++) {
            uint64_t low = dice.below(size / block) * block;
            client->send("GET", key, range(low, low + block));
            client->receive();
        }
    });
    return total;
}

/// Calls `folder` with each common prefix. Returns the number of objects.
template <typename Body> uint64_t list(Client &client, const string &prefix, Body folder) {
    uint64_t count = 0;
    for (string token;;) {
        string page;
        client.send("GET", "?list-type=2&delimiter=/&prefix=" + prefix + (token.empty() ? "" : "&continuation-token=" + token));
        client.receive(&page);
        for (size_t at = 0; (at = page.find("<Key>", at)) != string::npos; at++) count++;
        const string open = "<CommonPrefixes><Prefix>", next = "<NextContinuationToken>";
        for (size_t at = 0; (at = page.find(open, at)) != string::npos;) {
            at += open.size();
            folder(page.substr(at, page.find('<', at) - at));
        }
        size_t at = page.find(next);
        if (at == string::npos) return count;
        at += next.size();
        token = page.substr(at, page.find('<', at) - at);
    }
}

uint64_t listTree(const string &prefix, int connections) {
    std::vector<string> folders;
    std::atomic<uint64_t> total{0};
    {
        Client first;
        list(first, prefix, [&](const string &folder) { folders.push_back(folder); });
    }
    share(folders.size(), connections, client, [&](Connection &client, uint64_t index) {
        total += list(*client, folders[index], [](const string &) {});
    });
    return total;
}

uint64_t renameAll(const string &from, const string &to, uint64_t count, int connections) {
    share(count, connections, client, [&](Connection &client, uint64_t index) {
        client->send("PUT", numbered(to, index), "x-amz-copy-source: /bench/" + numbered(from, index) + "\r\n");
        client->receive();
    });
    string keys = "<Delete><Quiet>true</Quiet>";
    for (uint64_t i = 0; i < count; i++) keys += "<Object><Key>" + numbered(from, i) + "</Key></Object>";
    Client last;
    last.post("?delete=", keys + "</Delete>");
    last.receive();
    return count;
}

} // namespace

int main(int count, char **arguments) {
    if (count < 4) return 2;
    port = atoi(arguments[1]);
    const std::vector<string> given(arguments + 2, arguments + count);
    auto is = [&](const char *what, size_t length) { return given.size() == length && given[0] == what; };
    auto number = [&](size_t index) { return strtoull(given[index].c_str(), nullptr, 10); };
    double began = seconds();
    uint64_t done;
    if (is("get", 4)) done = get(given[1], number(2), number(3));
    else if (is("put", 4)) done = put(given[1], number(2), number(3));
    else if (is("create", 4)) done = create(given[1], number(2), number(3));
    else if (is("readall", 4)) done = readAll(given[1], number(2), number(3));
    else if (is("random", 5)) done = readRandomly(given[1], number(2), number(3), atof(given[4].c_str()));
    else if (is("list", 2)) {
        Client client;
        done = list(client, given[1], [](const string &) {});
    } else if (is("tree", 3)) done = listTree(given[1], number(2));
    else if (is("rename", 5)) done = renameAll(given[1], given[2], number(3), number(4));
    else return 2;
    printf("{\"seconds\": %.6f, \"count\": %llu}\n", seconds() - began, static_cast<unsigned long long>(done));
}

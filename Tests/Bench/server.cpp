// server PORT: S3 and B2 in memory for benchmarks, on loopback. It is quick, so that the client is what is measured; it
// adds latency and a limit per connection on request, counts what it is asked for, and keeps nothing. Paths below /_/ control
// it: they are not delayed and not counted.
#include "B2.hpp"
#include "S3.hpp"
#include <arpa/inet.h>
#include <csignal>
#include <thread>

using namespace bench;

namespace {

Service service;
const Pattern pattern;

class Control : Exchange {
public:
    Control(Connection &connection, const Request &request) : Exchange(service, connection, request) {}

    void run() {
        const string &what = request.key, bucket = request.parameter("bucket"), key = request.parameter("key");
        if (what == "stats") return answer(200, "", stats());
        if (what == "network") {
            network.delay = request.number("delay");
            network.rate = request.number("rate");
        } else if (what == "fill") {
            // COUNT objects, in DIRS folders or in none.
            uint64_t folders = request.number("folders"), count = request.number("count");
            for (uint64_t i = 0; i < count; i++) {
                char name[64];
                if (folders) snprintf(name, sizeof name, "d%03lu/f%06lu", i % folders, i / folders);
                else snprintf(name, sizeof name, "f%06lu", i);
                store.put(bucket, key + name, patterned(request.number("size")));
            }
        } else if (what == "make") {
            store.put(bucket, key, patterned(request.number("size")));
        } else if (what == "drop") {
            store.remove(bucket, store.keys(bucket, key));
        } else if (what == "count") {
            return answer(200, "", std::to_string(store.keys(bucket, key, request.number("size")).size()));
        } else if (what == "etag") {
            auto object = store.find(bucket, key);
            return answer(200, "", object && object->size == request.number("size") ? object->etag : "");
        } else if (what == "check") {
            return answer(200, "", check(bucket, key));
        } else {
            return answer(404);
        }
        answer(200);
    }

private:
    string stats() {
        return "{" + counts.json() + "\"received\": " + std::to_string(network.received) + ", \"sent\": " +
               std::to_string(network.sent) + ", \"connections\": " + std::to_string(network.connections) + "}";
    }

    static ObjectRef patterned(uint64_t size) {
        auto block = std::make_shared<Block>(size);
        for (uint64_t done = 0; done < size;) {
            size_t step = std::min<uint64_t>(Pattern::reach, size - done);
            block->append(pattern.at(done), step);
            done += step;
        }
        auto object = std::make_shared<Object>();
        object->add(block);
        if (size <= B2Exchange::checked) object->headers[B2Exchange::sha1Header] = B2Exchange::contentSHA1(*object);
        return object;
    }

    /// How many blocks of an object are marked; "wrong" when any other does not hold what every file holds there.
    string check(const string &bucket, const string &key) {
        auto object = store.find(bucket, key);
        if (!object) return "absent";
        const string marked(markBytes, mark);
        uint64_t markedBytes = 0;
        bool isRight = true;
        object->forEachPiece([&](const char *bytes, size_t count, uint64_t offset) {
            if (pattern.matches(bytes, count, offset)) return;
            // Pieces begin where parts do, which need not be where blocks do.
            for (size_t at = 0, step; at < count; at += step) {
                step = std::min<size_t>(markBytes - (offset + at) % markBytes, count - at);
                if (pattern.matches(bytes + at, step, offset + at)) continue;
                if (memcmp(bytes + at, marked.data(), step) == 0) markedBytes += step;
                else isRight = false;
            }
        });
        return isRight ? std::to_string(markedBytes / markBytes) : "wrong";
    }
};

void serve(int socket) {
    Connection connection(socket, service.network);
    while (true) {
        Request request;
        if (!connection.next(request)) return;
        if (request.isControl()) Control(connection, request).run();
        else if (B2Exchange::isMeant(request)) B2Exchange(service, connection, request).run();
        else S3Exchange(service, connection, request).run();
        if (!connection.isWhole() || request.header("connection") == "close") return;
    }
}

} // namespace

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: server PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0) fail("bind");
    if (listen(listener, 1024) != 0) fail("listen");
    while (true) {
        int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (accepted >= 0) std::thread(serve, accepted).detach();
    }
}

// server PORT: an S3 server in memory for benchmarks, on loopback. It is quick, so that the client is what is measured; it
// adds latency and a limit per connection on request, and counts what it is asked for. It checks no signatures and keeps
// nothing. Paths below /_/ control it: they are not delayed and not counted.
#include "Connection.hpp"
#include <arpa/inet.h>
#include <csignal>
#include <thread>

using namespace bench;
using std::string;

namespace {

enum Kind { Get, Head, Put, List, Delete, Deletes, Copy, Begin, Part, PartCopy, Complete, Abort, Other, kinds };
const char *const kindNames[kinds] = {"GET",  "HEAD",  "PUT",  "LIST",     "DELETE",   "DELETES", "COPY",
                                      "BEGIN", "PART", "PARTCOPY", "COMPLETE", "ABORT", "OTHER"};

Store store;
Network network;
std::atomic<uint64_t> counts[kinds];
const Pattern pattern;

string escaped(const string &text) {
    string result;
    for (char c : text) switch (c) {
        case '&': result += "&amp;"; break;
        case '<': result += "&lt;"; break;
        case '>': result += "&gt;"; break;
        default: result += c;
        }
    return result;
}

string percentEncoded(const string &text) {
    static const char *const digits = "0123456789ABCDEF";
    string result;
    for (unsigned char c : text)
        if (isalnum(c) || strchr("-_.~/", c)) result += c;
        else (result += '%') += {digits[c >> 4], digits[c & 15]};
    return result;
}

string plain(string text) {
    static const char *const pairs[][2] = {
        {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#34;", "\""}, {"&apos;", "'"}, {"&#39;", "'"}, {"&amp;", "&"}};
    for (auto &[from, to] : pairs)
        for (size_t at = 0; (at = text.find(from, at)) != string::npos; at++) text.replace(at, strlen(from), to);
    return text;
}

string time(const char *format, const timespec &time) {
    char text[64];
    tm parts;
    gmtime_r(&time.tv_sec, &parts);
    strftime(text, sizeof text, format, &parts);
    return text;
}

/// What lies between `<tag>` and `</tag>`, for each such element.
template <typename Body> void forEachElement(const string &xml, const string &tag, Body body) {
    string open = "<" + tag + ">", close = "</" + tag + ">";
    for (size_t at = 0; (at = xml.find(open, at)) != string::npos;) {
        at += open.size();
        size_t end = xml.find(close, at);
        if (end == string::npos) return;
        body(xml.substr(at, end - at));
        at = end;
    }
}

/// One request and the connection that it came by.
class Exchange {
public:
    Exchange(Connection &connection, const Request &request) : connection(connection), request(request) {}

    void run() {
        if (request.isControl()) return control();
        Kind kind = this->kind();
        counts[kind]++;
        if (kind == Put || kind == Part) {
            auto object = received();
            if (!connection.isWhole()) return;
            pause(network.delay);
            return kind == Put ? put(object) : part(object);
        }
        string body = connection.wholeBody();
        if (!connection.isWhole()) return;
        pause(network.delay);
        switch (kind) {
        case Get:
        case Head: return get();
        case List: return list();
        case Delete: store.remove(request.bucket, {request.key}); return answer(204);
        case Deletes: return removeAll(body);
        case Copy: return copy();
        case Begin: return begin();
        case PartCopy: return copyPart();
        case Complete: return complete(body);
        case Abort: store.forget(request.parameter("uploadId")); return answer(204);
        default: return other();
        }
    }

private:
    Kind kind() const {
        const string &method = request.method;
        bool copies = !request.header("x-amz-copy-source").empty();
        if (request.key.empty()) {
            if (method == "POST" && request.asks("delete")) return Deletes;
            bool isList = method == "GET" && !request.bucket.empty();
            for (auto name : {"location", "uploads", "versioning", "acl", "tagging", "policy"})
                if (request.asks(name)) isList = false;
            return isList ? List : Other;
        }
        if (request.asks("acl") || request.asks("tagging")) return Other;
        if (method == "GET") return Get;
        if (method == "HEAD") return Head;
        if (method == "PUT" && request.asks("partNumber")) return copies ? PartCopy : Part;
        if (method == "PUT") return copies ? Copy : Put;
        if (method == "DELETE") return request.asks("uploadId") ? Abort : Delete;
        if (method == "POST" && request.asks("uploads")) return Begin;
        if (method == "POST" && request.asks("uploadId")) return Complete;
        return Other;
    }

    void answer(int status, const string &headers = "", const string &body = "") {
        connection.answer(request, status, headers, body);
    }
    void answerXML(const string &body) {
        answer(200, "Content-Type: application/xml\r\n", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>" + body);
    }
    void refuse(int status, const string &code) {
        answer(status, "Content-Type: application/xml\r\n", "<Error><Code>" + code + "</Code></Error>");
    }

    Condition condition() const { return {request.header("if-match"), request.header("if-none-match")}; }

    /// The request's body as an object.
    std::shared_ptr<Object> received() {
        static thread_local std::vector<char> piece(256 * KiB);
        auto block = std::make_shared<Block>(connection.bodyLeft());
        while (size_t count = connection.body(piece.data(), piece.size())) block->append(piece.data(), count);
        auto object = std::make_shared<Object>();
        object->add(block);
        return object;
    }

    /// Those that are kept with an object.
    Headers kept() const {
        Headers result;
        for (auto &[name, value] : request.headers)
            if (name.starts_with("x-amz-meta-") || name == "content-type" || name == "cache-control")
                result[name] = value;
        return result;
    }

    void put(std::shared_ptr<Object> object) {
        object->headers = kept();
        if (!store.put(request.bucket, request.key, object, condition())) return refuse(412, "PreconditionFailed");
        answer(200, "ETag: " + object->etag + "\r\n");
    }

    void get() {
        auto object = store.find(request.bucket, request.key);
        if (!object) return refuse(404, "NoSuchKey");
        string match = request.header("if-match");
        if (!match.empty() && match != "*" && match != object->etag) return refuse(412, "PreconditionFailed");
        if (request.header("if-none-match") == object->etag) return answer(304, "ETag: " + object->etag + "\r\n");
        string headers = "ETag: " + object->etag + "\r\nAccept-Ranges: bytes\r\nLast-Modified: " +
                         time("%a, %d %b %Y %H:%M:%S GMT", object->modified) + "\r\n";
        for (auto &[name, value] : object->headers) headers += name + ": " + value + "\r\n";
        uint64_t low = 0, high = object->size;
        bool isPart = range(request.header("range"), object->size, low, high);
        if (isPart && low >= object->size) return refuse(416, "InvalidRange");
        if (isPart)
            headers += "Content-Range: bytes " + std::to_string(low) + "-" + std::to_string(high - 1) + "/" +
                       std::to_string(object->size) + "\r\n";
        connection.answer(request, isPart ? 206 : 200, headers, object->slice(low, high - low), high - low);
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

    void removeAll(const string &body) {
        std::vector<string> keys;
        string result = "<DeleteResult>";
        forEachElement(body, "Key", [&](const string &key) { keys.push_back(plain(key)); });
        store.remove(request.bucket, keys);
        for (auto &key : keys) result += "<Deleted><Key>" + escaped(key) + "</Key></Deleted>";
        answerXML(result + "</DeleteResult>");
    }

    ObjectRef copySource() const {
        string source = unescaped(request.header("x-amz-copy-source"));
        source = source.substr(0, source.find("?versionId="));
        if (source.starts_with("/")) source.erase(0, 1);
        size_t slash = source.find('/');
        return slash == string::npos ? nullptr : store.find(source.substr(0, slash), source.substr(slash + 1));
    }

    /// Nil when that has been answered already.
    ObjectRef checkedCopySource() {
        auto source = copySource();
        string match = request.header("x-amz-copy-source-if-match");
        if (!source) refuse(404, "NoSuchKey");
        else if (!match.empty() && match != source->etag) refuse(412, "PreconditionFailed");
        else return source;
        return nullptr;
    }

    static string copyResult(const char *tag, const Object &object) {
        return string("<") + tag + "><LastModified>" + time("%Y-%m-%dT%H:%M:%S.000Z", object.modified) +
               "</LastModified><ETag>" + object.etag + "</ETag></" + tag + ">";
    }

    void copy() {
        auto source = checkedCopySource();
        if (!source) return;
        auto object = std::make_shared<Object>();
        object->segments = source->segments;
        object->size = source->size;
        object->headers = request.header("x-amz-metadata-directive") == "REPLACE" ? kept() : source->headers;
        if (!store.put(request.bucket, request.key, object, condition())) return refuse(412, "PreconditionFailed");
        answerXML(copyResult("CopyObjectResult", *object));
    }

    void begin() {
        string id = store.begin(request.bucket, request.key, kept());
        answerXML(
            "<InitiateMultipartUploadResult><Bucket>" + request.bucket + "</Bucket><Key>" + escaped(request.key) +
            "</Key><UploadId>" + id + "</UploadId></InitiateMultipartUploadResult>");
    }

    bool keep(std::shared_ptr<Object> object) {
        auto upload = store.upload(request.parameter("uploadId"));
        if (!upload) {
            refuse(404, "NoSuchUpload");
            return false;
        }
        std::lock_guard guard(upload->lock);
        upload->parts[request.number("partNumber")] = object;
        return true;
    }

    void part(std::shared_ptr<Object> object) {
        if (keep(object)) answer(200, "ETag: " + object->etag + "\r\n");
    }

    void copyPart() {
        auto source = checkedCopySource();
        if (!source) return;
        uint64_t low = 0, high = source->size;
        range(request.header("x-amz-copy-source-range"), source->size, low, high);
        auto object = std::make_shared<Object>();
        object->add(*source, low, high - low);
        if (keep(object)) answerXML(copyResult("CopyPartResult", *object));
    }

    void complete(const string &body) {
        string id = request.parameter("uploadId");
        auto upload = store.upload(id);
        if (!upload) return refuse(404, "NoSuchUpload");
        auto object = std::make_shared<Object>();
        object->headers = upload->headers;
        bool isKnown = true;
        forEachElement(body, "PartNumber", [&](const string &number) {
            std::lock_guard guard(upload->lock);
            auto part = upload->parts.find(atoi(number.c_str()));
            if (part == upload->parts.end()) isKnown = false;
            else object->add(*part->second, 0, part->second->size);
        });
        if (!isKnown) return refuse(400, "InvalidPart");
        if (!store.put(upload->bucket, upload->key, object, condition())) return refuse(412, "PreconditionFailed");
        store.forget(id);
        answerXML(
            "<CompleteMultipartUploadResult><Bucket>" + upload->bucket + "</Bucket><Key>" + escaped(upload->key) +
            "</Key><ETag>" + object->etag + "</ETag></CompleteMultipartUploadResult>");
    }

    void list() {
        bool isEncoded = request.parameter("encoding-type") == "url", isSecond = request.parameter("list-type") == "2";
        auto name = [&](const string &text) { return isEncoded ? percentEncoded(text) : escaped(text); };
        string prefix = request.parameter("prefix"), delimiter = request.parameter("delimiter");
        string after = request.parameter(
            !isSecond ? "marker" : request.asks("continuation-token") ? "continuation-token" : "start-after");
        uint64_t most = std::min<uint64_t>(1000, request.number("max-keys", 1000)), count = 0;
        string entries, last;
        bool isCut = false;
        store.inspect(request.bucket, [&](const Bucket &objects) {
            auto it = objects.lower_bound(prefix);
            if (!after.empty() && after >= prefix) {
                // A common prefix that was shown last stands for all keys below it.
                bool below = !delimiter.empty() && after.ends_with(delimiter) && after.size() > prefix.size();
                it = below ? objects.lower_bound(behind(after)) : objects.upper_bound(after);
            }
            for (; it != objects.end() && it->first.starts_with(prefix); count++) {
                if (count == most) {
                    isCut = true;
                    return;
                }
                const auto &[key, object] = *it;
                size_t end = delimiter.empty() ? string::npos : key.find(delimiter, prefix.size());
                if (end != string::npos) {
                    last = key.substr(0, end + delimiter.size());
                    entries += "<CommonPrefixes><Prefix>" + name(last) + "</Prefix></CommonPrefixes>";
                    it = objects.lower_bound(behind(last));
                    continue;
                }
                last = key;
                entries += "<Contents><Key>" + name(key) + "</Key><LastModified>" +
                           time("%Y-%m-%dT%H:%M:%S.000Z", object->modified) + "</LastModified><ETag>" + object->etag +
                           "</ETag><Size>" + std::to_string(object->size) +
                           "</Size><StorageClass>STANDARD</StorageClass></Contents>";
                ++it;
            }
        });
        string result = "<ListBucketResult><Name>" + request.bucket + "</Name><Prefix>" + name(prefix) + "</Prefix>";
        if (!delimiter.empty()) result += "<Delimiter>" + name(delimiter) + "</Delimiter>";
        if (isEncoded) result += "<EncodingType>url</EncodingType>";
        result += "<MaxKeys>" + std::to_string(most) + "</MaxKeys><KeyCount>" + std::to_string(count) +
                  "</KeyCount><IsTruncated>" + (isCut ? "true" : "false") + "</IsTruncated>";
        if (isCut && isSecond)
            result += "<NextContinuationToken>" + escaped(last) + "</NextContinuationToken>";
        else if (isCut) result += "<NextMarker>" + name(last) + "</NextMarker>";
        answerXML(result + entries + "</ListBucketResult>");
    }

    /// The first key behind all that begin with `prefix`.
    static string behind(string prefix) {
        prefix.back()++;
        return prefix;
    }

    void other() {
        if (request.method == "HEAD" || request.method == "PUT") return answer(200, "x-amz-bucket-region: us-east-1\r\n");
        if (request.bucket.empty()) return answerXML("<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>");
        if (request.asks("location")) return answerXML("<LocationConstraint>us-east-1</LocationConstraint>");
        if (request.asks("versioning")) return answerXML("<VersioningConfiguration/>");
        if (request.asks("uploads"))
            return answerXML(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
        refuse(501, "NotImplemented");
    }

    // MARK: Control

    void control() {
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
            return refuse(404, "NoSuchControl");
        }
        answer(200);
    }

    static string stats() {
        string text = "{";
        for (int kind = 0; kind < kinds; kind++)
            text += "\"" + string(kindNames[kind]) + "\": " + std::to_string(counts[kind]) + ", ";
        return text + "\"received\": " + std::to_string(network.received) + ", \"sent\": " +
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
        return object;
    }

    /// How many blocks of an object are marked; "wrong" when any other does not hold what every file holds there.
    static string check(const string &bucket, const string &key) {
        auto object = store.find(bucket, key);
        if (!object) return "absent";
        const string marked(markBytes, mark);
        uint64_t marks = 0;
        bool isRight = true;
        object->forEachPiece([&](const char *bytes, size_t count, uint64_t offset) {
            if (pattern.matches(bytes, count, offset)) return;
            for (size_t at = 0; at < count; at += markBytes) {
                size_t step = std::min(markBytes, count - at);
                if (pattern.matches(bytes + at, step, offset + at)) continue;
                if (memcmp(bytes + at, marked.data(), step) == 0) marks++;
                else isRight = false;
            }
        });
        return isRight ? std::to_string(marks) : "wrong";
    }

    Connection &connection;
    const Request &request;
};

void serve(int socket) {
    Connection connection(socket, network);
    while (true) {
        Request request;
        if (!connection.next(request)) return;
        Exchange(connection, request).run();
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

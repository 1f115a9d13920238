// raw PORT s3|b2 WHAT ...: the requests that a file system has to make, without a file system: the limit. Each thread has one
// connection that it keeps. No checksum is taken. Prints one JSON object.
//   get KEY SIZE CONNECTIONS         an object in ranges of 8 MiB, thrown away
//   put KEY SIZE CONNECTIONS         an object in parts of 8 MiB
//   create PREFIX COUNT CONNECTIONS  objects of 4 KiB
//   readall PREFIX COUNT CONNECTIONS
//   random KEY SIZE CONNECTIONS SECONDS   ranges of 4 KiB
//   list PREFIX                      pages of a thousand, of B2 ten thousand, one after the other
//   tree PREFIX CONNECTIONS          the folder, then each folder in it
//   rename FROM TO COUNT CONNECTIONS copies, then deletes by the thousand, of B2 one by one
#include "Client.hpp"
#include "Clock.hpp"
#include <memory>
#include <mutex>

using namespace bench;

namespace {

constexpr uint64_t part = 8 * MiB, block = 4096;
int port;

auto client() { return std::make_unique<Client>(port); }
using Connection = std::unique_ptr<Client>;

string range(uint64_t low, uint64_t high) {
    return "Range: bytes=" + std::to_string(low) + "-" + std::to_string(high - 1) + "\r\n";
}

string numbered(const string &prefix, uint64_t index) {
    char name[32];
    snprintf(name, sizeof name, "f%06llu", static_cast<unsigned long long>(index));
    return prefix + name;
}

/// Calls `body` with what stands between each `open` and the next `close`.
template <typename Body> void forEach(const string &text, const string &open, char close, Body body) {
    for (size_t at = 0; (at = text.find(open, at)) != string::npos;) {
        at += open.size();
        body(text.substr(at, text.find(close, at) - at));
    }
}

string first(const string &text, const string &open, char close) {
    size_t at = text.find(open);
    return at == string::npos ? "" : text.substr(at + open.size(), text.find(close, at + open.size()) - at - open.size());
}

/// What the two interfaces do not have in common. One is used by many threads.
class Interface {
public:
    using Folder = std::function<void(const string &)>;

    virtual ~Interface() = default;
    virtual string path(const string &key) const = 0;
    virtual void put(const string &key, uint64_t size, int connections) const = 0;
    virtual void create(const string &prefix, uint64_t count, int connections) const = 0;
    /// Calls `folder` with each common prefix. Returns the number of objects.
    virtual uint64_t list(Client &client, const string &prefix, const Folder &folder) const = 0;
    virtual void rename(const string &from, const string &to, uint64_t count, int connections) const = 0;
};

class S3 : public Interface {
public:
    string path(const string &key) const override { return "/benchmark/" + key; }

    void put(const string &key, uint64_t size, int connections) const override {
        Client last(port);
        const string id = first(last.post(path(key) + "?uploads=", ""), "<UploadId>", '<');
        std::vector<string> etags((size + part - 1) / part);
        share(etags.size(), connections, client, [&](Connection &client, uint64_t index) {
            client->send("PUT", path(key) + "?partNumber=" + std::to_string(index + 1) + "&uploadId=" + id, "",
                         index * part, std::min(part, size - index * part));
            client->receive();
            etags[index] = client->etag;
        });
        string parts = "<CompleteMultipartUpload>";
        for (size_t i = 0; i < etags.size(); i++)
            parts += "<Part><PartNumber>" + std::to_string(i + 1) + "</PartNumber><ETag>" + etags[i] + "</ETag></Part>";
        last.post(path(key) + "?uploadId=" + id, parts + "</CompleteMultipartUpload>");
    }

    void create(const string &prefix, uint64_t count, int connections) const override {
        share(count, connections, client, [&](Connection &client, uint64_t index) {
            client->send("PUT", path(numbered(prefix, index)), "", 0, block);
            client->receive();
        });
    }

    uint64_t list(Client &client, const string &prefix, const Folder &folder) const override {
        uint64_t count = 0;
        for (string token;;) {
            string page;
            client.send("GET", path("?list-type=2&delimiter=/&prefix=" + prefix) +
                                   (token.empty() ? "" : "&continuation-token=" + token));
            client.receive(&page);
            forEach(page, "<Key>", '<', [&](const string &) { count++; });
            forEach(page, "<CommonPrefixes><Prefix>", '<', folder);
            token = first(page, "<NextContinuationToken>", '<');
            if (token.empty()) return count;
        }
    }

    void rename(const string &from, const string &to, uint64_t count, int connections) const override {
        share(count, connections, client, [&](Connection &client, uint64_t index) {
            client->send("PUT", path(numbered(to, index)),
                         "x-amz-copy-source: " + path(numbered(from, index)) + "\r\n");
            client->receive();
        });
        string keys = "<Delete><Quiet>true</Quiet>";
        for (uint64_t i = 0; i < count; i++) keys += "<Object><Key>" + numbered(from, i) + "</Key></Object>";
        Client(port).post(path("?delete="), keys + "</Delete>");
    }
};

class B2 : public Interface {
public:
    string path(const string &key) const override { return "/file/benchmark/" + key; }

    void put(const string &key, uint64_t size, int connections) const override {
        Client last(port);
        const string id = field(call(last, "b2_start_large_file", named(key)), "fileId"), owner = pair("fileId", id);
        std::vector<string> sha1s((size + part - 1) / part);
        share(sha1s.size(), connections, [&] { return Uploader("b2_get_upload_part_url", owner); },
              [&](Uploader &uploader, uint64_t index) {
                  uploader.client->send("POST", uploader.path,
                                        unverified + "X-Bz-Part-Number: " + std::to_string(index + 1) + "\r\n",
                                        index * part, std::min(part, size - index * part));
                  string answer;
                  uploader.client->receive(&answer);
                  sha1s[index] = field(answer, "contentSha1");
              });
        string parts;
        for (auto &sha1 : sha1s) parts += (parts.empty() ? "\"" : ", \"") + sha1 + "\"";
        call(last, "b2_finish_large_file", owner + ", \"partSha1Array\": [" + parts + "]");
    }

    void create(const string &prefix, uint64_t count, int connections) const override {
        share(count, connections, [&] { return Uploader("b2_get_upload_url", bucket); },
              [&](Uploader &uploader, uint64_t index) {
                  uploader.client->send("POST", uploader.path,
                                        unverified + "X-Bz-File-Name: " + numbered(prefix, index) +
                                            "\r\nContent-Type: b2/x-auto\r\n",
                                        0, block);
                  uploader.client->receive();
              });
    }

    uint64_t list(Client &client, const string &prefix, const Folder &folder) const override {
        uint64_t count = 0;
        for (string next;;) {
            const string page = call(
                client, "b2_list_file_names",
                bucket + ", \"maxFileCount\": 10000, \"delimiter\": \"/\", " + pair("prefix", prefix) + next);
            forEach(page, "\"fileName\": \"", '"', [&](const string &name) {
                if (name.ends_with("/")) folder(name);
                else count++;
            });
            const string start = field(page, "nextFileName");
            if (start.empty()) return count;
            next = ", " + pair("startFileName", start);
        }
    }

    void rename(const string &from, const string &to, uint64_t count, int connections) const override {
        Client lister(port);
        std::vector<string> ids;
        forEach(call(lister, "b2_list_file_names", bucket + ", \"maxFileCount\": 10000, " + pair("prefix", from)),
                "\"fileId\": \"", '"', [&](const string &id) { ids.push_back(id); });
        if (ids.size() != count) giveUp("not all files are there");
        share(count, connections, client, [&](Connection &client, uint64_t index) {
            call(*client, "b2_copy_file", pair("sourceFileId", ids[index]) + ", " + named(numbered(to, index)));
        });
        share(count, connections, client, [&](Connection &client, uint64_t index) {
            call(*client, "b2_hide_file", named(numbered(from, index)));
        });
    }

private:
    static string pair(const string &name, const string &value) { return "\"" + name + "\": \"" + value + "\""; }
    static string named(const string &name) { return bucket + ", " + pair("fileName", name); }
    static string field(const string &json, const string &name) { return first(json, "\"" + name + "\": \"", '"'); }
    static string call(Client &client, const string &operation, const string &fields) {
        return client.post("/b2api/v4/" + operation, "{" + fields + "}");
    }

    /// A connection and the upload URL that is used through it alone.
    struct Uploader {
        Connection client;
        string path;

        Uploader(const string &operation, const string &owner) : client(::client()) {
            const string url = field(call(*client, operation, owner), "uploadUrl");
            path = url.substr(url.find('/', 8));
        }
    };

    static inline const string bucket = pair("bucketId", "benchmark");
    static inline const string unverified = "X-Bz-Content-Sha1: do_not_verify\r\n";
};

uint64_t get(const string &path, uint64_t size, int connections) {
    share((size + part - 1) / part, connections, client, [&](Connection &client, uint64_t index) {
        client->send("GET", path, range(index * part, std::min(size, (index + 1) * part)));
        client->receive();
    });
    return size;
}

uint64_t readAll(const string &prefix, uint64_t count, int connections) {
    share(count, connections, client, [&](Connection &client, uint64_t index) {
        client->send("GET", numbered(prefix, index));
        client->receive();
    });
    return count;
}

uint64_t readRandomly(const string &path, uint64_t size, int connections, double time) {
    double end = seconds() + time;
    std::atomic<uint64_t> total{0};
    share(connections, connections, client, [&](Connection &client, uint64_t index) {
        Dice dice(index + 1);
        for (; seconds() < end; total++) {
            uint64_t low = dice.below(size / block) * block;
            client->send("GET", path, range(low, low + block));
            client->receive();
        }
    });
    return total;
}

uint64_t listTree(const Interface &interface, const string &prefix, int connections) {
    std::vector<string> folders;
    std::atomic<uint64_t> total{0};
    {
        Client first(port);
        interface.list(first, prefix, [&](const string &folder) { folders.push_back(folder); });
    }
    share(folders.size(), connections, client, [&](Connection &client, uint64_t index) {
        total += interface.list(*client, folders[index], [](const string &) {});
    });
    return total;
}

} // namespace

int main(int count, char **arguments) {
    if (count < 5) return 2;
    port = atoi(arguments[1]);
    const S3 s3;
    const B2 b2;
    const Interface &interface = arguments[2] == string("b2") ? static_cast<const Interface &>(b2) : s3;
    const std::vector<string> given(arguments + 3, arguments + count);
    auto is = [&](const char *what, size_t length) { return given.size() == length && given[0] == what; };
    auto number = [&](size_t index) { return strtoull(given[index].c_str(), nullptr, 10); };
    double began = seconds();
    uint64_t done = 0;
    if (is("get", 4)) done = get(interface.path(given[1]), number(2), number(3));
    else if (is("put", 4)) interface.put(given[1], done = number(2), number(3));
    else if (is("create", 4)) interface.create(given[1], done = number(2), number(3));
    else if (is("readall", 4)) done = readAll(interface.path(given[1]), number(2), number(3));
    else if (is("random", 5)) done = readRandomly(interface.path(given[1]), number(2), number(3), atof(given[4].c_str()));
    else if (is("list", 2)) {
        Client client(port);
        done = interface.list(client, given[1], [](const string &) {});
    } else if (is("tree", 3)) done = listTree(interface, given[1], number(2));
    else if (is("rename", 5)) interface.rename(given[1], given[2], done = number(3), number(4));
    else return 2;
    printf("{\"seconds\": %.6f, \"count\": %llu}\n", seconds() - began, static_cast<unsigned long long>(done));
}

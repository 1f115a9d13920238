// The server's B2 interface, as far as those who mount use it: any key and token will do, buckets come into being with
// their first file, and a name has one version, the last. SHA-1s are taken of what is small; of the rest the server
// believes what it is told, since taking them would make it the slowest of all.
#pragma once
#include "Exchange.hpp"
#include "JSON.hpp"

namespace bench {

class B2Exchange : Exchange {
public:
    static bool isMeant(const Request &request) { return request.bucket == "b2api" || request.bucket == "file"; }

    static constexpr const char *infoPrefix = "x-bz-info-", *sha1Header = "x-bz-content-sha1";

    /// Up to here contents are held against their SHA-1.
    static constexpr uint64_t checked = MiB;

    static string contentSHA1(const Object &object) {
        string text;
        object.forEachPiece([&](const char *bytes, size_t count, uint64_t) { text.append(bytes, count); });
        return sha1(text);
    }

    B2Exchange(Service &service, Connection &connection, const Request &request)
        : Exchange(service, connection, request) {}

    void run() {
        bool isByName = request.bucket == "file";
        size_t slash = request.key.find('/');
        version = atoi(request.key.c_str() + 1);
        operation = isByName ? "b2_download_file_by_name" : slash == string::npos ? "" : request.key.substr(slash + 1);
        string kind = request.method == "HEAD" ? "head_file" : operation;
        for (auto &c : kind) c = toupper(c);
        counts.add(kind);
        if (operation == "b2_upload_file" || operation == "b2_upload_part") return upload();
        string body = connection.wholeBody();
        if (!connection.isWhole()) return;
        pause(network.delay);
        if (isByName) {
            const string name = request.key.substr(slash + 1);
            return download(store.find(request.key.substr(0, slash), name), name);
        }
        if (operation == "b2_download_file_by_id") {
            FileID id(request.parameter("fileId"));
            return download(find(id), id.name);
        }
        call(JSONFields(body));
    }

private:
    /// Names a version: the bench's one bucket needs no more than the file's name and what the object is known by.
    struct FileID {
        string name, etag;

        explicit FileID(const string &text) {
            size_t end = text.rfind("_f");
            if (!text.starts_with("4_z") || end == string::npos) return;
            for (size_t at = 3; at + 1 < end; at += 2) name += char(strtol(text.substr(at, 2).c_str(), nullptr, 16));
            etag = text.substr(end + 2);
        }

        static string of(const string &name, string etag) {
            std::erase(etag, '"');
            string text = "4_z";
            for (unsigned char c : name) (text += "0123456789abcdef"[c >> 4]) += "0123456789abcdef"[c & 15];
            return text + "_f" + etag;
        }
    };

    static constexpr const char *bucketName = "benchmark";

    ObjectRef find(const FileID &id) const {
        auto object = store.find(bucketName, id.name);
        return object && object->etag == "\"" + id.etag + "\"" ? object : nullptr;
    }

    void refuse(int status, const char *code, const string &message = "") {
        answer(status, type, JSONObject().number("status", status).text("code", code).text("message", message).json());
    }
    void answerJSON(const JSONObject &body, const string &headers = "") { answer(200, headers + type, body.json()); }

    static constexpr const char *type = "Content-Type: application/json\r\n";

    void call(const JSONFields &given) {
        if (operation == "b2_authorize_account") return authorise();
        if (operation == "b2_list_buckets") return listBuckets();
        if (operation == "b2_get_upload_url") return uploadURL("b2_upload_file", "bucketId", given["bucketId"]);
        if (operation == "b2_get_upload_part_url") return uploadURL("b2_upload_part", "fileId", given["fileId"]);
        if (operation == "b2_list_file_names" || operation == "b2_list_file_versions") return list(given);
        if (operation == "b2_list_unfinished_large_files")
            return answerJSON(JSONObject().raw("files", "[]").raw("nextFileId", "null"));
        if (operation == "b2_get_file_info") return info(given["fileId"]);
        if (operation == "b2_hide_file") return hide(given["fileName"]);
        if (operation == "b2_delete_file_version") return remove(given["fileId"]);
        if (operation == "b2_copy_file") return copy(given);
        if (operation == "b2_start_large_file") return start(given);
        if (operation == "b2_copy_part") return copyPart(given);
        if (operation == "b2_list_parts") return listParts(given);
        if (operation == "b2_finish_large_file") return finish(given);
        if (operation == "b2_cancel_large_file") return cancel(given["fileId"]);
        if (operation == "b2_create_bucket") return refuse(400, "duplicate_bucket_name");
        refuse(400, "bad_request", "unknown operation");
    }

    // MARK: The account

    /// Versions 1 and 2 have all at the top, 3 in `storageApi`, 4 the restrictions apart in it.
    void authorise() {
        const string url = "http://" + request.header("host");
        const char *const rights = R"(["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles", "shareFiles"])";
        JSONObject result, places, allowed;
        JSONObject &outer = version <= 2 ? result : places, &inner = version == 3 ? places : allowed;
        result.text("accountId", "bench").text("authorizationToken", "bench");
        outer.text("apiUrl", url).text("downloadUrl", url).text("s3ApiUrl", url);
        outer.number("recommendedPartSize", 100'000'000).number("absoluteMinimumPartSize", 5'000'000);
        inner.raw("capabilities", rights).raw("namePrefix", "null");
        if (version <= 3) inner.raw("bucketId", "null").raw("bucketName", "null");
        else inner.raw("buckets", "null");
        if (version == 1) result.number("minimumPartSize", 100'000'000);
        if (version != 3) outer.raw("allowed", allowed.json());
        if (version >= 3) result.raw("apiInfo", JSONObject().raw("storageApi", places.json()).json());
        timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        answerJSON(result, "Date: " + formatted("%a, %d %b %Y %H:%M:%S GMT", now) + "\r\n");
    }

    void listBuckets() {
        JSONObject bucket;
        bucket.text("accountId", "bench").text("bucketId", bucketName).text("bucketName", bucketName);
        bucket.text("bucketType", "allPrivate").raw("bucketInfo", "{}").raw("corsRules", "[]").raw("lifecycleRules", "[]");
        bucket.raw("options", "[]").number("revision", 1);
        bucket.raw("defaultServerSideEncryption", R"({"isClientAuthorizedToRead": true, "value": {"mode": null}})");
        bucket.raw(
            "fileLockConfiguration", R"({"isClientAuthorizedToRead": true, "value": {"isFileLockEnabled": false}})");
        answerJSON(JSONObject().raw("buckets", "[" + bucket.json() + "]"));
    }

    // MARK: Files

    /// What B2 says of a version.
    JSONObject file(const string &name, const Object &object, const char *action = "upload") const {
        JSONObject info, file;
        for (auto &[header, value] : object.headers)
            if (header.starts_with(infoPrefix)) info.text(header.c_str() + strlen(infoPrefix), value);
        file.text("accountId", "bench").text("action", action).text("bucketId", bucketName);
        file.number("contentLength", object.size).raw("contentMd5", "null");
        if (version == 1) file.number("size", object.size);
        file.text("contentSha1", header(object, sha1Header, "none"));
        file.text("contentType", header(object, "content-type", "application/octet-stream"));
        file.text("fileId", FileID::of(name, object.etag)).raw("fileInfo", info.json()).text("fileName", name);
        file.raw("fileRetention", R"({"isClientAuthorizedToRead": true, "value": {"mode": null}})");
        file.raw("legalHold", R"({"isClientAuthorizedToRead": true, "value": null})").raw("replicationStatus", "null");
        file.raw("serverSideEncryption", R"({"algorithm": null, "mode": null})");
        return file.number("uploadTimestamp", milliseconds(object.modified));
    }

    static string header(const Object &object, const char *name, const char *otherwise) {
        auto it = object.headers.find(name);
        return it == object.headers.end() ? otherwise : it->second;
    }

    static long long milliseconds(const timespec &time) { return time.tv_sec * 1000ll + time.tv_nsec / 1000000; }

    void download(const ObjectRef &object, const string &name) {
        if (!object) return refuse(404, "not_found");
        string headers = "X-Bz-File-Id: " + FileID::of(name, object->etag) + "\r\nX-Bz-File-Name: " +
                         percentEncoded(name) + "\r\nX-Bz-Content-Sha1: " + header(*object, sha1Header, "none") +
                         "\r\nX-Bz-Upload-Timestamp: " + std::to_string(milliseconds(object->modified)) +
                         "\r\nContent-Type: " + header(*object, "content-type", "application/octet-stream") + "\r\n";
        for (auto &[header, value] : object->headers)
            if (header.starts_with(infoPrefix)) headers += header + ": " + percentEncoded(value) + "\r\n";
        if (!deliver(*object, headers)) refuse(416, "range_not_satisfiable");
    }

    void info(const string &id) {
        FileID parsed(id);
        if (auto object = find(parsed)) return answerJSON(file(parsed.name, *object));
        auto upload = store.upload(parsed.etag);
        if (!upload) return refuse(404, "not_found");
        answerJSON(file(upload->key, begun(parsed.etag, *upload), "start"));
    }

    void hide(const string &name) {
        auto object = store.find(bucketName, name);
        if (!object) return refuse(400, "no_such_file");
        store.remove(bucketName, {name});
        Object marker;
        answerJSON(file(name, marker, "hide"));
    }

    void remove(const string &id) {
        FileID parsed(id);
        if (!find(parsed)) return refuse(400, "file_not_present");
        store.remove(bucketName, {parsed.name});
        answerJSON(JSONObject().text("fileId", id).text("fileName", parsed.name));
    }

    /// Where `given` says nothing, what `object` has stays.
    static void describe(Object &object, const JSONFields &given) {
        if (!given["contentType"].empty()) object.headers["content-type"] = given["contentType"];
        for (auto &[place, value] : given.all())
            if (place.starts_with("fileInfo/")) object.headers[infoPrefix + place.substr(9)] = value;
    }

    void copy(const JSONFields &given) {
        FileID source(given["sourceFileId"]);
        auto from = find(source);
        if (!from) return refuse(404, "not_found");
        auto object = std::make_shared<Object>();
        uint64_t low = 0, high = from->size;
        if (!range(given["range"], from->size, low, high))
            object->headers[sha1Header] = header(*from, sha1Header, "none");
        object->add(*from, low, high - low);
        if (given["metadataDirective"] != "REPLACE")
            for (auto &[name, value] : from->headers) object->headers.emplace(name, value);
        describe(*object, given);
        store.put(bucketName, given["fileName"], object);
        answerJSON(file(given["fileName"], *object));
    }

    void list(const JSONFields &given) {
        const string prefix = given["prefix"], delimiter = given["delimiter"], start = given["startFileName"];
        uint64_t most = std::min<uint64_t>(10000, given.number("maxFileCount", 100)), count = 0;
        string files, next;
        store.inspect(bucketName, [&](const Bucket &objects) {
            auto it = objects.lower_bound(std::max(prefix, start));
            for (; it != objects.end() && it->first.starts_with(prefix); count++) {
                const auto &[name, object] = *it;
                size_t end = delimiter.empty() ? string::npos : name.find(delimiter, prefix.size());
                const string folder = end == string::npos ? "" : name.substr(0, end + delimiter.size());
                if (count == most) {
                    next = folder.empty() ? name : folder;
                    return;
                }
                if (count) files += ", ";
                if (folder.empty()) {
                    files += file(name, *object).json();
                    ++it;
                } else {
                    JSONObject entry;
                    entry.text("accountId", "bench").text("action", "folder").text("bucketId", bucketName);
                    entry.number("contentLength", 0).raw("contentSha1", "null").raw("contentType", "null");
                    entry.raw("fileId", "null").raw("fileInfo", "{}").text("fileName", folder);
                    files += entry.number("uploadTimestamp", 0).json();
                    it = objects.lower_bound(behind(folder));
                }
            }
        });
        JSONObject result;
        result.raw("files", "[" + files + "]").raw("nextFileName", next.empty() ? "null" : quoted(next));
        if (operation == "b2_list_file_versions") result.raw("nextFileId", "null");
        answerJSON(result);
    }

    // MARK: Uploads

    void uploadURL(const char *target, const char *field, const string &owner) {
        static std::atomic<uint64_t> count{0};
        JSONObject result;
        result.text(field, owner).text("authorizationToken", "bench");
        answerJSON(result.text(
            "uploadUrl", "http://" + request.header("host") + "/b2api/v4/" + target + "?url=" + std::to_string(++count) +
                             "&owner=" + percentEncoded(owner)));
    }

    void upload() {
        const string claimed = request.header(sha1Header);
        string digits;
        auto object = received(claimed == "hex_digits_at_end" ? 40 : 0, &digits);
        if (!connection.isWhole()) return;
        pause(network.delay);
        if (digits.empty()) digits = claimed;
        if (digits == "do_not_verify") digits = "none";
        else if (object->size <= checked && digits != contentSHA1(*object))
            return refuse(400, "bad_request", "Checksum did not match data received");
        object->headers[sha1Header] = digits;
        if (operation == "b2_upload_part")
            return keep(request.parameter("owner"), request.header("x-bz-part-number"), object);
        for (auto &[name, value] : request.headers)
            if (name == "content-type" || name.starts_with(infoPrefix)) object->headers[name] = unescaped(value, true);
        const string name = unescaped(request.header("x-bz-file-name"), true);
        store.put(bucketName, name, object);
        answerJSON(file(name, *object));
    }

    void start(const JSONFields &given) {
        Object object;
        describe(object, given);
        const string name = given["fileName"], id = store.begin(bucketName, name, object.headers);
        object.etag = id;
        answerJSON(file(name, object, "start"));
    }

    static Object begun(const string &id, const Upload &upload) {
        Object object;
        object.headers = upload.headers;
        object.etag = id;
        return object;
    }

    static JSONObject part(const string &id, int number, const Object &part) {
        JSONObject result;
        result.text("fileId", id).number("partNumber", number).number("contentLength", part.size);
        result.text("contentSha1", header(part, sha1Header, "none")).raw("contentMd5", "null");
        return result.number("uploadTimestamp", milliseconds(part.modified));
    }

    /// Nil when that has been answered already.
    std::shared_ptr<Upload> active(const string &id) {
        auto upload = store.upload(FileID(id).etag);
        if (!upload) refuse(400, "bad_request", "No active upload for: " + id);
        return upload;
    }

    void keep(const string &id, const string &number, const ObjectRef &part) {
        auto upload = active(id);
        if (!upload) return;
        {
            std::lock_guard guard(upload->lock);
            upload->parts[atoi(number.c_str())] = part;
        }
        answerJSON(this->part(id, atoi(number.c_str()), *part));
    }

    void copyPart(const JSONFields &given) {
        auto from = find(FileID(given["sourceFileId"]));
        if (!from) return refuse(404, "not_found");
        uint64_t low = 0, high = from->size;
        range(given["range"], from->size, low, high);
        auto part = std::make_shared<Object>();
        part->add(*from, low, high - low);
        // Nobody knows it; any will do, as long as finishing names the same.
        part->headers[sha1Header] = sha1(given["sourceFileId"] + given["range"]);
        keep(given["largeFileId"], given["partNumber"], part);
    }

    void listParts(const JSONFields &given) {
        const string id = given["fileId"];
        auto upload = active(id);
        if (!upload) return;
        uint64_t first = given.number("startPartNumber", 1), most = given.number("maxPartCount", 100), count = 0;
        string parts, next = "null";
        std::lock_guard guard(upload->lock);
        for (auto it = upload->parts.lower_bound(int(first)); it != upload->parts.end(); ++it, count++) {
            if (count == most) {
                next = std::to_string(it->first);
                break;
            }
            parts += (count ? ", " : "") + part(id, it->first, *it->second).json();
        }
        answerJSON(JSONObject().raw("parts", "[" + parts + "]").raw("nextPartNumber", next));
    }

    void finish(const JSONFields &given) {
        const FileID id(given["fileId"]);
        auto upload = active(given["fileId"]);
        if (!upload) return;
        auto object = std::make_shared<Object>();
        object->headers = upload->headers;
        object->etag = "\"" + id.etag + "\"";
        {
            std::lock_guard guard(upload->lock);
            if (upload->parts.size() < 2) return refuse(400, "bad_request", "large files must have at least 2 parts");
            uint64_t place = 0;
            for (auto &[number, part] : upload->parts) {
                const string told = given["partSha1Array/" + std::to_string(place)];
                if (uint64_t(number) != ++place || told.empty()) return refuse(400, "missing_part");
                if (told != header(*part, sha1Header, "none")) return refuse(400, "part_sha1_mismatch");
                object->add(*part, 0, part->size);
            }
        }
        store.put(bucketName, upload->key, object);
        store.forget(id.etag);
        answerJSON(file(upload->key, *object));
    }

    void cancel(const string &id) {
        auto upload = active(id);
        if (!upload) return;
        store.forget(FileID(id).etag);
        answerJSON(JSONObject().text("fileId", id).text("fileName", upload->key));
    }

    string operation;
    int version = 0;
};

} // namespace bench

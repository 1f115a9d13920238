// The server's S3 interface. No signature is checked.
#pragma once
#include "Exchange.hpp"

namespace bench {

inline string escaped(const string &text) {
    string result;
    for (char c : text) switch (c) {
        case '&': result += "&amp;"; break;
        case '<': result += "&lt;"; break;
        case '>': result += "&gt;"; break;
        default: result += c;
        }
    return result;
}

inline string plain(string text) {
    static const char *const pairs[][2] = {
        {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#34;", "\""}, {"&apos;", "'"}, {"&#39;", "'"}, {"&amp;", "&"}};
    for (auto &[from, to] : pairs)
        for (size_t at = 0; (at = text.find(from, at)) != string::npos; at++) text.replace(at, strlen(from), to);
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

/// A request by S3's interface.
class S3Exchange : Exchange {
public:
    S3Exchange(Service &service, Connection &connection, const Request &request)
        : Exchange(service, connection, request) {}

    void run() {
        Kind kind = this->kind();
        counts.add(kindNames[kind]);
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
    enum Kind { Get, Head, Put, List, Delete, Deletes, Copy, Begin, Part, PartCopy, Complete, Abort, Other, kinds };
    static constexpr const char *kindNames[kinds] = {"GET",   "HEAD", "PUT",      "LIST",     "DELETE", "DELETES", "COPY",
                                                     "BEGIN", "PART", "PARTCOPY", "COMPLETE", "ABORT",  "OTHER"};

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

    void answerXML(const string &body) {
        answer(200, "Content-Type: application/xml\r\n", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>" + body);
    }
    void refuse(int status, const string &code) {
        answer(status, "Content-Type: application/xml\r\n", "<Error><Code>" + code + "</Code></Error>");
    }

    Condition condition() const { return {request.header("if-match"), request.header("if-none-match")}; }

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
        string headers = "ETag: " + object->etag + "\r\nLast-Modified: " +
                         formatted("%a, %d %b %Y %H:%M:%S GMT", object->modified) + "\r\n";
        for (auto &[name, value] : object->headers)
            if (!name.starts_with("x-bz-")) headers += name + ": " + value + "\r\n";
        if (!deliver(*object, headers)) refuse(416, "InvalidRange");
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
        return string("<") + tag + "><LastModified>" + formatted("%Y-%m-%dT%H:%M:%S.000Z", object.modified) +
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
                           formatted("%Y-%m-%dT%H:%M:%S.000Z", object->modified) + "</LastModified><ETag>" + object->etag +
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
};

} // namespace bench

// Buckets in memory.
#pragma once
#include "Pattern.hpp"
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace bench {

[[noreturn]] inline void fail(const char *what) {
    perror(what);
    exit(1);
}

/// Bytes of one upload. Large ones lie in a memory file, from which sendfile takes them without a copy; those files are
/// used again, because on a virtual machine fresh memory can be much slower than memory that is in use.
class Block {
public:
    static constexpr uint64_t inlineLimit = 64 * KiB;

    explicit Block(uint64_t expected) {
        if (expected > inlineLimit) file_ = takeFile(expected);
    }
    Block(const Block &) = delete;
    ~Block() {
        if (file_ >= 0) keepFile(file_, size_);
    }

    void append(const char *bytes, size_t count) {
        if (file_ < 0) {
            inline_.append(bytes, count);
        } else {
            for (size_t done = 0; done < count;) {
                ssize_t n = pwrite(file_, bytes + done, count - done, size_ + done);
                if (n <= 0) fail("memory file");
                done += n;
            }
        }
        size_ += count;
    }

    /// -1 when the bytes are in `text`.
    int file() const { return file_; }
    const std::string &text() const { return inline_; }
    uint64_t size() const { return size_; }

    void read(char *to, size_t count, uint64_t offset) const {
        if (file_ < 0) {
            memcpy(to, inline_.data() + offset, count);
        } else if (pread(file_, to, count, offset) != ssize_t(count)) {
            fail("memory file");
        }
    }

private:
    struct Spare {
        std::mutex lock;
        std::multimap<uint64_t, int> files;
        uint64_t bytes = 0;
    };
    static Spare &spare() {
        static Spare it;
        return it;
    }

    static int takeFile(uint64_t expected) {
        std::lock_guard guard(spare().lock);
        auto &files = spare().files;
        if (files.empty()) return memfd_create("object", MFD_CLOEXEC);
        auto it = files.lower_bound(expected);
        if (it == files.end()) it = std::prev(it);
        int file = it->second;
        spare().bytes -= it->first;
        files.erase(it);
        return file;
    }

    static void keepFile(int file, uint64_t size) {
        std::lock_guard guard(spare().lock);
        if (spare().bytes + size > (3ull << 30)) {
            close(file);
            return;
        }
        spare().bytes += size;
        spare().files.emplace(size, file);
    }

    int file_ = -1;
    uint64_t size_ = 0;
    std::string inline_;
};

/// Part of a block.
struct Segment {
    std::shared_ptr<const Block> block;
    uint64_t offset, count;
};

using Headers = std::map<std::string, std::string>;

/// One version of an object; constant once it is stored.
struct Object {
    std::vector<Segment> segments;
    uint64_t size = 0;
    std::string etag;
    Headers headers;
    timespec modified{};

    Object() {
        static std::atomic<uint64_t> count{1};
        char text[48];
        // The "-1" tells clients that this is no MD5 of the content.
        snprintf(text, sizeof text, "\"%032llx-1\"", count++ * 0x9e3779b97f4a7c15ull);
        etag = text;
        clock_gettime(CLOCK_REALTIME, &modified);
    }

    void add(std::shared_ptr<const Block> block) {
        if (block->size() == 0) return;
        segments.push_back({block, 0, block->size()});
        size += block->size();
    }

    /// Takes `count` bytes from `offset` on of another.
    void add(const Object &other, uint64_t offset, uint64_t count) {
        for (auto &segment : other.slice(offset, count)) {
            segments.push_back(segment);
            size += segment.count;
        }
    }

    std::vector<Segment> slice(uint64_t offset, uint64_t count) const {
        std::vector<Segment> result;
        for (auto &segment : segments) {
            if (count == 0) break;
            if (offset >= segment.count) {
                offset -= segment.count;
                continue;
            }
            uint64_t step = std::min(count, segment.count - offset);
            result.push_back({segment.block, segment.offset + offset, step});
            count -= step;
            offset = 0;
        }
        return result;
    }

    /// Calls `body` with pieces of at most 1 MiB and where each begins.
    template <typename Body> void forEachPiece(Body body) const {
        std::vector<char> piece(MiB);
        uint64_t offset = 0;
        for (auto &segment : segments)
            for (uint64_t done = 0; done < segment.count;) {
                size_t step = std::min<uint64_t>(piece.size(), segment.count - done);
                segment.block->read(piece.data(), step, segment.offset + done);
                body(piece.data(), step, offset);
                done += step;
                offset += step;
            }
    }
};

using ObjectRef = std::shared_ptr<const Object>;
using Bucket = std::map<std::string, ObjectRef>;

struct Upload {
    std::string bucket, key;
    Headers headers;
    std::mutex lock;
    std::map<int, ObjectRef> parts;
};

/// `If-Match` and `If-None-Match: *` of a write; empty means none.
struct Condition {
    std::string match, noneMatch;

    bool holds(const ObjectRef &present) const {
        if (noneMatch == "*" && present) return false;
        return match.empty() || (present && (match == "*" || match == present->etag));
    }
};

class Store {
public:
    ObjectRef find(const std::string &bucket, const std::string &key) {
        std::shared_lock guard(lock_);
        auto it = buckets_.find(bucket);
        if (it == buckets_.end()) return nullptr;
        auto object = it->second.find(key);
        return object == it->second.end() ? nullptr : object->second;
    }

    /// False when the condition does not hold; nothing has changed then.
    bool put(const std::string &bucket, const std::string &key, ObjectRef object, const Condition &condition = {}) {
        std::unique_lock guard(lock_);
        auto &slot = buckets_[bucket][key];
        if (!condition.holds(slot)) {
            if (!slot) buckets_[bucket].erase(key);
            return false;
        }
        // The old version is let go of without the lock.
        std::swap(slot, object);
        guard.unlock();
        return true;
    }

    void remove(const std::string &bucket, const std::vector<std::string> &keys) {
        std::vector<ObjectRef> gone;
        std::unique_lock guard(lock_);
        auto &objects = buckets_[bucket];
        for (auto &key : keys) {
            auto it = objects.find(key);
            if (it == objects.end()) continue;
            gone.push_back(it->second);
            objects.erase(it);
        }
        guard.unlock();
    }

    /// Calls `body` with the bucket's objects, under the lock.
    template <typename Body> void inspect(const std::string &bucket, Body body) {
        std::shared_lock guard(lock_);
        static const Bucket none;
        auto it = buckets_.find(bucket);
        body(it == buckets_.end() ? none : it->second);
    }

    std::vector<std::string> keys(const std::string &bucket, const std::string &prefix, uint64_t smallest = 0) {
        std::vector<std::string> result;
        inspect(bucket, [&](const Bucket &objects) {
            for (auto it = objects.lower_bound(prefix); it != objects.end() && it->first.starts_with(prefix); ++it)
                if (it->second->size >= smallest) result.push_back(it->first);
        });
        return result;
    }

    std::string begin(const std::string &bucket, const std::string &key, Headers headers) {
        auto upload = std::make_shared<Upload>();
        upload->bucket = bucket;
        upload->key = key;
        upload->headers = std::move(headers);
        std::unique_lock guard(lock_);
        std::string id = "upload-" + std::to_string(++lastUpload_);
        uploads_[id] = upload;
        return id;
    }

    std::shared_ptr<Upload> upload(const std::string &id) {
        std::shared_lock guard(lock_);
        auto it = uploads_.find(id);
        return it == uploads_.end() ? nullptr : it->second;
    }

    void forget(const std::string &id) {
        std::unique_lock guard(lock_);
        uploads_.erase(id);
    }

private:
    std::shared_mutex lock_;
    std::map<std::string, Bucket> buckets_;
    std::map<std::string, std::shared_ptr<Upload>> uploads_;
    uint64_t lastUpload_ = 0;
};

} // namespace bench

// The bytes of every file and object of the benchmark, so that each reader can tell wrong ones.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace bench {

constexpr size_t KiB = 1 << 10, MiB = 1 << 20;

/// Repeats after a length that no part, block or page size divides: bytes at a wrong place are wrong bytes.
class Pattern {
public:
    static constexpr size_t period = 7 * MiB + 4 * KiB;
    /// How many bytes can be had in one piece, from any offset.
    static constexpr size_t reach = MiB;

    Pattern() : bytes_(period + reach) {
        for (size_t i = 0; i < bytes_.size(); i += 8) {
            uint64_t word = mixed(i % period / 8);
            memcpy(&bytes_[i], &word, 8);
        }
    }

    const char *at(uint64_t offset) const { return &bytes_[offset % period]; }

    bool matches(const char *bytes, size_t count, uint64_t offset) const {
        for (size_t done = 0; done < count;) {
            size_t step = count - done < reach ? count - done : reach;
            if (memcmp(bytes + done, at(offset + done), step) != 0) return false;
            done += step;
        }
        return true;
    }

private:
    static uint64_t mixed(uint64_t index) {
        uint64_t x = (index + 1) * 0x9e3779b97f4a7c15ull;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        return x ^ (x >> 31);
    }

    std::vector<char> bytes_;
};

/// What the overwrites of the benchmark write, a block at a time.
constexpr char mark = 0x5a;
constexpr size_t markBytes = 4096;

} // namespace bench

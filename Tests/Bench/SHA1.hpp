// SHA-1 (FIPS 180-4), for what is small: it is not made to be quick.
#pragma once
#include <bit>
#include <cstdint>
#include <cstdio>
#include <string>

namespace bench {

/// Forty digits.
inline std::string sha1(std::string text) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint64_t bits = text.size() * 8ull;
    text += char(0x80);
    text.resize((text.size() + 8 + 63) / 64 * 64);
    for (int i = 0; i < 8; i++) text[text.size() - 1 - i] = char(bits >> (8 * i));
    for (size_t block = 0; block < text.size(); block += 64) {
        uint32_t w[80];
        for (int i = 0; i < 16; i++) {
            auto at = reinterpret_cast<const unsigned char *>(&text[block + 4 * i]);
            w[i] = uint32_t(at[0]) << 24 | at[1] << 16 | at[2] << 8 | at[3];
        }
        for (int i = 16; i < 80; i++) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? ((b & c) | (~b & d)) + 0x5a827999
                       : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                       : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                : (b ^ c ^ d) + 0xca62c1d6;
            uint32_t next = std::rotl(a, 5) + f + e + w[i];
            e = d, d = c, c = std::rotl(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    char digits[41];
    snprintf(digits, sizeof digits, "%08x%08x%08x%08x%08x", h[0], h[1], h[2], h[3], h[4]);
    return digits;
}

} // namespace bench

// As much JSON as the server needs: no surrogate pairs, no checks.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace bench {

/// Strings, numbers and words of a JSON text by their places: `fileName`, `fileInfo/mode`, `partSha1Array/0`. Null is left
/// out.
class JSONFields {
public:
    explicit JSONFields(const std::string &text) : at_(text.c_str()) { value(""); }

    /// Empty when there is none.
    std::string operator[](const std::string &place) const {
        auto it = fields_.find(place);
        return it == fields_.end() ? "" : it->second;
    }
    uint64_t number(const char *place, uint64_t otherwise) const {
        auto it = fields_.find(place);
        return it == fields_.end() ? otherwise : strtoull(it->second.c_str(), nullptr, 10);
    }
    const std::map<std::string, std::string> &all() const { return fields_; }

private:
    void blank() {
        while (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t') at_++;
    }

    void value(const std::string &place) {
        blank();
        if (*at_ == '{' || *at_ == '[') return members(place.empty() ? place : place + "/", *at_ == '{');
        if (*at_ == '"') {
            fields_[place] = quotedText();
            return;
        }
        std::string word;
        while (*at_ && !strchr(",]} \n\r\t", *at_)) word += *at_++;
        if (word != "null" && !word.empty()) fields_[place] = word;
    }

    void members(const std::string &place, bool isNamed) {
        at_++;
        for (size_t index = 0;; index++) {
            blank();
            if (*at_ == 0) return;
            if (*at_ == '}' || *at_ == ']') {
                at_++;
                return;
            }
            std::string name = isNamed && *at_ == '"' ? quotedText() : std::to_string(index);
            blank();
            if (*at_ == ':') at_++;
            value(place + name);
            blank();
            if (*at_ == ',') at_++;
        }
    }

    std::string quotedText() {
        std::string text;
        for (at_++; *at_ && *at_ != '"'; at_++) {
            if (*at_ != '\\') {
                text += *at_;
                continue;
            }
            switch (*++at_) {
            case 'n': text += '\n'; break;
            case 'r': text += '\r'; break;
            case 't': text += '\t'; break;
            case 'b': text += '\b'; break;
            case 'f': text += '\f'; break;
            case 'u': {
                char digits[5] = {};
                for (int i = 0; i < 4 && at_[1]; i++) digits[i] = *++at_;
                add(strtoul(digits, nullptr, 16), text);
                break;
            }
            case 0: return text;
            default: text += *at_;
            }
        }
        if (*at_) at_++;
        return text;
    }

    static void add(unsigned code, std::string &text) {
        if (code < 0x80) {
            text += char(code);
        } else if (code < 0x800) {
            text += {char(0xc0 | code >> 6), char(0x80 | (code & 63))};
        } else {
            text += {char(0xe0 | code >> 12), char(0x80 | (code >> 6 & 63)), char(0x80 | (code & 63))};
        }
    }

    const char *at_;
    std::map<std::string, std::string> fields_;
};

inline std::string quoted(const std::string &text) {
    std::string result = "\"";
    for (unsigned char c : text) {
        if (c == '"' || c == '\\') (result += '\\') += c;
        else if (c >= 0x20) result += c;
        else {
            char code[8];
            snprintf(code, sizeof code, "\\u%04x", c);
            result += code;
        }
    }
    return result += '"';
}

/// An object in the making.
class JSONObject {
public:
    JSONObject &raw(const char *name, const std::string &json) {
        (((text_ += text_.empty() ? "{\"" : ", \"") += name) += "\": ") += json;
        return *this;
    }
    JSONObject &text(const char *name, const std::string &value) { return raw(name, quoted(value)); }
    JSONObject &number(const char *name, long long value) { return raw(name, std::to_string(value)); }

    std::string json() const { return text_.empty() ? "{}" : text_ + "}"; }

private:
    std::string text_;
};

} // namespace bench

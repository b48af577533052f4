#include "base/bytes.h"

namespace vmhost {

std::string printable(std::string_view text, std::size_t max_length) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (char c : text) {
        if (out.size() >= max_length) {
            out += "…";
            break;
        }
        auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
            out += c;
        } else {
            out += "\\x";
            out += digits[byte >> 4];
            out += digits[byte & 15];
        }
    }
    return out;
}

} // namespace vmhost

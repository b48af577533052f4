// The base64 part is a sequence of strings, each behind its length in four bytes (RFC 4251 §5); the
// first is the type again. What follows is RFC 4253 §6.6 for RSA, RFC 5656 §3.1 for ECDSA, RFC 8709
// §4 for Ed25519; keys of FIDO tokens (PROTOCOL.u2f of OpenSSH) have one more string behind. DSA is
// not taken: no ssh logs in with it any more.
#include "deploy/ssh_key.h"

#include <algorithm>
#include <array>

namespace vmhost::deploy {

namespace {

constexpr std::string_view letters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::size_t max_key_bytes = 8192; // RSA of 16384 bits has 2 KiB
constexpr unsigned min_rsa_bits = 1024;     // OpenSSH's own

Result<std::vector<std::uint8_t>> decode(std::string_view text) {
    if (text.empty() || text.size() % 4 != 0 || text.size() > max_key_bytes)
        return fail(ErrorKind::invalid, "the base64 of the key is cut off or has odd length");
    auto padding = text.ends_with("==") ? 2U : text.ends_with('=') ? 1U : 0U;
    std::vector<std::uint8_t> out;
    out.reserve(text.size() / 4 * 3);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto value = i >= text.size() - padding ? 0 : letters.find(text[i]);
        if (value == std::string_view::npos)
            return fail(ErrorKind::invalid, "the key has a character that is no base64");
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        if (i % 4 != 3)
            continue;
        out.push_back(static_cast<std::uint8_t>(bits >> 16));
        out.push_back(static_cast<std::uint8_t>(bits >> 8));
        out.push_back(static_cast<std::uint8_t>(bits));
    }
    bool clean = true; // bits that no byte takes are zero
    for (unsigned i = 0; i < padding; ++i) {
        clean = clean && out.back() == 0;
        out.pop_back();
    }
    if (!clean)
        return fail(ErrorKind::invalid, "the base64 of the key does not end as it must");
    return out;
}

Bytes string_of(ByteReader& reader) {
    return reader.bytes(reader.be<std::uint32_t>());
}

bool is_positive(Bytes number) {
    return !number.empty() && number[0] < 0x80 && (number[0] != 0 || number.size() > 1);
}

unsigned bits_of(Bytes number) {
    while (!number.empty() && number[0] == 0)
        number = number.subspan(1);
    return number.empty() ? 0
                          : static_cast<unsigned>(number.size() * 8) -
                                static_cast<unsigned>(std::countl_zero(number[0]));
}

// "nistp256" and the length of a point on it.
bool is_point(std::string_view curve, Bytes point) {
    auto size = curve == "nistp256" ? 65U : curve == "nistp384" ? 97U : 133U;
    return point.size() == size && point[0] == 4;
}

Result<void> check_inside(std::string_view type, Bytes bytes) {
    ByteReader reader(bytes);
    auto inner = as_text(string_of(reader));
    if (!reader.ok())
        return fail(ErrorKind::invalid, "the key is cut off");
    if (inner != type)
        return fail(ErrorKind::invalid, "the key says {} and is {}", type, printable(inner, 40));
    auto name = type;
    bool token = name.starts_with("sk-");
    if (token)
        name = name.substr(3, name.find('@') - 3);
    bool good = false;
    if (name == "ssh-ed25519") {
        good = string_of(reader).size() == 32;
    } else if (name == "ssh-rsa") {
        auto exponent = string_of(reader), modulus = string_of(reader);
        good = is_positive(exponent) && is_positive(modulus);
        if (good && bits_of(modulus) < min_rsa_bits)
            return fail(ErrorKind::invalid, "an RSA key has at least {} bits, this one has {}",
                        min_rsa_bits, bits_of(modulus));
    } else {
        auto curve = as_text(string_of(reader));
        good = name.ends_with(curve) && curve.starts_with("nistp") &&
               is_point(curve, string_of(reader));
    }
    if (token)
        good = !string_of(reader).empty() && good;
    if (!good || !reader.ok() || reader.remaining() > 0)
        return fail(ErrorKind::invalid, "what stands in the key is no {} key", type);
    return {};
}

constexpr std::array<std::string_view, 7> types{"ssh-ed25519",
                                                "ssh-rsa",
                                                "ecdsa-sha2-nistp256",
                                                "ecdsa-sha2-nistp384",
                                                "ecdsa-sha2-nistp521",
                                                "sk-ssh-ed25519@openssh.com",
                                                "sk-ecdsa-sha2-nistp256@openssh.com"};

std::string_view take_word(std::string_view& rest) {
    auto word = rest.substr(0, rest.find_first_of(" \t"));
    rest.remove_prefix(word.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    return word;
}

} // namespace

std::string SshKey::text() const {
    return comment.empty() ? fmt::format("{} {}", type, base64)
                           : fmt::format("{} {} {}", type, base64, comment);
}

Result<SshKey> parse_ssh_key(std::string_view line) {
    if (std::ranges::any_of(line, [](char c) {
            return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
        }))
        return fail(ErrorKind::invalid, "a key is one line without control characters");
    auto rest = line;
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    SshKey key;
    key.type = take_word(rest);
    if (std::ranges::find(types, key.type) == types.end()) {
        bool options = std::ranges::any_of(types, [&](std::string_view type) {
            return rest.find(fmt::format("{} AAAA", type)) != std::string_view::npos;
        });
        if (options)
            return fail(ErrorKind::invalid, "a key of an order has no options before its type");
        return fail(ErrorKind::invalid, "\"{}\" is no type of key that is known: {}",
                    printable(key.type, 40), fmt::join(types, ", "));
    }
    key.base64 = take_word(rest);
    key.bytes = TRY(decode(key.base64));
    TRY(check_inside(key.type, key.bytes));
    while (rest.ends_with(' ') || rest.ends_with('\t'))
        rest.remove_suffix(1);
    key.comment = rest;
    std::ranges::replace(key.comment, '\t', ' ');
    return key;
}

} // namespace vmhost::deploy

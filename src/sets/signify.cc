// A signify file is a line of comment, which nothing vouches for, and a line of base64: "Ed", the
// number of the key, and the key or the signature. Of a text with its signature the message
// follows.
//
// libsodium has the arithmetic: signatures are no field of ours.

#include "sets/signify.h"

#include <algorithm>

#include <sodium.h>

namespace vmhost::sets {

namespace {

constexpr std::string_view comment = "untrusted comment: ";
constexpr std::size_t max_comment_bytes = 1024; // signify(1)'s COMMENTMAXLEN
constexpr std::size_t head_bytes = 2 + 8;       // algorithm, number
using Signature = std::array<std::uint8_t, crypto_sign_BYTES>;

struct Parts {
    KeyNumber number{};
    std::string_view rest; // behind the two lines
};

// The two lines in front; body takes what follows the number.
template <std::size_t size>
std::optional<Parts> take_lines(std::string_view text, std::array<std::uint8_t, size>& body) {
    auto first = text.find('\n');
    if (first == std::string_view::npos || !text.starts_with(comment) || first > max_comment_bytes)
        return std::nullopt;
    auto second = text.find('\n', first + 1);
    if (second == std::string_view::npos)
        return std::nullopt;
    auto coded = text.substr(first + 1, second - first - 1);
    std::array<std::uint8_t, head_bytes + size> bytes{};
    std::size_t count = 0;
    const char* end = nullptr;
    if (sodium_base642bin(bytes.data(), bytes.size(), coded.data(), coded.size(), nullptr, &count,
                          &end, sodium_base64_VARIANT_ORIGINAL) != 0 ||
        count != bytes.size() || end != coded.data() + coded.size())
        return std::nullopt;
    if (bytes[0] != 'E' || bytes[1] != 'd')
        return std::nullopt;
    Parts parts;
    std::copy_n(bytes.begin() + 2, parts.number.size(), parts.number.begin());
    std::copy(bytes.begin() + head_bytes, bytes.end(), body.begin());
    parts.rest = text.substr(second + 1);
    return parts;
}

bool is_safe_name(std::string_view name) {
    auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '_' || c == '-' || c == '+';
    };
    return !name.empty() && name.size() <= limits::max_set_name_bytes && name.front() != '.' &&
           name.front() != '-' && std::ranges::all_of(name, good);
}

std::optional<Sum> parse_line(std::string_view line) {
    constexpr std::string_view before = "SHA256 (", between = ") = ";
    Sum sum;
    const std::size_t digits = 2 * sum.sha256.size();
    if (!line.starts_with(before) || line.size() < before.size() + between.size() + digits)
        return std::nullopt;
    line.remove_prefix(before.size());
    auto hex = line.substr(line.size() - digits);
    line.remove_suffix(digits);
    std::size_t count = 0;
    if (!line.ends_with(between) ||
        sodium_hex2bin(sum.sha256.data(), sum.sha256.size(), hex.data(), hex.size(), nullptr,
                       &count, nullptr) != 0 ||
        count != sum.sha256.size())
        return std::nullopt;
    line.remove_suffix(between.size());
    if (!is_safe_name(line))
        return std::nullopt;
    sum.name = line;
    return sum;
}

} // namespace

Result<PublicKey> parse_public_key(std::string_view text) {
    PublicKey key;
    auto parts = take_lines(text, key.key);
    if (!parts || !parts->rest.empty())
        return fail(ErrorKind::invalid, "it is no public key of signify");
    key.number = parts->number;
    return key;
}

std::optional<KeyNumber> signer_of(std::string_view text) {
    Signature signature{};
    auto parts = take_lines(text, signature);
    return parts ? std::optional(parts->number) : std::nullopt;
}

Result<std::string_view> verify_signed(std::string_view text, const PublicKey& key) {
    Signature signature{};
    auto parts = take_lines(text, signature);
    if (!parts)
        return fail(ErrorKind::corrupt, "it has no signature of signify");
    if (parts->number != key.number)
        return fail(ErrorKind::denied, "it is signed by another key");
    const auto message = as_bytes(parts->rest);
    if (crypto_sign_verify_detached(signature.data(), message.data(), message.size(),
                                    key.key.data()) != 0)
        return fail(ErrorKind::denied, "its signature is wrong");
    return parts->rest;
}

Result<std::vector<Sum>> parse_sums(std::string_view text) {
    std::vector<Sum> sums;
    for (std::size_t number = 1; !text.empty(); ++number) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        auto sum = parse_line(line);
        if (!sum)
            return fail(ErrorKind::corrupt, "line {} of the list is no sum of a file: \"{}\"",
                        number, printable(line, 80));
        if (std::ranges::any_of(sums, [&](const Sum& one) { return one.name == sum->name; }))
            return fail(ErrorKind::corrupt, "{} is in the list twice", sum->name);
        if (sums.size() >= limits::max_set_files)
            return fail(ErrorKind::limit, "the list has more than {} files", limits::max_set_files);
        sums.push_back(*std::move(sum));
    }
    return sums;
}

bool is_version(std::string_view text) {
    if (text == "snapshots")
        return true;
    auto dot = text.find('.');
    auto digits = [](std::string_view part) {
        return !part.empty() && part.size() <= 3 &&
               std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
    };
    return dot != std::string_view::npos && digits(text.substr(0, dot)) &&
           digits(text.substr(dot + 1));
}

bool is_arch(std::string_view text) {
    return !text.empty() && text.size() <= 16 && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    });
}

} // namespace vmhost::sets

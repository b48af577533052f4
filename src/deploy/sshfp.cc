// What is hashed are the bytes behind the base64 of a key. SHA-1 is not for signing here: it is
// what RFC 4255 began with, and only made on demand.
#include "deploy/sshfp.h"

#include <algorithm>
#include <array>

#include <sha1.h>
#include <sha2.h>

namespace vmhost::deploy {

namespace {

constexpr std::size_t max_keys_bytes = 1 << 20;

std::optional<unsigned> algorithm_of(std::string_view type) {
    if (type == "ssh-rsa")
        return 1;
    if (type.starts_with("ecdsa-sha2-"))
        return 3;
    if (type == "ssh-ed25519")
        return 4;
    return std::nullopt;
}

template <std::size_t size>
std::string hex(const std::array<std::uint8_t, size>& digest) {
    std::string out;
    for (auto byte : digest)
        out += fmt::format("{:02x}", byte);
    return out;
}

std::string sha1_of(Bytes bytes) {
    SHA1_CTX context;
    std::array<std::uint8_t, SHA1_DIGEST_LENGTH> digest{};
    ::SHA1Init(&context);
    ::SHA1Update(&context, bytes.data(), bytes.size());
    ::SHA1Final(digest.data(), &context);
    return hex(digest);
}

std::string sha256_of(Bytes bytes) {
    SHA2_CTX context;
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
    ::SHA256Init(&context);
    ::SHA256Update(&context, bytes.data(), bytes.size());
    ::SHA256Final(digest.data(), &context);
    return hex(digest);
}

} // namespace

Result<std::string> sshfp_records(std::string_view name, const SshKey& key,
                                  const SshfpOptions& options) {
    auto algorithm = algorithm_of(key.type);
    if (!algorithm)
        return fail(ErrorKind::unsupported, "keys of the type {} have no SSHFP record", key.type);
    std::string out;
    auto add = [&](unsigned type, const std::string& digest) {
        if (options.generic)
            out += fmt::format("{} IN TYPE44 \\# {} {:02x} {:02x} {}\n", name,
                               2 + digest.size() / 2, *algorithm, type, digest);
        else
            out += fmt::format("{} IN SSHFP {} {} {}\n", name, *algorithm, type, digest);
    };
    if (options.sha1)
        add(1, sha1_of(key.bytes));
    add(2, sha256_of(key.bytes));
    return out;
}

Result<std::vector<SshKey>> parse_host_keys(std::string_view text, const std::string& file) {
    if (text.size() > max_keys_bytes)
        return fail(ErrorKind::limit, "{} is no file of host keys: it is too long",
                    printable(file));
    std::vector<SshKey> keys;
    std::uint32_t number = 0;
    while (!text.empty()) {
        ++number;
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        while (line.ends_with('\r') || line.ends_with(' '))
            line.remove_suffix(1);
        if (line.empty() || line.starts_with('#'))
            continue;
        auto key = parse_ssh_key(line);
        auto blank = line.find(' ');
        if (!key && blank != std::string_view::npos)
            if (auto behind = parse_ssh_key(line.substr(blank + 1)))
                key = std::move(behind);
        if (!key)
            return std::unexpected(std::move(key).error().at({file, number, 1}));
        keys.push_back(*std::move(key));
    }
    if (keys.empty())
        return fail(ErrorKind::invalid, "{} has no key", printable(file));
    return keys;
}

} // namespace vmhost::deploy

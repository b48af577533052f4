// Keys and signed lists of our own, in signify(1)'s format.
#pragma once

#include <catch2/catch.hpp>

#include <sodium.h>

#include "sets/sets.h"

namespace vmhost::sets {

class Signer {
public:
    // The seed makes the key and its number.
    explicit Signer(std::uint8_t seed) {
        std::array<std::uint8_t, crypto_sign_SEEDBYTES> bytes{};
        bytes.fill(seed);
        crypto_sign_seed_keypair(public_.data(), secret_.data(), bytes.data());
        number_.fill(seed);
    }
    KeyNumber number() const { return number_; }
    void set_number(KeyNumber number) { number_ = number; }
    std::string public_text() const { return text("openbsd public key", public_); }
    std::string sign(std::string_view message) const {
        std::array<std::uint8_t, crypto_sign_BYTES> signature{};
        const auto bytes = as_bytes(message);
        crypto_sign_detached(signature.data(), nullptr, bytes.data(), bytes.size(), secret_.data());
        return text("verify with openbsd-78-base.pub", signature) + std::string(message);
    }

private:
    template <std::size_t size>
    std::string text(std::string_view comment, const std::array<std::uint8_t, size>& body) const {
        std::vector<std::uint8_t> bytes = {'E', 'd'};
        bytes.insert(bytes.end(), number_.begin(), number_.end());
        bytes.insert(bytes.end(), body.begin(), body.end());
        std::string coded(sodium_base64_ENCODED_LEN(bytes.size(), sodium_base64_VARIANT_ORIGINAL),
                          '\0');
        sodium_bin2base64(coded.data(), coded.size(), bytes.data(), bytes.size(),
                          sodium_base64_VARIANT_ORIGINAL);
        coded.resize(coded.size() - 1);
        return fmt::format("untrusted comment: {}\n{}\n", comment, coded);
    }
    KeyNumber number_{};
    std::array<std::uint8_t, crypto_sign_PUBLICKEYBYTES> public_{};
    std::array<std::uint8_t, crypto_sign_SECRETKEYBYTES> secret_{};
};

inline std::string hex_sum(std::string_view content) {
    std::array<std::uint8_t, 32> sum{};
    const auto bytes = as_bytes(content);
    crypto_hash_sha256(sum.data(), bytes.data(), bytes.size());
    std::string text;
    for (auto byte : sum)
        text += fmt::format("{:02x}", byte);
    return text;
}

inline std::string sum_line(std::string_view name, std::string_view content) {
    return fmt::format("SHA256 ({}) = {}\n", name, hex_sum(content));
}

} // namespace vmhost::sets

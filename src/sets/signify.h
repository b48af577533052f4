// Signed lists of files: signify(1)'s formats, and the lines of sha256(1).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::sets {

using KeyNumber = std::array<std::uint8_t, 8>; // chosen at random, to find the key of a signature

struct PublicKey {
    KeyNumber number{};
    std::array<std::uint8_t, 32> key{}; // Ed25519
};

// The text of a *.pub file; invalid when it is none.
Result<PublicKey> parse_public_key(std::string_view text);

// Whose signature a text claims to have; nothing when it has none.
std::optional<KeyNumber> signer_of(std::string_view text);
// What a text with its signature in front says (signify -e), a part of it; corrupt when it is not
// of that form, denied when it was signed by another key or is not what was signed.
Result<std::string_view> verify_signed(std::string_view text, const PublicKey& key);

struct Sum {
    std::string name; // safe as the name of a file: no slash, no dot in front
    std::array<std::uint8_t, 32> sha256{};
    bool operator==(const Sum&) const = default;
};

// "SHA256 (name) = hex" in each line; corrupt for any other line, a name that is not safe, and one
// that comes twice; limit for more than limits::max_set_files.
Result<std::vector<Sum>> parse_sums(std::string_view text);

// A release ("7.8") or "snapshots"; "amd64" and its like.
bool is_version(std::string_view text);
bool is_arch(std::string_view text);

} // namespace vmhost::sets

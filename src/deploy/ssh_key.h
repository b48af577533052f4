// A public ssh key as authorized_keys(5) and known_hosts files have it: type, base64, comment.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::deploy {

struct SshKey {
    std::string type;                // "ssh-ed25519"
    std::string base64;              // as written
    std::string comment;             // may be empty
    std::vector<std::uint8_t> bytes; // what the base64 stands for
    // The line, without options.
    std::string text() const;
    // The key itself, whatever its comment.
    bool same_key(const SshKey& other) const { return bytes == other.bytes; }
};

// One line without options: a type that is known, base64 that decodes, and inside it a key of that
// very type and nothing behind it.
Result<SshKey> parse_ssh_key(std::string_view line);

} // namespace vmhost::deploy

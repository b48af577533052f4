// ssh host keys that are made before their host is there, so that their fingerprints can be
// published before its first boot: Ed25519, as ssh-keygen(1) writes them without a passphrase.
//
// Formats: RFC 8709 §4 for the public key, PROTOCOL.key of OpenSSH for the private one.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/base.h"

namespace vmhost::install {

struct HostKey {
    std::string public_line;  // "ssh-ed25519 AAAA… root@puffy", without an end
    std::string private_text; // "-----BEGIN OPENSSH PRIVATE KEY-----" and so on, ends its last line
};

// A new one, of the kernel's random numbers. comment: of one line.
Result<HostKey> make_host_key(std::string_view comment);
// The one of this seed: for tests. check: any number, which stands in it twice.
Result<HostKey> host_key_of(const std::array<std::uint8_t, 32>& seed, std::uint32_t check,
                            std::string_view comment);

} // namespace vmhost::install

// SSHFP records (RFC 4255, 6594, 7479): fingerprints of host keys for a DNS zone, by which ssh -o
// VerifyHostKeyDNS=yes knows a host.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "deploy/ssh_key.h"

namespace vmhost::deploy {

struct SshfpOptions {
    bool sha1 = false;    // besides SHA-256: for old clients
    bool generic = false; // as TYPE44 (RFC 3597), for old name servers
};

// A line for each record. unsupported: keys of tokens have no number there.
Result<std::string> sshfp_records(std::string_view name, const SshKey& key,
                                  const SshfpOptions& options);

// The keys of a *.pub file, or of what ssh-keyscan(1) prints: a host's name may stand before them.
// invalid: a line that is neither a key nor a comment, or none at all.
Result<std::vector<SshKey>> parse_host_keys(std::string_view text, const std::string& file);

} // namespace vmhost::deploy

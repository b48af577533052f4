// What a directory of sets holds.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sets/signify.h"

namespace vmhost::sets {

// What a fetch left beside the files, in ".verified".
struct Record {
    std::int64_t time_s = 0; // Unix: when all files had been compared with the list
    std::string key;         // name of the file of the key
    std::vector<std::string> files;
    bool operator==(const Record&) const = default;
};
std::string record_text(const Record& record);
// corrupt when it is none.
Result<Record> parse_record(std::string_view text);

struct SetDirectory {
    std::string version, arch;
    std::optional<Record> record; // none: not of a fetch
    std::uint64_t bytes = 0;      // of its files
    std::size_t files = 0;
};
// Each VERSION/ARCH beneath that has a SHA256.sig, by name; hidden ones are passed over.
Result<std::vector<SetDirectory>> list_sets(const std::string& directory);

// The public key for a release: openbsd-78-base.pub for 7.8, and for snapshots whichever signed
// them. Its name beneath the directory, and itself.
struct NamedKey {
    std::string name;
    PublicKey key;
};
Result<std::vector<NamedKey>> keys_for(const std::string& directory, const std::string& version);
// The sums that a signed list has, by one of the keys, of which there is one at least.
struct SignedSums {
    std::string key; // name
    std::vector<Sum> sums;
};
Result<SignedSums> verify_sums(std::string_view signed_text, const std::vector<NamedKey>& keys);

// A whole file of at most so many bytes.
Result<std::string> read_text(const std::string& path, std::size_t max_bytes);
using OnBytes = std::function<void(std::uint64_t more)>;
// Of a regular file.
Result<std::array<std::uint8_t, 32>> sha256_of(const std::string& path, const OnBytes& on_bytes);

struct Verified {
    std::size_t files = 0; // good ones
    std::uint64_t bytes = 0;
    std::string key;
    std::vector<std::string> bad;     // other sums
    std::vector<std::string> missing; // of those that were fetched
    bool good() const { return bad.empty() && missing.empty(); }
};
// Compares every file with the signed list again. An error when the list itself is not good.
Result<Verified> verify_sets(const std::string& directory, const std::string& version,
                             const std::string& arch, const std::string& keys,
                             const OnBytes& on_bytes);

inline constexpr std::string_view list_name = "SHA256.sig";
inline constexpr std::string_view record_name = ".verified";

} // namespace vmhost::sets

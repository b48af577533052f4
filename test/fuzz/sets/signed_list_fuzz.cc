// Lists of files, their signatures, and records, from anybody: a name that is taken is safe as the
// name of a file, and no signature is good by chance.

#include <cstdlib>

#include "sets/sets.h"

using namespace vmhost;
using namespace vmhost::sets;

namespace {

void must(bool condition) {
    if (!condition)
        std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto text = as_text({data, size});
    (void)parse_public_key(text);
    PublicKey key;
    key.key[0] = 1;
    if (auto number = signer_of(text))
        key.number = *number;
    must(!verify_signed(text, key));
    if (auto record = parse_record(text))
        must(parse_record(record_text(*record)).value() == *record);
    auto sums = parse_sums(text);
    if (!sums)
        return 0;
    must(sums->size() <= limits::max_set_files);
    for (const auto& sum : *sums) {
        must(!sum.name.empty() && sum.name.size() <= limits::max_set_name_bytes);
        must(sum.name.front() != '.' && sum.name.front() != '-');
        must(sum.name.find('/') == std::string::npos && sum.name.find('\0') == std::string::npos);
    }
    return 0;
}

// Sizes, durations, addresses and log levels from anybody: what is accepted prints
// as something that is accepted again with the same value.
#include <cstdlib>

#include "base/base.h"

using namespace vmhost;

namespace {

void must(bool good) {
    if (!good)
        std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto text = as_text(Bytes(data, size));
    if (auto bytes = parse_size(text))
        must(parse_size(format_size(*bytes)).has_value() || *bytes > (15ULL << 60));
    if (auto duration = parse_duration(text))
        must(parse_duration(format_duration(*duration)).value() == *duration);
    if (auto mac = parse_mac(text))
        must(parse_mac(mac->text()).value() == *mac);
    if (auto address = parse_ipv4(text))
        must(parse_ipv4(address->text()).value() == *address);
    if (auto prefix = parse_ipv4_prefix(text)) {
        must(parse_ipv4_prefix(prefix->text()).value() == *prefix);
        must(prefix->contains(prefix->address));
    }
    if (auto address = parse_ipv6(text))
        must(parse_ipv6(address->text()).value() == *address);
    if (auto prefix = parse_ipv6_prefix(text)) {
        must(parse_ipv6_prefix(prefix->text()).value() == *prefix);
        must(prefix->contains(prefix->address));
    }
    for (char c : printable(text, 1 << 20))
        must(c != '\n' && c != '\x1b');
    (void)check_name(text);
    return 0;
}

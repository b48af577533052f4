// Request heads from anybody: what is taken must be within its limits, canonical,
// and the same whatever stands behind it; a refusal must have a status.

#include <cstdlib>

#include "http/conditions.h"
#include "http/message.h"
#include "http/parser.h"

using namespace vmhost;
using namespace vmhost::http;

namespace {

void must(bool condition) {
    if (!condition)
        std::abort();
}

void check_path(const std::string& path) {
    must(path.starts_with('/'));
    must(path.find("//") == std::string::npos);
    must((path + "/").find("/../") == std::string::npos);
    must((path + "/").find("/./") == std::string::npos);
    must(path.find('\0') == std::string::npos);
    must(canonical_path(path) == path);
}

// Whatever the conditions say, what is sent is a part of the file.
void check_part(const Conditions& conditions) {
    const Validators file{"\"a-1\"", 1'700'000'000};
    for (std::uint64_t size_bytes : {std::uint64_t{0}, std::uint64_t{1000}}) {
        auto selected = select(conditions, file, size_bytes, true, 1'800'000'000);
        must(selected.offset <= size_bytes && selected.length <= size_bytes - selected.offset);
        must(reason_of(selected.status) != "Unknown");
        must(selected.status != 206 || selected.length > 0);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto text = as_text({data, size});
    auto parsed = parse_head(text);
    must(!(parsed.head && parsed.refusal));
    if (parsed.refusal)
        must(reason_of(parsed.refusal->status) != "Unknown");
    if (!parsed.head && !parsed.refusal)
        must(size < limits::max_http_head_bytes);
    if (!parsed.head)
        return 0;
    must(parsed.used_bytes <= size && parsed.used_bytes <= limits::max_http_head_bytes);
    check_path(parsed.head->path);
    check_part(parsed.head->conditions);
    // Alone it is the same request, and one byte short of it is none yet.
    auto alone = parse_head(text.substr(0, parsed.used_bytes));
    must(alone.head && alone.used_bytes == parsed.used_bytes);
    must(alone.head->path == parsed.head->path && alone.head->host == parsed.head->host);
    must(alone.head->has_body == parsed.head->has_body);
    auto shorter = parse_head(text.substr(0, parsed.used_bytes - 1));
    must(!shorter.head && !shorter.refusal);
    return 0;
}

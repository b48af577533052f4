// Any bytes: parse neither crashes nor hangs; what it accepts reads back from print as
// the same model; what it refuses has complaints of one line each, in file order.
#include <cstdio>
#include <cstdlib>

#include "config/config.h"

using namespace vmhost;
using namespace vmhost::config;

namespace {

[[noreturn]] void broken(const char* promise, const std::string& text) {
    std::fprintf(stderr, "broken promise: %s\n%s\n", promise, text.c_str());
    std::abort();
}

void check_complaints(const Complaints& complaints) {
    if (complaints.empty())
        broken("a refusal has complaints", "");
    std::uint32_t line = 0;
    for (const Error& complaint : complaints) {
        if (complaint.text().find('\n') != std::string::npos)
            broken("a complaint is one line", complaint.message());
        if (complaint.place().line < line && complaint.place().line != 0)
            broken("complaints come in file order", complaint.message());
        line = complaint.place().line;
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto model = parse({reinterpret_cast<const char*>(data), size}, "fuzz.toml");
    if (!model) {
        check_complaints(model.error());
        return 0;
    }
    auto text = print(*model);
    auto again = parse(text, "fuzz.toml");
    if (!again)
        broken("what was printed is accepted", again.error().front().message() + "\n" + text);
    if (!(*again == *model))
        broken("what was printed is the same model", text + "----\n" + print(*again));
    if (print_json(*model).empty())
        broken("JSON is printed", text);
    return 0;
}

// Any bytes as a vm.conf(5) that also includes itself: import neither crashes nor hangs; what it
// accepts is a file that our parser accepts; what it refuses has complaints of one line each.
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

void check_lines(const std::vector<Error>& errors) {
    for (const Error& error : errors)
        if (error.message().find('\n') != std::string::npos)
            broken("an error is one line", error.message());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string text(reinterpret_cast<const char*>(data), size);
    ImportOptions options;
    options.macros = {{"given", "memory 1G"}};
    options.read = [&](const std::string& path) -> Result<std::string> {
        if (path != "vm.conf")
            return fail(ErrorKind::not_found, "no such file");
        return text;
    };
    auto imported = import_vmconf("vm.conf", options);
    if (!imported) {
        if (imported.error().empty())
            broken("a refusal has complaints", text);
        check_lines(imported.error());
        return 0;
    }
    check_lines(imported->warnings);
    if (auto model = parse(imported->toml, "import.toml"); !model)
        broken("what was imported is accepted", model.error().front().message() + imported->toml);
    return 0;
}

// Whatever the values are, a text keeps its lines, and each variable its place in them: what
// comes out is refused, or has the lines of the text, those left out apart, with what stands
// between the variables unchanged and nothing in a value's place that would end it.

#include <algorithm>
#include <cstdlib>

#include "install/install.h"
#include "install/texts.h"

using namespace vmhost;
using namespace vmhost::install;

namespace {

std::size_t lines_of(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

void must(bool good) {
    if (!good)
        std::abort();
}

// The same values in length of lines, harmless: what the structure is measured by.
Values harmless(const Values& values) {
    Values out;
    for (const auto& [name, value] : values)
        out[name] = value.empty() ? "" : "x";
    return out;
}

// Quotes that are not escaped: YAML's must be as many as without the value.
std::size_t quotes_of(std::string_view text) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\')
            ++i;
        else if (text[i] == '"')
            ++count;
    }
    return count;
}

void check(std::string_view text, const Values& values, Syntax syntax) {
    auto plain = fill(text, "text", harmless(values), syntax);
    auto out = fill(text, "text", values, syntax);
    if (!out || !plain)
        return;
    must(lines_of(*out) == lines_of(*plain));
    must(out->find('\0') == std::string::npos && out->find('\r') == std::string::npos);
    if (syntax == Syntax::words) {
        for (char c : std::string_view(";|&`()<>'\"\\#*{}\t"))
            must(std::ranges::count(*out, c) == std::ranges::count(*plain, c));
    }
    if (syntax == Syntax::yaml) {
        must(quotes_of(*out) == quotes_of(*plain));
        for (std::string_view end : {"\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9"})
            must(out->find(end) == std::string::npos || text.find(end) != std::string_view::npos);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // "value\0value\0…": for the variables in order; the last is a text of the fuzzer's own.
    auto rest = as_text({data, size});
    auto next = [&] {
        const auto end = std::min(rest.find('\0'), rest.size());
        const auto value = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        return std::string(value);
    };
    Values values;
    for (const char* name : {"user", "sshkey", "hostname", "fqdn", "domain", "timezone",
                             "password_hash", "root_password_hash", "instance_id", "host_key"})
        values[name] = next();
    check(meta_data_text, values, Syntax::yaml);
    check(user_data_text, values, Syntax::yaml);
    check(preseed_text, values, Syntax::words);
    check(kickstart_text, values, Syntax::words);
    const auto own = next();
    for (auto syntax : {Syntax::lines, Syntax::words, Syntax::yaml})
        (void)fill(own, "own", values, syntax);
    return 0;
}

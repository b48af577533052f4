// Paths and queries for answer files, from the right and from a wrong address:
// a foreign file must never come out.

#include <cstdlib>

#include "http/answer.h"
#include "http/parser.h"

using namespace vmhost;
using namespace vmhost::http;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto text = as_text({data, size});
    auto mark = text.find('?');
    auto query = mark == std::string_view::npos ? std::string_view() : text.substr(mark + 1);
    auto decoded = decode_path(text.substr(0, mark));
    auto path = canonical_path(decoded.value_or("/"));

    Answers answers;
    answers.configure({{"vm1",
                        {1},
                        Mac{{2, 0, 0, 0, 0, 1}},
                        "one.example.org",
                        {{"install.conf", true}, {"site78-one.tgz"}}},
                       {"vm2", {2}, Mac{{2, 0, 0, 0, 0, 2}}, "two", {{"upgrade.conf", true}}}});
    for (std::uint32_t peer = 0; peer < 4; ++peer) {
        auto lookup = answers.find(path, query, Ipv4{peer});
        if (lookup.answer && (lookup.answer->address.value != peer || peer == 0 || peer == 3))
            std::abort();
        if (lookup.answer && !path.ends_with(lookup.file->name))
            std::abort();
        if (!lookup.answer && lookup.refusal == AnswerOutcome::served)
            std::abort();
        auto sealed = answers;
        sealed.seal("vm1");
        sealed.seal("vm2");
        if (const auto* file = sealed.find(path, query, Ipv4{peer}).file; file && file->once)
            std::abort();
        if (lookup.set_path && (lookup.set_path->version.find('/') != std::string::npos ||
                                lookup.set_path->arch.find('.') != std::string::npos))
            std::abort();
    }
    return 0;
}

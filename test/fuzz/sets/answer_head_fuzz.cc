// What a mirror answers: a part that is taken is within its file, and where we are sent makes a
// request of one line.

#include <cstdlib>

#include "sets/download.h"

using namespace vmhost;
using namespace vmhost::sets;

namespace {

void must(bool condition) {
    if (!condition)
        std::abort();
}

void check(const Result<Url>& url) {
    if (!url)
        return;
    for (char c : url->text())
        must(c > 0x20 && c < 0x7f);
    must(url->path.starts_with('/') && url->port != 0 && !url->host.empty());
    must(parse_url(url->text()).value().text() == url->text());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto text = as_text({data, size});
    check(parse_url(text));
    check(follow({"a.example", 80, "/x/y"}, text));
    auto head = parse_answer_head(text);
    if (!head)
        return 0;
    check(follow({"a.example", 80, "/x/y"}, head->location));
    if (head->status == 200 || head->status == 206)
        must(head->body.offset <= head->body.size &&
             head->length <= head->body.size - head->body.offset);
    return 0;
}

// Chunked bodies from anybody: where one ends, or that it is refused, must not depend on the
// pieces in which it comes, and what is not used of a piece is less than a line may have.

#include <cstdlib>

#include "http/body.h"
#include "http/message.h"

using namespace vmhost;
using namespace vmhost::http;

namespace {

void must(bool condition) {
    if (!condition)
        std::abort();
}

struct End {
    std::size_t used_bytes = 0;
    bool whole = false;
    int status = 0;
    bool operator==(const End&) const = default;
};

End read(std::string_view text, std::size_t piece_bytes) {
    Head head;
    head.has_body = head.chunked = true;
    BodyReader reader(head);
    End end;
    std::string kept;
    for (std::size_t at = 0; at < text.size() && !end.whole; at += piece_bytes) {
        kept += text.substr(at, piece_bytes);
        auto taken = reader.take(kept);
        must(taken.used_bytes <= kept.size() && !(taken.whole && taken.refusal));
        kept.erase(0, taken.used_bytes);
        end.used_bytes += taken.used_bytes;
        end.whole = taken.whole;
        if (taken.refusal) {
            must(reason_of(taken.refusal->status) != "Unknown");
            return {0, false, taken.refusal->status};
        }
        must(taken.whole || kept.size() < limits::max_http_chunk_line_bytes);
    }
    return end;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto text = as_text({data, size});
    if (text.empty())
        return 0;
    auto at_once = read(text, size);
    must(at_once == read(text, 1) && at_once == read(text, 7));
    if (at_once.whole) // and what stands behind it is not looked at
        must(at_once == read(text.substr(0, at_once.used_bytes), size));
    return 0;
}

// Request bodies (RFC 9112 §§6–7), read to be thrown away (http/ only).
//
// Nothing here is asked with a body, but a client may send one, and the next request of its
// connection begins where that ends: so its end is found with the strictness of a head, and what
// two readers could read in two ways is refused.
#pragma once

#include "http/parser.h"

namespace vmhost::http {

class BodyReader {
public:
    explicit BodyReader(const Head& head);

    struct Taken {
        std::size_t used_bytes = 0; // of the buffer; the rest is wanted again, with more behind it
        bool whole = false;         // the body ends with them
        std::optional<Refusal> refusal; // or it has no end that is certain
    };
    // Uses all of the buffer but for an unfinished line of less than
    // limits::max_http_chunk_line_bytes.
    Taken take(std::string_view buffer);

private:
    enum class Part { content, content_end, size_line, trailers };
    std::optional<Refusal> take_line(std::string_view line);

    bool chunked_;
    Part part_;
    std::uint64_t left_bytes_;      // of the content, or of the chunk
    std::uint64_t total_bytes_ = 0; // of the chunks so far
    std::size_t trailer_bytes_ = 0;
    bool whole_ = false;
};

} // namespace vmhost::http

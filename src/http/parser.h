// Request heads (RFC 9112 §§2–3, 5–6): from bytes to a checked structure.
//
// A head is taken only when it is whole and every byte of it is where the grammar
// wants it: two readers that disagree about a request are how requests are
// smuggled, so whatever could be read in two ways is refused, and after a refusal
// the connection is closed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "http/message.h"

namespace vmhost::http {

struct Head {
    std::string method; // as sent: one of the registered methods
    std::string path;   // decoded once, canonical
    std::string query;  // raw, without the '?'
    std::string target; // both, as sent
    std::string host;   // lower-case, without port; empty: none was named
    std::optional<std::uint16_t> host_port;
    bool keep_alive = false;
    bool has_body = false; // a length above zero, or chunked
    bool chunked = false;
    std::uint64_t body_bytes = 0;  // 0 when chunked
    bool expects_continue = false; // the body may wait for our word
    bool http_1_0 = false;
    std::string referer, user_agent; // the first of each
    Conditions conditions;
};

struct Refusal {
    int status = 400;
    std::string reason; // for the log, our own words only
};

struct ParsedHead {
    std::optional<Head> head;       // complete
    std::optional<Refusal> refusal; // or never to be completed; neither: more bytes are needed
    std::size_t used_bytes = 0;     // of the buffer, by the head
};

// Looks at the start of what a client sent so far. Asks for more only while the
// head is below its limits, so the buffer needs no more than
// limits::max_http_head_bytes.
ParsedHead parse_head(std::string_view buffer);

// Percent-decodes once. Nothing for a bad escape or a control character.
std::optional<std::string> decode_path(std::string_view raw);
// Collapses "//", "/./" and "/../" without leaving the root; the path begins with '/'.
std::string canonical_path(std::string_view decoded);

} // namespace vmhost::http

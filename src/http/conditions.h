// What of a file a client is sent that has something of it already (RFC 9110 §13, §14). Pure.
//
// A condition in a form that we do not know is as if it had not been sent: the client gets the
// whole file, which is never wrong.
#pragma once

#include "http/message.h"

namespace vmhost::http {

// How a client tells one state of a file from another.
struct Validators {
    std::string entity_tag;    // strong, with its quotes
    std::int64_t modified = 0; // seconds since 1970
    std::string date;          // the same, as in a field
};
Validators validators_of(std::string entity_tag, std::int64_t modified_s);

struct Selected {
    int status = 200;         // 200, 206, 304, 412 or 416
    std::uint64_t offset = 0; // bytes
    std::uint64_t length = 0; // bytes; 0 when status has no part of the file
};

// is_get: ranges are for GET alone.
Selected select(const Conditions& conditions, const Validators& file, std::uint64_t size_bytes,
                bool is_get, std::int64_t now_unix_seconds);

// The answer that says so: without its part of the file, which is there when the status is 200 or
// 206, and without the file's type.
Response answer_of(const Selected& selected, const Validators& file, std::uint64_t size_bytes);

} // namespace vmhost::http

// A file by HTTP from a mirror (sets/ only).
//
// One request per connection, in the calling thread: a fetch has one thing to do, and waits for it
// with poll(2). A body must say its length, as those of files do: so one that was cut off is told
// from one that ended.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"

namespace vmhost::sets {

struct Url {
    std::string host; // a name, "192.0.2.1" or "2001:db8::1"
    std::uint16_t port = 80;
    std::string path; // begins with '/'; with its query, without a fragment
    std::string text() const;
};

// invalid when it is none; unsupported when it is not http: there is no TLS here, and none is
// needed, as what comes is verified.
Result<Url> parse_url(std::string_view text);
// What a Location field means (RFC 9110 §10.2.2).
Result<Url> follow(const Url& from, std::string_view location);

struct Patience {
    std::chrono::milliseconds connect{limits::fetch_connect_timeout_ms};
    // For each limits::min_fetched_bytes, and for the head of an answer.
    std::chrono::milliseconds stall{limits::fetch_stall_timeout_ms};
};

// What an answer says of its body.
struct BodyInfo {
    std::uint64_t offset = 0; // of its first byte in the file
    std::uint64_t size = 0;   // of the whole file
    std::string validator;    // for If-Range, if it has one that is strong; else empty
};

struct AnswerHead {
    int status = 0;
    std::string location;
    BodyInfo body;
    std::uint64_t length = 0; // of this body
};
// The head of an answer, all its lines with their ends, without the empty one. corrupt when it
// cannot be told where its body ends, or, of a part, where it begins.
Result<AnswerHead> parse_answer_head(std::string_view text);

struct Wanted {
    std::uint64_t offset = 0;    // where to go on
    std::string validator;       // of what is there already; empty: begin anew
    std::uint64_t max_bytes = 0; // of the whole file
};
struct Receiver {
    std::function<Result<void>(const BodyInfo&)> begin; // at another offset than asked for, perhaps
    std::function<Result<void>(Bytes)> take;
};

// not_found when the mirror has no such file, limit when it is larger than wanted, io for what may
// work the next time, corrupt and unsupported for an answer that is none of ours.
Result<void> download(Url url, const Wanted& wanted, const Patience& patience,
                      const Receiver& receiver);

} // namespace vmhost::sets

// The response-file endpoint for the OpenBSD installer: which file belongs to
// whom. Pure: paths and addresses in, a pointer to the answer out.
//
// An answer file holds passwords. A VM gets the file that belongs to the address
// it asks from, and nothing else exists for it: a file of another VM, asked for by
// its Ethernet address or by its name, is not found, like one that is not there.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/message.h"

namespace vmhost::http {

enum class AnswerMode : std::uint8_t { install, upgrade };

// One interface of one VM that is being installed or upgraded.
struct Answer {
    std::string vm;
    Ipv4 address;
    Mac lladdr;
    std::string host_name; // short or with its domain
    std::string content;
    AnswerMode mode = AnswerMode::install;
};

// What the installer says about itself: "?path=7.8/amd64".
struct SetPath {
    std::string version; // "7.8" or "snapshots"
    std::string arch;
    bool operator==(const SetPath&) const = default;
};

struct Lookup {
    bool is_answer_name = false;    // the path has the form of an answer file
    const Answer* answer = nullptr; // valid until the next configure()
    std::optional<SetPath> set_path;
};

class Answers {
public:
    void configure(std::vector<Answer> answers) { answers_ = std::move(answers); }
    // path: decoded and canonical; query: raw.
    Lookup find(std::string_view path, std::string_view query, IpAddress peer) const;
    bool empty() const { return answers_.empty(); }

private:
    std::vector<Answer> answers_;
};

// Nothing when there is none or when it is not of the form VER/ARCH.
std::optional<SetPath> parse_set_path(std::string_view query);

// 200 with the file, never to be stored, or 404.
Response answer_response(const Lookup& lookup);

} // namespace vmhost::http

// Requests for files of installations, from the question to the answer.
//
//   asked ── may not have it ──────────────────────────────▶ refused (404)
//     │ claim
//     ▼
//   claimed, the request is held ── content; sealed durably ──▶ served (200)
//                                └─ sealed before, late, failed ▶ refused (404, 503)
//
// Who owns the seals decides on claims; there is at most one of a VM at a time, so that a guest
// cannot make it write more than once. A claim has a time: a decision that would come too late for
// its client is not to seal anything.
//
// A library without a process; thread: that of the server.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "http/answer.h"

namespace vmhost::http {

class AnswerDesk {
public:
    struct Claim {
        std::uint64_t number = 0; // never used twice
        std::string vm;
        Ipv4 address;
        std::string file;
        std::uint64_t until_ms = 0; // as now_ms
    };
    struct Doors {
        std::function<void(const Claim&)> claim; // not answered by decided() from within
        std::function<void(std::uint64_t connection_id, const Response&)> answer;
        std::function<std::uint64_t()> now_ms; // monotonic
    };
    explicit AnswerDesk(Doors doors) : doors_(std::move(doors)) {}

    void configure(std::vector<Answer> answers) { answers_.configure(std::move(answers)); }
    // Whether a request is for a file of an installation, of whomever.
    bool is_for_answer(const Request& request) const;
    // One that is installed from here, or was.
    bool is_guest(IpAddress peer) const { return answers_.is_guest(peer); }
    // Nothing: Doors::answer() answers it.
    std::optional<Response> ask(const Request& request);
    // On a claim, once; others are ignored.
    void decided(std::uint64_t number, AnswerOutcome outcome, std::string content);

    const std::array<std::uint64_t, answer_outcomes>& counted() const { return counted_; }

private:
    struct Waiting {
        std::string vm;
        std::uint64_t connection_id = 0;
        IpAddress peer;
        std::string path;
        AnswerFile file;
    };
    Response close(const Waiting& request, AnswerOutcome outcome, std::string content = {});
    bool may_log();

    Doors doors_;
    Answers answers_;
    std::map<std::uint64_t, Waiting> waiting_; // by number of the claim
    std::uint64_t next_number_ = 1;
    std::array<std::uint64_t, answer_outcomes> counted_{};
    std::uint64_t log_second_ = 0;
    unsigned log_lines_ = 0;
};

} // namespace vmhost::http

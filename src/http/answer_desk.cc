#include "http/answer_desk.h"

#include <algorithm>

namespace vmhost::http {

namespace {

// Half of what the client is let wait: the other half is for the decision to get here.
constexpr std::uint64_t claim_ms = limits::http_answer_timeout_ms / 2;

} // namespace

bool AnswerDesk::is_for_answer(const Request& request) const {
    return answers_.find(request.path, request.query, request.peer).is_answer_name;
}

std::optional<Response> AnswerDesk::ask(const Request& request) {
    // Its length alone would tell of a file, and seal nothing.
    if (request.method != "GET") {
        auto response = error_response(405);
        response.headers.emplace_back("Allow", "GET");
        return response;
    }
    auto lookup = answers_.find(request.path, request.query, request.peer);
    Waiting waiting{lookup.answer != nullptr ? lookup.answer->vm : std::string(),
                    request.connection_id, request.peer, request.path,
                    lookup.file != nullptr ? *lookup.file : AnswerFile{}};
    if (lookup.answer == nullptr)
        return close(waiting, lookup.refusal);
    if (std::ranges::any_of(waiting_, [&](const auto& one) { return one.second.vm == waiting.vm; }))
        return close(waiting, AnswerOutcome::busy);
    const auto number = next_number_++;
    Claim claim{number, waiting.vm, lookup.answer->address, waiting.file.name,
                doors_.now_ms() + claim_ms};
    waiting_.emplace(number, std::move(waiting));
    doors_.claim(claim);
    return std::nullopt;
}

void AnswerDesk::decided(std::uint64_t number, AnswerOutcome outcome, std::string content) {
    auto found = waiting_.find(number);
    if (found == waiting_.end())
        return;
    auto request = std::move(found->second);
    waiting_.erase(found);
    if (request.file.once && (outcome == AnswerOutcome::served || outcome == AnswerOutcome::sealed))
        answers_.seal(request.vm);
    doors_.answer(request.connection_id, close(request, outcome, std::move(content)));
}

Response AnswerDesk::close(const Waiting& request, AnswerOutcome outcome, std::string content) {
    ++counted_.at(static_cast<std::size_t>(outcome));
    if (may_log()) {
        auto whose = request.vm.empty() ? std::string() : fmt::format(", of vm {}", request.vm);
        if (outcome == AnswerOutcome::served)
            log::notice("http", "{}: answer file {}{}: served{}", request.peer.text(),
                        printable(request.path, 200), whose,
                        request.file.once ? ", and sealed" : "");
        else
            log::notice("http", "{}: answer file {}{}: refused: {}", request.peer.text(),
                        printable(request.path, 200), whose, name_of(outcome));
    }
    return answer_response(outcome, request.vm, request.file.name, std::move(content));
}

// Anybody can ask as often as it likes.
bool AnswerDesk::may_log() {
    const auto second = doors_.now_ms() / 1000;
    if (second != std::exchange(log_second_, second)) {
        if (log_lines_ > limits::max_answer_log_lines_per_second)
            log::notice("http", "{} further requests for answer files within a second",
                        log_lines_ - limits::max_answer_log_lines_per_second);
        log_lines_ = 0;
    }
    return ++log_lines_ <= limits::max_answer_log_lines_per_second;
}

} // namespace vmhost::http

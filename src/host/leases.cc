#include "host/leases.h"

#include <algorithm>

namespace vmhost::host {

namespace {

constexpr std::uint64_t patience_ms = 5000;

void refuse(auto& question, ErrorKind kind, std::string_view why) {
    if (question.listed)
        question.listed(fail(kind, "{}", why));
    else
        question.done(fail(kind, "{}", why));
}

} // namespace

LeaseDesk::LeaseDesk(Loop& loop, Send send)
    : loop_(loop), send_(std::move(send)), timer_(loop, [this] { give_up(); }) {}

void LeaseDesk::list(Listed listed) {
    ask({.listed = std::move(listed), .done = nullptr}, ipc::DhcpLeasesWanted{});
}

void LeaseDesk::release(Ipv4 address, Done done) {
    ask({.listed = nullptr, .done = std::move(done)}, ipc::DhcpForget{0, address});
}

template <class Message>
void LeaseDesk::ask(Question question, Message message) {
    message.question = question.number = ++last_;
    question.until_ms = loop_.now_ms() + patience_ms;
    if (!send_(ipc::encode(std::move(message))))
        return refuse(question, ErrorKind::not_found, "no switch has DHCP");
    open_.push_back(std::move(question));
    wait();
}

void LeaseDesk::wait() {
    if (open_.empty()) {
        timer_.stop();
    } else {
        auto until_ms = std::max(open_.front().until_ms, loop_.now_ms());
        timer_.start(std::chrono::milliseconds(until_ms - loop_.now_ms()));
    }
}

LeaseDesk::Place LeaseDesk::find(std::uint32_t number, bool listing) {
    return std::ranges::find_if(open_, [&](const Question& one) {
        return one.number == number && (one.listed != nullptr) == listing;
    });
}

// Before it is answered: whoever hears the answer may ask again.
LeaseDesk::Question LeaseDesk::take(Place place) {
    auto question = std::move(*place);
    open_.erase(place);
    wait();
    return question;
}

// The process was started anew meanwhile, or does not answer.
void LeaseDesk::give_up() {
    while (!open_.empty() && open_.front().until_ms <= loop_.now_ms()) {
        auto late = take(open_.begin());
        refuse(late, ErrorKind::busy, "the DHCP service does not answer: try again");
    }
    wait();
}

bool LeaseDesk::took(ipc::Frame& frame) {
    if (frame.type == ipc::DhcpLeases::type) {
        if (auto part = ipc::decode<ipc::DhcpLeases>(std::move(frame)))
            took_leases(*std::move(part));
    } else if (frame.type == ipc::DhcpForgotten::type) {
        if (auto answer = ipc::decode<ipc::DhcpForgotten>(std::move(frame)))
            took_forgotten(*answer);
    } else {
        return false;
    }
    return true;
}

void LeaseDesk::took_leases(ipc::DhcpLeases part) {
    auto place = find(part.question, true);
    // The process may say what it likes, but not more than there can be.
    if (place == open_.end() || place->rows.size() > limits::max_listed_leases)
        return;
    std::ranges::move(part.rows, std::back_inserter(place->rows));
    if (part.last) {
        auto question = take(place);
        question.listed(std::move(question.rows));
    }
}

void LeaseDesk::took_forgotten(ipc::DhcpForgotten answer) {
    auto place = find(answer.question, false);
    if (place == open_.end())
        return;
    auto question = take(place);
    question.done(answer.found ? Result<void>()
                               : fail(ErrorKind::not_found, "nobody has that address by DHCP"));
}

} // namespace vmhost::host

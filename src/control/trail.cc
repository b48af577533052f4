// A request that changes something has its row before it is carried out, so that one which ends
// the daemon is seen as well. A refused one is logged as a warning and counted, and has a row, as
// long as its user does not ask faster than limits::refusal_log_burst and …_refill_ms let: a user
// who is let in to the socket and nothing else must fill neither the journal nor the disk.
#include "control/trail.h"

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

namespace vmhost::control {

using nlohmann::json;

namespace {

std::int64_t now_ms() {
    using namespace std::chrono;
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

// "ok", "denied", or "KIND: TEXT".
std::string outcome_of(const std::string& reply) {
    auto object = json::parse(reply, nullptr, false);
    if (!object.is_object() || object.value("ok", false))
        return "ok";
    auto kind = object.value("kind", std::string("internal"));
    return kind == "denied" ? kind : fmt::format("{}: {}", kind, object.value("error", ""));
}

} // namespace

store::AuditRow Trail::row_of(const Caller& caller, const Asked& asked) {
    store::AuditRow row;
    row.time_ms = now_ms();
    row.uid = caller.uid;
    row.gid = caller.gid;
    row.user = records_ ? records_->user_name(caller.uid) : std::to_string(caller.uid);
    row.verb = asked.verb;
    row.vm = asked.vm;
    row.arguments = asked.arguments;
    return row;
}

std::function<void(Reply)> Trail::watch(const Caller& caller, Asked asked,
                                        std::function<void(Reply)> reply) {
    auto row = row_of(caller, asked);
    // Who has been refused too often already is not written down before the answer is known.
    bool early = asked.kept && records_ && allowance_of(caller.uid, row.time_ms).left >= 1;
    auto number = early ? records_->audit_began(row) : 0;
    return [this, row, number, kept = asked.kept, reply = std::move(reply)](Reply answer) {
        if (answer.last)
            answered(row, number, kept, answer.json);
        reply(std::move(answer));
    };
}

void Trail::answered(const store::AuditRow& row, std::int64_t number, bool kept,
                     const std::string& reply) {
    // Replies of what is not kept may be long; a refusal is short, and begins with its error.
    if (!kept && !reply.starts_with("{\"error\""))
        return;
    auto outcome = outcome_of(reply);
    if (outcome == "denied")
        return refused(row, number);
    if (!kept || records_ == nullptr)
        return;
    if (number == 0)
        number = records_->audit_began(row);
    if (number != 0)
        records_->audit_ended(number, outcome);
}

Trail::Allowance& Trail::allowance_of(std::uint32_t uid, std::int64_t now) {
    auto [found, fresh] = allowances_.try_emplace(uid);
    auto& one = found->second;
    if (!fresh)
        one.left += static_cast<double>(std::max<std::int64_t>(now - one.filled_ms, 0)) /
                    limits::refusal_log_refill_ms;
    one.left = std::min<double>(one.left, limits::refusal_log_burst);
    one.filled_ms = now;
    return one;
}

void Trail::refused(const store::AuditRow& row, std::int64_t number) {
    ++refusals_.total;
    ++refusals_.by_verb[row.verb];
    if (refusals_.by_uid.contains(row.uid) || refusals_.by_uid.size() < limits::max_refused_users)
        ++refusals_.by_uid[row.uid];
    auto& allowance = allowance_of(row.uid, now_ms());
    if (allowance.left < 1 && number == 0) {
        ++allowance.unlogged;
        ++refusals_.unlogged;
        return;
    }
    allowance.left -= 1;
    auto before = std::exchange(allowance.unlogged, 0);
    auto of_vm = row.vm.empty() ? std::string() : " vm " + printable(row.vm, 64);
    log::warning("control", "refused: uid {} ({}) may not {}{}{}", row.uid, printable(row.user, 64),
                 row.verb, of_vm,
                 before == 0 ? std::string()
                             : fmt::format("; {} refusals before it were not logged", before));
    if (records_ == nullptr)
        return;
    if (number == 0)
        number = records_->audit_began(row);
    if (number != 0)
        records_->audit_ended(number, "denied");
}

} // namespace vmhost::control

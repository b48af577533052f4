// The verbs about what is kept: explain, forget, refusals. And what Verbs has of a Trail.
//
// Loop thread of the parent.
#include <nlohmann/json.hpp>

#include "control/replies.h"
#include "control/trail.h"

namespace vmhost::control {

using nlohmann::json;

Verbs::Verbs(Operations& operations) : operations_(operations), trail_(std::make_unique<Trail>()) {}
Verbs::~Verbs() = default;

void Verbs::use(Records& records) {
    records_ = &records;
    trail_->use(&records);
}

const Refusals& Verbs::refusals() const {
    return trail_->refusals();
}

namespace {

json refusals_of(const Refusals& refusals) {
    auto by_uid = json::object();
    for (const auto& [uid, count] : refusals.by_uid)
        by_uid[std::to_string(uid)] = count;
    return {{"total", refusals.total},
            {"unlogged", refusals.unlogged},
            {"by_verb", refusals.by_verb},
            {"by_uid", by_uid}};
}

} // namespace

bool Verbs::handle_records(const Caller& caller, const std::string& verb, const std::string& vm,
                           const std::function<void(Reply)>& reply) {
    if (verb != "explain" && verb != "forget" && verb != "refusals")
        return false;
    auto refuse = [&](const Error& error) {
        reply({text_of({{"ok", false},
                        {"kind", std::string(name_of(error.kind()))},
                        {"error", error.message()}}),
               true,
               {}});
        return true;
    };
    if (verb != "explain" && !operations_.may_change_host(caller))
        return refuse(Error(ErrorKind::denied, verb + " is for root"));
    if (records_ == nullptr)
        return refuse(Error(ErrorKind::unsupported, "nothing is kept"));
    if (verb == "refusals") {
        reply({text_of({{"ok", true}, {"refusals", refusals_of(trail_->refusals())}}), true, {}});
        return true;
    }
    if (verb == "forget") {
        if (auto legal = check_name(vm); !legal)
            return refuse(std::move(legal).error());
        if (auto forgotten = records_->forget(vm); !forgotten)
            return refuse(forgotten.error());
        reply({text_of({{"ok", true}}), true, {}});
        return true;
    }
    auto row = operations_.find(vm);
    if (!row)
        return refuse(row.error());
    if (!operations_.may_control(caller, row->name))
        return refuse(Error(ErrorKind::denied, fmt::format("vm {}: {} is for its owner {} and root",
                                                           row->name, verb, row->owner)));
    auto facts = records_->explain(row->name);
    if (!facts)
        return refuse(facts.error());
    reply({text_of({{"ok", true}, {"id", row->id}, {"facts", json::parse(*facts, nullptr, false)}}),
           true,
           {}});
    return true;
}

} // namespace vmhost::control

// Who asked for what and what came of it: counted, logged, and kept for vmhost audit.
//
// Loop thread of the parent.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "control/control.h"

namespace vmhost::control {

// What a request asks for, as the trail has it.
struct Asked {
    std::string verb, vm, arguments;
    bool kept = false; // it changes something: a row of its own; others only when refused
};

class Trail {
public:
    void use(Records* records) { records_ = records; }
    // The same reply, seen on its way: its last one ends the request.
    std::function<void(Reply)> watch(const Caller& caller, Asked asked,
                                     std::function<void(Reply)> reply);
    const Refusals& refusals() const { return refusals_; }

private:
    // Refusals that a user may still have written down; it fills up with time.
    struct Allowance {
        double left = limits::refusal_log_burst;
        std::int64_t filled_ms = 0;
        std::uint64_t unlogged = 0; // since the last one that was
    };
    store::AuditRow row_of(const Caller& caller, const Asked& asked);
    void answered(const store::AuditRow& row, std::int64_t number, bool kept,
                  const std::string& json);
    void refused(const store::AuditRow& row, std::int64_t number);
    Allowance& allowance_of(std::uint32_t uid, std::int64_t now_ms);

    Records* records_ = nullptr;
    Refusals refusals_;
    std::map<std::uint32_t, Allowance> allowances_;
};

} // namespace vmhost::control

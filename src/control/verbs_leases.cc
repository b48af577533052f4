// The verbs about DHCP leases: leases, and release of one by hand.
//
// Loop thread of the parent.
#include <map>

#include "control/control.h"
#include "control/replies.h"

namespace vmhost::control {

using nlohmann::json;

namespace {

// A VM's owner sees that VM's; root sees all.
json rows_of(const std::vector<LeaseRow>& leases,
             const std::function<bool(const LeaseRow&)>& seen) {
    auto rows = json::array();
    for (const auto& one : leases) {
        if (!seen(one))
            continue;
        json row{{"switch", one.network},      {"address", one.address},
                 {"lladdr", one.lladdr},       {"vm", one.vm},
                 {"state", one.state},         {"since_s", one.since_s},
                 {"seen_s", one.seen_s},       {"host_name", one.host_name},
                 {"client_id", one.client_id}, {"messages", one.messages},
                 {"dropped", one.dropped}};
        row["until_s"] = one.until_s ? json(*one.until_s) : json();
        rows.push_back(std::move(row));
    }
    return rows;
}

} // namespace

bool Verbs::handle_leases(const Caller& caller, const std::string& verb, const std::string& what,
                          const std::function<void(Reply)>& reply) {
    if (verb == "leases") {
        operations_.leases([this, caller, reply](Result<std::vector<LeaseRow>> leases) {
            if (!leases)
                return reply({refusal(leases.error()), true, {}});
            const bool root = operations_.may_change_host(caller);
            std::map<std::string, bool> mine;
            auto seen = [&](const LeaseRow& row) {
                if (root || row.vm.empty())
                    return root;
                auto [known, fresh] = mine.try_emplace(row.vm);
                if (fresh)
                    known->second = operations_.may_control(caller, row.vm);
                return known->second;
            };
            // In parts: a frame has its limit, and a range may have many.
            for (std::size_t at = 0; at < leases->size(); at += limits::dhcp_leases_part) {
                auto end = std::min(leases->size(), at + limits::dhcp_leases_part);
                std::vector<LeaseRow> part(leases->begin() + static_cast<std::ptrdiff_t>(at),
                                           leases->begin() + static_cast<std::ptrdiff_t>(end));
                reply(
                    {text_of({{"ok", true}, {"event", "leases"}, {"leases", rows_of(part, seen)}}),
                     false,
                     {}});
            }
            reply({text_of({{"ok", true}, {"event", "end"}}), true, {}});
        });
        return true;
    }
    if (verb != "release")
        return false;
    auto done = [reply](Result<void> result) {
        reply({result ? text_of({{"ok", true}}) : refusal(result.error()), true, {}});
    };
    auto address = parse_ipv4(what);
    if (!operations_.may_change_host(caller))
        done(fail(ErrorKind::denied, "release is for root"));
    else if (!address)
        done(std::unexpected(std::move(address).error()));
    else
        operations_.release_lease(*address, done);
    return true;
}

} // namespace vmhost::control

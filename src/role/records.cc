#include "role/records.h"

#include <nlohmann/json.hpp>

namespace vmhost::role {

Result<std::vector<control::LeaseRow>> lease_rows(Result<std::vector<ipc::DhcpLeaseRow>> leases) {
    std::vector<control::LeaseRow> out;
    for (auto& one : TRY(std::move(leases))) {
        control::LeaseRow row;
        row.network = std::move(one.network);
        row.vm = std::move(one.vm);
        row.address = one.address.text();
        row.lladdr = one.mac.text();
        row.state = store::name_of(static_cast<store::LeaseState>(one.state));
        row.since_s = one.since_s;
        row.seen_s = one.seen_s;
        row.until_s = one.until_s;
        row.host_name = printable(one.host_name);
        for (auto byte : as_bytes(one.client_id))
            row.client_id += fmt::format("{}{:02x}", row.client_id.empty() ? "" : ":", byte);
        row.messages = one.messages;
        row.dropped = one.dropped;
        out.push_back(std::move(row));
    }
    return out;
}

// A trail that cannot be written is told when it begins and when it ends; the verbs go on: a full
// disk must not keep anybody from stopping a VM.
template <class Value>
bool HostRecords::worked(const Result<Value>& result) {
    if (result) {
        if (std::exchange(failing_, false))
            log::notice("control", "the audit trail is kept again");
        return true;
    }
    if (!std::exchange(failing_, true))
        log::error("control", "the audit trail is not kept: {}", result.error().message());
    return false;
}

std::int64_t HostRecords::audit_began(const store::AuditRow& row) {
    auto number = host_.memory().store().audit_began(row);
    return worked(number) ? *number : 0;
}

void HostRecords::audit_ended(std::int64_t number, std::string_view outcome) {
    (void)worked(host_.memory().store().audit_ended(number, outcome));
}

void log_of_reload(const control::Reply& reply) {
    auto object = nlohmann::json::parse(reply.json, nullptr, false);
    if (!object.value("ok", false))
        log::error("host", "reload: {}", object.value("error", ""));
    else if (object.contains("text"))
        log::info("host", "{}", object.value("text", ""));
}

} // namespace vmhost::role

// What the verbs keep, and ask of what is kept, by way of the host's memory.
//
// Loop thread of the parent.
#pragma once

#include "control/control.h"
#include "host/host.h"

namespace vmhost::role {

// As the DHCP process tells them, for people.
Result<std::vector<control::LeaseRow>> lease_rows(Result<std::vector<ipc::DhcpLeaseRow>> leases);

class HostRecords final : public control::Records {
public:
    explicit HostRecords(host::Host& host) : host_(host) {}

    std::string user_name(std::uint32_t uid) override { return host_.users().user_name(uid); }
    std::int64_t audit_began(const store::AuditRow& row) override;
    void audit_ended(std::int64_t number, std::string_view outcome) override;
    Result<std::string> explain(std::string_view vm) override { return host_.explain_vm(vm); }
    Result<void> forget(const std::string& vm) override { return host_.forget(vm); }

private:
    template <class Value>
    bool worked(const Result<Value>& result);
    host::Host& host_;
    bool failing_ = false; // and told so
};

// What a client would be told of an apply that nobody watches.
void log_of_reload(const control::Reply& reply);

} // namespace vmhost::role

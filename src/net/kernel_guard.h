// The guards and the translation of a host in its kernel: a table each, and a transaction for each
// change.
#pragma once

#include <optional>

#include "net/guard.h"
#include "net/nftables.h"

namespace vmhost::net {

// See Links for what its calls do. The socket is opened when it is needed first: a host without
// guards needs no nf_tables.
class KernelGuard {
public:
    Result<void> put(const std::string& table, const std::string& port, const PortGuard& guard);
    Result<void> remove(const std::string& table, const std::string& port);
    Result<std::vector<std::string>> ports(const std::string& table);
    Result<std::vector<GuardCount>> counts(const std::string& table);
    Result<void> translate(const std::string& table, const std::optional<Ipv4Prefix>& locals);

private:
    Result<nft::Socket*> socket();
    std::optional<nft::Socket> socket_;
};

} // namespace vmhost::net

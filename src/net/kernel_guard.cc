#include "net/kernel_guard.h"

#include <algorithm>

#include "net/nat.h"

namespace vmhost::net {

namespace {

nft::Table table_of(const std::string& name) {
    return {nft::Family::netdev, name};
}

} // namespace

Result<nft::Socket*> KernelGuard::socket() {
    if (!socket_)
        socket_ = TRY(nft::Socket::open());
    return &*socket_;
}

Result<void> KernelGuard::put(const std::string& table, const std::string& port,
                              const PortGuard& guard) {
    nft::Batch batch(table_of(table));
    write_guard(batch, port, guard);
    auto* kernel = TRY(socket());
    return kernel->commit(batch);
}

// A device that goes at the same time takes its chain with it (Linux before 6.14): once more then.
Result<void> KernelGuard::remove(const std::string& table, const std::string& port) {
    auto* kernel = TRY(socket());
    Result<void> removed;
    for (int attempt = 0; attempt < 2; ++attempt) {
        auto chains = TRY(kernel->chains(table_of(table)));
        auto counters = TRY(kernel->counters(table_of(table)));
        if (chains.empty() && counters.empty())
            return {};
        nft::Batch batch(table_of(table));
        const bool last = std::ranges::all_of(
            chains, [&](const std::string& chain) { return guard_chain(chain).port == port; });
        if (last)
            batch.remove_table();
        else
            erase_guard(batch, port, chains, counters);
        removed = kernel->commit(batch);
        if (removed || removed.error().kind() != ErrorKind::not_found)
            break;
    }
    return removed;
}

Result<std::vector<std::string>> KernelGuard::ports(const std::string& table) {
    auto* kernel = TRY(socket());
    std::vector<std::string> ports;
    for (const auto& chain : TRY(kernel->chains(table_of(table))))
        ports.emplace_back(guard_chain(chain).port);
    std::ranges::sort(ports);
    ports.erase(std::ranges::unique(ports).begin(), ports.end());
    return ports;
}

Result<std::vector<GuardCount>> KernelGuard::counts(const std::string& table) {
    auto* kernel = TRY(socket());
    std::vector<GuardCount> counts;
    for (const auto& counter : TRY(kernel->counters(table_of(table))))
        if (auto counted = guard_count(counter))
            counts.push_back(*std::move(counted));
    return counts;
}

Result<void> KernelGuard::translate(const std::string& table,
                                    const std::optional<Ipv4Prefix>& locals) {
    const nft::Table own{nft::Family::ipv4, table};
    if (locals)
        TRY(check_forwarding());
    auto* kernel = TRY(socket());
    nft::Batch batch(own);
    if (locals)
        write_nat(batch, *locals);
    else if (TRY(kernel->chains(own)).empty())
        return {};
    else
        erase_nat(batch);
    return kernel->commit(batch);
}

} // namespace vmhost::net

// What the tftp process is given: a descriptor of its directory, and a socket per address.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>

#include "host/services.h"

namespace vmhost::host {

namespace {

// IPv4, UDP and TFTP's own header, RFC 2348.
constexpr unsigned packet_overhead_bytes = 20 + 8 + 4;

// So that no packet is cut on the way to a guest: some ROMs cannot put it together again.
std::uint32_t block_bytes_for(unsigned mtu) {
    return std::min(std::max(mtu, packet_overhead_bytes + 8) - packet_overhead_bytes,
                    limits::max_tftp_block_bytes);
}

} // namespace

bool wants_tftp(const config::Model& model) {
    return !model.tftp.directory.empty();
}

Result<std::vector<ipc::Frame>> describe_tftp(Ground& ground, const config::Model& model) {
    std::vector<ipc::Frame> frames;
    auto place = [&](const char* key) {
        auto found = model.places.find(key);
        return found == model.places.end() ? Place{model.file, 0, 0} : found->second;
    };
    Fd directory(::open(model.tftp.directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory)
        return std::unexpected(
            Error::system(errno, fmt::format("tftp: open directory {}", model.tftp.directory))
                .at(place("tftp.directory")));
    frames.push_back(ipc::encode(ipc::TftpDirectory{std::move(directory)}));
    auto listen = [&](Ipv4 address, const std::string& device, unsigned mtu) -> Result<void> {
        auto socket = ground.open_tftp(address, device);
        if (!socket)
            return std::unexpected(std::move(socket).error().at(place("tftp.listen")));
        frames.push_back(ipc::encode(ipc::TftpListener{std::move(*socket), block_bytes_for(mtu)}));
        return {};
    };
    auto switch_of = [&](Ipv4 address) -> const config::Switch* {
        for (const auto& one : model.switches)
            if (one.enabled && one.ipv4 && one.ipv4->address == address)
                return &one;
        return nullptr;
    };
    for (const auto& address : model.tftp.listen) {
        const auto* one = switch_of(address);
        // A service hears of a routing domain only when it listens in it.
        TRY(listen(address, one && one->rdomain != 0 ? net::rdomain_name(one->rdomain) : "",
                   one ? one->mtu : limits::max_tftp_block_bytes + packet_overhead_bytes));
    }
    // By default it is for those on the switch, and for nobody who is routed to its address.
    if (model.tftp.listen.empty())
        for (const auto& one : model.switches)
            if (one.enabled && one.ipv4 && !one.local)
                TRY(listen(one.ipv4->address, one.interface, one.mtu));
    return frames;
}

} // namespace vmhost::host

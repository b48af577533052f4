// Any message, from each guest and from a stranger, to a server with every kind
// of guest. The first byte says how much is put right before it is handed over,
// so that the fuzzer gets past the checks of identity without guessing addresses.
// Whatever comes back must be a reply that a strict client would take.
#include "reply_check.h"

using namespace vmhost;
using namespace vmhost::dhcp;

namespace {

Network lan(std::uint8_t length) {
    Network network{.name = "lan",
                    .server = {{0x0a000001}, length},
                    .routers = {{0x0a000001}},
                    .domain_name_servers = {{0x09090909}, {0x01010101}},
                    .domain_name = "example.org",
                    .filename = "auto_install"};
    network.guests = {
        {.vm = "a", .mac = {{0xfe, 0xe1, 0xbb, 0xd1, 0, 1}}, .host_name = "puffy"},
        {.vm = "b", .mac = {{0xfe, 0xe1, 0xbb, 0xd1, 0, 2}}, .ipv4 = Ipv4{0x0a000000}},
        {.vm = "c", .mac = {{0xfe, 0xe1, 0xbb, 0xd1, 0, 3}}}};
    if (length == 24) {
        network.guests[0].ipv4 = Ipv4{0x0a00000b};
        network.guests[1].ipv4 = Ipv4{0x0a00000c};
        network.guests[1].filename = std::string(127, 'f');
        network.domain_name_servers.resize(63);
    }
    return network;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const auto repair = data[0];
    std::vector<std::uint8_t> bytes(data + 1, data + size);
    Server server;
    must(server.configure({lan(repair & 8 ? 31 : 24)}).has_value());
    std::uint64_t now_ms = 0;
    for (std::uint8_t sender = 1; sender <= 4; ++sender) {
        const Mac mac{{0xfe, 0xe1, 0xbb, 0xd1, 0, sender}};
        put_right(bytes, repair, mac);
        auto answer = server.handle({.network = "lan",
                                     .ethernet_source = mac,
                                     .source = {0x0a00000b},
                                     .destination = {repair & 4 ? 0xffffffff : 0x0a000001},
                                     .payload = bytes,
                                     .now_ms = now_ms += repair & 16 ? 1 : 1000});
        check(answer);
        must(!answer.reply || (answer.reply->payload.size() <= limits::max_dhcp_packet_bytes &&
                               answer.reply->ethernet_destination == answer.event.mac));
        for (const auto& lease : server.leases(now_ms))
            must(lease.client_host_name.empty() || legal_host_name(lease.client_host_name));
    }
    return 0;
}

// Any message, from each guest and from a stranger, to a server with every kind
// of guest. The first byte says how much is put right before it is handed over,
// so that the fuzzer gets past the checks of identity without guessing addresses.
// Whatever comes back must be a reply that a strict client would take.
#include <algorithm>
#include <cstdlib>

#include "dhcp/dhcp.h"
#include "dhcp/packet.h"

using namespace vmhost;
using namespace vmhost::dhcp;

namespace {

void must(bool good) {
    if (!good)
        std::abort();
}

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

void check(const Answer& answer) {
    (void)text(answer.event);
    must((answer.event.kind == EventKind::dropped) == (answer.event.drop != Drop::none));
    if (!answer.reply)
        return;
    const auto& bytes = answer.reply->payload;
    must(bytes.size() >= 300 && bytes.size() <= limits::max_dhcp_packet_bytes);
    auto message = parse(bytes);
    must(message && message->header.op == 2 && message->header.hlen == 6);
    must(!message->find(option::overload));
    must(answer.reply->ethernet_destination == answer.event.mac);
    auto type = message->number<std::uint8_t>(option::message_type);
    if (type == 2 || type == 5)
        must(message->find(option::subnet_mask) && message->find(option::server_identifier));
    if (message->has_cookie) { // options, END, then nothing but zeros
        std::size_t at = 240;
        while (bytes.at(at) != 255) {
            must(bytes[at] != 0 && bytes.at(at + 1) != 0);
            at += 2 + bytes[at + 1];
        }
        must(std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(at) + 1, bytes.end(),
                         [](auto byte) { return byte == 0; }));
    }
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
        if (repair & 1 && bytes.size() >= 44) { // identity
            bytes[0] = bytes[1] = 1;
            bytes[2] = 6;
            bytes[3] = 0;
            std::fill_n(bytes.begin() + 24, 4, std::uint8_t{0});
            std::copy(mac.octets.begin(), mac.octets.end(), bytes.begin() + 28);
        }
        if (repair & 2 && bytes.size() >= 240) // cookie
            store_be(MutableBytes(bytes).subspan(236), 0x63825363u);
        check(server.handle({.network = "lan",
                             .ethernet_source = mac,
                             .source = {0x0a00000b},
                             .destination = {repair & 4 ? 0xffffffff : 0x0a000001},
                             .payload = bytes,
                             .now_ms = now_ms += repair & 16 ? 1 : 1000}));
        for (const auto& lease : server.leases(now_ms))
            must(lease.client_host_name.empty() || legal_host_name(lease.client_host_name));
    }
    return 0;
}

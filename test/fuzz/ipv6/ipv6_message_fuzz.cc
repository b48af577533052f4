// Any frame, and any DHCPv6 message or router solicitation inside a good frame, to a server with
// every kind of guest and the log at its highest level. The first byte says how much is put right
// before it is handed over. Whatever comes back must be a frame that a strict guest would take.
#include <cstdlib>

#include "ipv6/dhcp6.h"
#include "ipv6/ipv6.h"
#include "ipv6/neighbour.h"

using namespace vmhost;
using namespace vmhost::ipv6;

namespace {

void must(bool good) {
    if (!good)
        std::abort();
}

Mac guest(std::uint8_t number) {
    return {{0xfe, 0xe1, 0xbb, 0xd1, 0, number}};
}

Network lan() {
    Network network{.name = "lan",
                    .own = {{0x2001'0db8'0000'0000, 1}, 64},
                    .mac = {{0xfe, 0xe1, 0xba, 0, 0, 1}},
                    .domain_name_servers = {15, {0x2001'0db8'0000'0000, 53}},
                    .domain_name = "example.org"};
    network.guests = {{"a", guest(1), Ipv6{0x2001'0db8'0000'0000, 13}}, {"b", guest(2), {}}};
    return network;
}

void check(const Answer& answer) {
    (void)text(answer.event);
    must((answer.event.kind == EventKind::dropped) == (answer.event.drop != Drop::none));
    if (answer.frame.empty())
        return;
    must(answer.frame.size() <= 14 + 1280);
    auto packet = parse_frame(answer.frame, Checksum::verify);
    must(packet && packet->ethernet_destination == answer.event.mac);
    auto message = parse_message(packet->payload);
    must(message && message->server &&
         (message->type == MessageType::reply || message->type == MessageType::advertise));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const bool loud = log::set_levels("debug").has_value();
    must(loud);
    if (size == 0)
        return 0;
    const auto repair = data[0];
    Bytes bytes(data + 1, size - 1);
    Server server;
    must(server.configure({lan()}).has_value());
    std::uint64_t now_ms = 0;
    auto handle = [&](const Packet& packet) {
        auto answer = server.handle("lan", packet, now_ms += 1000);
        check(answer);
        log_event(answer.event);
    };
    if (auto packet = parse_frame(bytes, repair & 1 ? Checksum::trusted : Checksum::verify))
        handle(*packet);
    std::vector<std::uint8_t> message(bytes.begin(), bytes.end());
    for (std::uint8_t number = 1; number <= 3; ++number) {
        Packet packet;
        packet.ethernet_source = guest(number);
        packet.source = Ipv6::link_local(guest(number));
        packet.destination = {0xff02'0000'0000'0000, repair & 2 ? 0x10002U : 1U};
        packet.protocol = repair & 4 ? protocol_udp : protocol_icmp;
        packet.source_port = client_port;
        packet.destination_port = server_port;
        if (repair & 8 && !message.empty())
            message[0] = repair & 4 ? message[0] % 14 : type_router_solicitation;
        packet.payload = message;
        handle(packet);
        for (const auto& frame : server.solicited("lan"))
            must(parse_frame(frame, Checksum::verify).has_value());
    }
    return 0;
}

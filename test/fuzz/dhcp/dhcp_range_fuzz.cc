// Any row of messages from clients that the model does not know, direct or through a relay agent,
// to a server with ranges, classes and options, logging everything. The first byte of each message
// says how much is put right, so that the fuzzer gets past the checks of form.
// Whatever comes back must be a reply that a strict client would take, and no two clients may ever
// have one address.
#include <set>

#include "reply_check.h"

using namespace vmhost;
using namespace vmhost::dhcp;

namespace {

Network lan() {
    Network network{.name = "lan", .server = {{0x0a000001}, 24}, .routers = {{0x0a000001}}};
    network.guests = {
        {.vm = "a", .mac = {{0xfe, 0xe1, 0xbb, 0xd1, 0, 1}}, .ipv4 = Ipv4{0x0a000065}}};
    network.ranges = {{{0x0a000064}, {0x0a000068}}, {{0xc000020a}, {0xc0000210}}};
    network.relays = {{{0xc0000200}, 24}};
    network.options = {{42, {10, 0, 0, 1}}, {224, std::vector<std::uint8_t>(700, 'x')}};
    network.classes = {{.name = "u", .user = "iPXE", .filename = std::string(255, 'u')},
                       {.name = "v", .vendor = "HTTPClient", .filename = "http://x/"},
                       {.name = "b", .architectures = {0, 7}, .options = {{43, {6, 1, 8}}}}};
    return network;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Server server;
    must(server.configure({lan()}).has_value());
    std::uint64_t now_ms = 1;
    std::size_t at = 0;
    for (int messages = 0; messages < 16 && at + 2 < size; ++messages) {
        const auto repair = data[at], who = data[at + 1];
        auto end = std::min(size, at + 2 + std::size_t{data[at + 2]} * 2);
        std::vector<std::uint8_t> bytes(data + at + 2, data + end);
        at = end;
        const Mac mac{{2, 0, 0, 0, 0, static_cast<std::uint8_t>(who & 15)}};
        if (bytes.size() < 300)
            bytes.resize(300);
        put_right(bytes, repair, mac);
        if (repair & 4)
            store_be(MutableBytes(bytes).subspan(24), 0xc0000201u);
        auto answer =
            server.handle({.network = "lan",
                           .ethernet_source = mac,
                           .source = {0},
                           .destination = {repair & 8 ? 0xffffffff : 0x0a000001},
                           .source_port = static_cast<std::uint16_t>(repair & 4 ? 67 : 68),
                           .payload = bytes,
                           .now_ms = now_ms += repair & 16 ? 1 : 100'000,
                           .time_s = static_cast<std::int64_t>(now_ms / 1000)});
        check(answer);
        if (answer.check && repair & 32)
            (void)server.found_in_use("lan", *answer.check, now_ms, 0);
        std::set<Ipv4> addresses;
        for (const auto& lease : server.leases(now_ms)) {
            must(addresses.insert(lease.address).second);
            must(lease.client_host_name.empty() || legal_host_name(lease.client_host_name));
        }
    }
    return 0;
}

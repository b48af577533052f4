// What clients are told beside their address: options, classes, boot files.
#include <catch2/catch.hpp>

#include "client.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::dhcp;

namespace {

const Mac guest_mac = mac("fe:e1:bb:d1:00:01"), client_mac = mac("02:00:00:00:00:01");
const Ipv4 own = ip("10.0.0.1");

std::vector<std::uint8_t> data(std::string_view text) {
    return {text.begin(), text.end()};
}

Network lan() {
    Network network{.name = "lan",
                    .server = parse_ipv4_prefix("10.0.0.1/24").value(),
                    .routers = {own},
                    .filename = "auto_install",
                    .guests = {{.vm = "a", .mac = guest_mac, .ipv4 = ip("10.0.0.11")}},
                    .ranges = {{ip("10.0.0.100"), ip("10.0.0.199")}},
                    .ping_check = false};
    network.guests[0].filename = "";
    network.classes = {
        {.name = "ipxe", .user = "iPXE", .filename = "http://10.0.0.1/boot.ipxe"},
        {.name = "http", .vendor = "HTTPClient", .filename = "http://10.0.0.1/x.efi"},
        {.name = "efi", .architectures = {7, 9}, .filename = "ipxe.efi"},
        {.name = "bios",
         .vendor = "PXEClient",
         .architectures = {0},
         .filename = "undionly.kpxe",
         .next_server = ip("10.0.0.7"),
         .options = {{43, {6, 1, 8}}}}};
    return network;
}

Message offer(const Network& network, Client client) {
    Server server;
    if (auto done = server.configure({network}); !done)
        throw std::runtime_error(done.error().text());
    auto bytes = client.bytes();
    auto answer = server.handle({.network = "lan",
                                 .ethernet_source = client.mac,
                                 .destination = ip("255.255.255.255"),
                                 .payload = bytes,
                                 .now_ms = 1000,
                                 .time_s = 1});
    if (!answer.reply)
        throw std::runtime_error(text(answer.event));
    CHECK(answer.reply->payload.size() >= 300);
    return parse(answer.reply->payload).value();
}

Client rom(std::uint8_t architecture, const Mac& mac = client_mac) {
    Client client{.mac = mac};
    client.type(MessageType::discover)
        .option(55, {1, 3, 43, 60, 66, 67})
        .option(60, fmt::format("PXEClient:Arch:{:05}:UNDI:002001", architecture))
        .option(93, {0, architecture});
    return client;
}

std::string file_of(const Message& message) {
    return message.header.file;
}

} // namespace

TEST_CASE("iPXE, a BIOS and UEFI get three boot files") {
    CHECK(file_of(offer(lan(), rom(0))) == "undionly.kpxe");
    CHECK(file_of(offer(lan(), rom(7))) == "ipxe.efi");
    CHECK(file_of(offer(lan(), rom(9))) == "ipxe.efi");
    for (std::string_view user :
         {std::string_view("iPXE"), std::string_view("iPXE\0", 5), std::string_view("\x04iPXE"),
          std::string_view("\x01x\x04iPXE")}) {
        auto client = rom(0);
        client.option(77, user);
        CHECK(file_of(offer(lan(), client)) == "http://10.0.0.1/boot.ipxe");
    }
    auto other = rom(0);
    other.option(77, "iPX");
    CHECK(file_of(offer(lan(), other)) == "undionly.kpxe");
}

TEST_CASE("a class brings its server and options along, in the header and in 66 and 67") {
    auto bios = offer(lan(), rom(0));
    CHECK(bios.header.siaddr == ip("10.0.0.7"));
    CHECK(as_text(*bios.find(66)) == "10.0.0.7");
    CHECK(as_text(*bios.find(67)) == "undionly.kpxe");
    CHECK(bios.find(43)->size() == 3);
    auto efi = offer(lan(), rom(7));
    CHECK(efi.header.siaddr == own);
    CHECK_FALSE(efi.find(43));
    CHECK_FALSE(efi.find(60));
}

TEST_CASE("UEFI HTTP boot: 60 is sent back and 67 has the URL") {
    Client client{.mac = client_mac};
    client.type(MessageType::discover)
        .option(60, "HTTPClient:Arch:00016:UNDI:003001")
        .option(93, {0, 16})
        .option(55, {1, 3});
    auto answer = offer(lan(), client);
    CHECK(as_text(*answer.find(60)) == "HTTPClient");
    CHECK(as_text(*answer.find(67)) == "http://10.0.0.1/x.efi");
    auto network = lan();
    std::string url = "http://10.0.0.1/" + std::string(200, 'u');
    network.classes[1].filename = url;
    auto long_one = offer(network, client);
    CHECK(as_text(*long_one.find(67)) == url);
    CHECK(long_one.header.file.empty());
}

TEST_CASE("a client of no class is told no boot file, an installing guest its own") {
    CHECK(file_of(offer(lan(), dhcpleased(client_mac, MessageType::discover))).empty());
    auto network = lan();
    network.guests[0].filename.reset();
    CHECK(file_of(offer(network, dhcpleased(guest_mac, MessageType::discover))) == "auto_install");
    // Its ROM starts first.
    CHECK(file_of(offer(network, rom(0, guest_mac))) == "undionly.kpxe");
    network.guests[0].filename = "mine";
    network.guests[0].next_server = ip("10.0.0.9");
    auto own_one = offer(network, rom(0, guest_mac));
    CHECK(file_of(own_one) == "mine");
    CHECK(own_one.header.siaddr == ip("10.0.0.9"));
}

TEST_CASE("a guest that has been installed is told no boot file but its own") {
    auto network = lan();
    network.classes[2].options.push_back({67, data("67-of-the-class")});
    network.options.push_back({67, data("67-of-the-network")});
    CHECK(as_text(*offer(network, rom(7, guest_mac)).find(67)) == "67-of-the-class");
    network.guests[0].installed = true;
    for (std::uint8_t architecture : {0, 7}) {
        auto answer = offer(network, rom(architecture, guest_mac));
        CHECK(file_of(answer).empty());
        CHECK_FALSE(answer.find(67));
        // What else the class says holds.
        CHECK((architecture != 0 || answer.header.siaddr == ip("10.0.0.7")));
    }
    CHECK(file_of(offer(network, rom(0))) == "undionly.kpxe"); // others
    network.guests[0].filename = "mine";
    CHECK(file_of(offer(network, rom(0, guest_mac))) == "mine");
    network.guests[0].filename = "";
    network.guests[0].options.push_back({67, data("its-own")});
    CHECK(as_text(*offer(network, rom(7, guest_mac)).find(67)) == "its-own");
}

TEST_CASE("for one option the guest's value comes before the class's and the network's") {
    auto network = lan();
    network.options = {{42, {10, 0, 0, 5}}, {252, data("net")}, {224, data("all")}};
    network.classes[3].options.push_back({252, data("class")});
    network.guests[0].options = {{224, data("mine")}, {3, {10, 0, 0, 2}}};
    auto guest = offer(network, rom(0, guest_mac));
    CHECK(as_text(*guest.find(252)) == "class");
    CHECK(as_text(*guest.find(224)) == "mine");
    CHECK(guest.address(3) == ip("10.0.0.2"));
    auto client = offer(network, dhcpleased(client_mac, MessageType::discover));
    CHECK(as_text(*client.find(252)) == "net");
    CHECK(client.address(42) == ip("10.0.0.5"));
}

TEST_CASE("classless routes come before routers; options of 300 bytes are split") {
    auto network = lan();
    std::vector<std::uint8_t> routes{0, 10, 0, 0, 1, 25, 192, 0, 2, 128, 10, 0, 0, 2};
    network.options = {{121, routes}, {224, std::vector<std::uint8_t>(300, 'x')}};
    Client client{.mac = client_mac};
    client.type(MessageType::discover).option(57, {5, 0xdc}).option(55, {3, 1, 121, 224});
    auto bytes = client.bytes();
    Server server;
    REQUIRE(server.configure({network}));
    auto answer = server.handle({.network = "lan",
                                 .ethernet_source = client_mac,
                                 .destination = ip("255.255.255.255"),
                                 .payload = bytes,
                                 .now_ms = 1000,
                                 .time_s = 1});
    const auto& wire = answer.reply->payload;
    std::vector<int> order;
    for (std::size_t at = 240; wire.at(at) != 255; at += 2 + wire.at(at + 1))
        order.push_back(wire[at]);
    auto place = [&](int code) { return std::ranges::find(order, code) - order.begin(); };
    CHECK(place(121) < place(3));
    CHECK(std::ranges::count(order, 224) == 2);
    auto message = parse(wire).value();
    CHECK(message.find(224)->size() == 300);
    CHECK(std::ranges::equal(*message.find(121), routes));
}

TEST_CASE("64 KB of options: what is essential is there, nothing is overloaded") {
    auto network = lan();
    for (unsigned code = 128; code < 192; ++code)
        network.options.push_back(
            {static_cast<std::uint8_t>(code), std::vector<std::uint8_t>(1024, 'x')});
    for (std::uint8_t high : {2, 5}) { // 576, 1500
        Client client{.mac = client_mac};
        client.type(MessageType::discover)
            .option(57, {high, static_cast<std::uint8_t>(high == 2 ? 0x40 : 0xdc)})
            .option(55, {128, 129, 130, 1, 3});
        auto answer = offer(network, client);
        for (std::uint8_t code : {1, 3, 51, 53, 54, 58, 59})
            CHECK(answer.find(code));
        CHECK_FALSE(answer.find(52));
        CHECK(answer.find(128).has_value() == (high == 5));
        CHECK(answer.size_bytes <= (high == 2 ? 548u : 1472u));
    }
}

TEST_CASE("options that have no room are told of, but not to a client that knows of none") {
    auto network = lan();
    for (unsigned code = 224; code < 230; ++code)
        network.options.push_back(
            {static_cast<std::uint8_t>(code), std::vector<std::uint8_t>(100, 'x')});
    Server server;
    REQUIRE(server.configure({network}));
    auto ask = [&](const Client& client) {
        auto bytes = client.bytes();
        return server
            .handle({.network = "lan",
                     .ethernet_source = client.mac,
                     .destination = ip("255.255.255.255"),
                     .payload = bytes,
                     .now_ms = 1000,
                     .time_s = 1})
            .event;
    };
    Client client{.mac = client_mac};
    client.type(MessageType::discover).option(55, {1, 3});
    CHECK(ask(client).detail == "there is no room for 4 of the options, the first is 226");
    client.option(57, {5, 0xdc});
    CHECK(ask(client).detail.empty());
}

TEST_CASE("what is the server's own cannot be had from a configured option") {
    auto network = lan();
    for (std::uint8_t code : {50, 51, 53, 54, 61, 82})
        network.options.push_back({code, {9, 9, 9, 9}});
    auto answer = offer(network, dhcpleased(client_mac, MessageType::discover));
    CHECK(answer.number<std::uint32_t>(51) == 43200u);
    CHECK(answer.address(54) == own);
    CHECK_FALSE(answer.find(82));
    CHECK(answer.find(61)->size() == 7);
}

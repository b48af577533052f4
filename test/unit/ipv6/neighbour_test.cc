#include "guest.h"

using namespace vmhost;
using namespace vmhost::test;

namespace {

std::vector<std::uint8_t> solicitation(std::vector<std::uint8_t> options = {},
                                       std::uint8_t code = 0) {
    std::vector<std::uint8_t> message{133, code, 0, 0, 0, 0, 0, 0};
    message.insert(message.end(), options.begin(), options.end());
    return message;
}

std::string refused(const std::vector<std::uint8_t>& message, const Ipv6& source) {
    auto read = parse_solicitation(message, source);
    return read ? "taken" : std::string(read.error());
}

} // namespace

TEST_CASE("nd: a router solicitation is read as RFC 4861 has it") {
    auto from = Ipv6::link_local(guest_mac);
    CHECK(parse_solicitation(solicitation(), {}));
    auto with = parse_solicitation(
        solicitation({14, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0xfe, 0xe1, 0xbb, 0xd1, 0, 1}), from);
    REQUIRE(with);
    CHECK(with->link_layer == guest_mac);
    CHECK(refused(solicitation({1, 1, 0xfe, 0xe1, 0xbb, 0xd1, 0, 1}), {}) ==
          "a source link-layer address without a source address");
    CHECK(refused(solicitation({1, 0}), from) == "an option of no length");
    CHECK(refused(solicitation({1}), from) == "an option of no length");
    CHECK(refused(solicitation({1, 2, 0, 0, 0, 0, 0, 0}), from) == "an option goes past the end");
    CHECK(refused(solicitation({1, 255}), from) == "an option goes past the end");
    CHECK(refused(solicitation({}, 1), from) == "a code other than 0");
    CHECK(refused({133, 0, 0, 0, 0, 0, 0}, from) == "shorter than its header");
}

TEST_CASE("nd: an advertisement has every field where RFC 4861 and 8106 want it") {
    Advertisement advertisement;
    advertisement.link_layer = bridge_mac;
    advertisement.mtu = 1400;
    advertisement.prefix = parse_ipv6_prefix("2001:db8::1/64").value();
    advertisement.prefix_s = 1802;
    advertisement.managed = true;
    advertisement.router_s = 1800;
    advertisement.information_s = 1801;
    advertisement.domain_name_servers = {ip6("2001:db8::53"), ip6("2001:db8::54")};
    advertisement.domain_name = "example.org";
    auto message = build_advertisement(advertisement);
    auto at = [&](std::size_t offset, std::initializer_list<int> bytes) {
        return std::ranges::equal(Bytes(message).subspan(offset, bytes.size()), bytes);
    };
    CHECK(at(0, {134, 0, 0, 0, 64, 0xc0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}));
    CHECK(at(16, {1, 1, 0xfe, 0xe1, 0xba, 0, 0, 1}));
    CHECK(at(24, {5, 1, 0, 0, 0, 0, 0x05, 0x78}));
    CHECK(at(32, {3, 4, 64, 0x80}));
    CHECK(load_be<std::uint32_t>(Bytes(message).subspan(36)) == 2 * 1802);
    CHECK(load_be<std::uint32_t>(Bytes(message).subspan(40)) == 1802);
    CHECK(Ipv6::from(Bytes(message).subspan(48)) == ip6("2001:db8::"));
    CHECK(at(64, {25, 5, 0, 0, 0, 0, 0x07, 0x09}));
    CHECK(Ipv6::from(Bytes(message).subspan(72)) == ip6("2001:db8::53"));
    CHECK(at(104, {31,  3,   0,   0,   0, 0,   0x07, 0x09, 7, 'e', 'x', 'a',
                   'm', 'p', 'l', 'e', 3, 'o', 'r',  'g',  0, 0,   0,   0}));
    CHECK(message.size() == 128);

    advertisement.autonomous = true;
    advertisement.managed = false;
    advertisement.prefix_s = 0;
    advertisement.router_s = 0;
    message = build_advertisement(advertisement);
    CHECK(at(5, {0, 0, 0}));
    CHECK(at(32, {3, 4, 64, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST_CASE("nd: names that are none have no form on the wire") {
    CHECK(wire_name("a.b.") == std::vector<std::uint8_t>{1, 'a', 1, 'b', 0});
    for (const auto& bad : {std::string(), std::string("."), std::string("a..b"), std::string(".a"),
                            std::string(64, 'x'), std::string(254, 'x')})
        CHECK(wire_name(bad).empty());
}

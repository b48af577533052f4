#include "guest.h"

using namespace vmhost;
using namespace vmhost::test;

namespace {

std::string refused(std::vector<std::uint8_t> message) {
    auto read = parse_message(message);
    return read ? "taken" : std::string(read.error());
}

} // namespace

TEST_CASE("dhcp6: what a server needs of a message is read") {
    auto bytes = MessageBuilder(MessageType::request, 0xabcdef)
                     .client()
                     .server()
                     .option(8, std::vector<std::uint8_t>(2))
                     .option(14, {})
                     .want(3, 7, {guest_address, ip6("2001:db8::77")})
                     .want(4, 8)
                     .want(25, 9)
                     .take();
    auto message = parse_message(bytes);
    REQUIRE(message);
    CHECK(message->type == MessageType::request);
    CHECK(message->transaction == 0xabcdef);
    CHECK(std::ranges::equal(message->server.value(), duid_of(bridge_mac)));
    CHECK(message->rapid_commit);
    REQUIRE(message->wanted.size() == 3);
    CHECK(message->wanted[0].id == 7);
    CHECK(message->wanted[0].addresses == std::vector<Ipv6>{guest_address, ip6("2001:db8::77")});
    CHECK(message->wanted[1].kind == Association::temporary);
    CHECK(message->wanted[2].kind == Association::prefixes);
    // Cut anywhere but between options it is malformed, and never read past its end.
    for (std::size_t size = 0; size < bytes.size(); ++size)
        (void)parse_message(std::vector(bytes.begin(), bytes.begin() + static_cast<long>(size)));
    bytes.pop_back();
    CHECK(refused(bytes) == "an option goes past the end");
}

TEST_CASE("dhcp6: malformed messages are refused with the reason") {
    using Builder = MessageBuilder;
    const auto solicit = MessageType::solicit;
    CHECK(refused({1, 2, 3}) == "shorter than its header");
    CHECK(refused(Builder(solicit).client().client().take()) == "two identifiers of one side");
    CHECK(refused(Builder(solicit).option(1, as_bytes("ab")).take()) ==
          "an identifier has no such length");
    CHECK(refused(Builder(solicit).option(1, std::vector<std::uint8_t>(131)).take()) ==
          "an identifier has no such length");
    CHECK(refused(Builder(solicit).option(3, as_bytes("short")).take()) ==
          "an identity association is too short");
    ByteWriter inner; // an address option of 4 bytes
    inner.zeros(12);
    inner.be(std::uint32_t{0x0005'0004});
    inner.zeros(4);
    CHECK(refused(Builder(solicit).option(3, inner.take()).take()) ==
          "an address option is too short");
    inner.zeros(12);
    inner.be(std::uint32_t{0x0005'ffff});
    CHECK(refused(Builder(solicit).option(3, inner.take()).take()) ==
          "an option goes past the end");
}

TEST_CASE("dhcp6: of too many associations and addresses only some are kept") {
    MessageBuilder builder(MessageType::solicit);
    for (unsigned i = 0; i < 100; ++i)
        builder.want(3, i, std::vector<Ipv6>(30, guest_address));
    auto bytes = builder.take();
    auto message = parse_message(bytes);
    REQUIRE(message);
    CHECK(message->wanted.size() == limits::max_dhcp6_associations);
    CHECK(message->wanted[0].addresses.size() == limits::max_dhcp6_associations);
}

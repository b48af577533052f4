#include <catch2/catch.hpp>

#include "base/base.h"

using namespace vmhost;

TEST_CASE("Ethernet addresses") {
    CHECK(parse_mac("FE:e1:bb:d1:00:01").value().text() == "fe:e1:bb:d1:00:01");
    CHECK(parse_mac("fe-e1-bb-d1-00-01").value().text() == "fe:e1:bb:d1:00:01");
    for (auto bad :
         {"", "fe:e1:bb:d1:00", "fe:e1:bb:d1:00:0g", "fe:e1:bb:d1:00:01:02", "fee1:bb:d1:00:01:"})
        CHECK_FALSE(parse_mac(bad));
    CHECK(Mac::from(Bytes{}).is_zero());
}

TEST_CASE("IPv4 addresses and prefixes") {
    CHECK(parse_ipv4("192.0.2.1").value().text() == "192.0.2.1");
    for (auto bad : {"", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ", "a.b.c.d"})
        CHECK_FALSE(parse_ipv4(bad));
    auto prefix = parse_ipv4_prefix("192.0.2.17/28").value();
    CHECK(prefix.network().text() == "192.0.2.16");
    CHECK(prefix.broadcast().text() == "192.0.2.31");
    CHECK(prefix.contains(parse_ipv4("192.0.2.30").value()));
    CHECK_FALSE(prefix.contains(parse_ipv4("192.0.2.32").value()));
    for (auto bad : {"192.0.2.1", "192.0.2.1/33", "192.0.2.1/", "192.0.2.1/-1"})
        CHECK_FALSE(parse_ipv4_prefix(bad));
    CHECK(parse_ipv4_prefix("0.0.0.0/0").value().mask() == 0);
}

TEST_CASE("IPv6 addresses are read in all forms and written in one") {
    for (auto [text, canonical] :
         {std::pair("::", "::"), std::pair("::1", "::1"), std::pair("1::", "1::"),
          std::pair("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
          std::pair("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),        // the first of equals
          std::pair("2001:0db8:0000:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), // not a single group
          std::pair("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
          std::pair("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
          std::pair("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
          std::pair("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
          std::pair("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8")}) {
        INFO(text);
        auto address = parse_ipv6(text);
        REQUIRE(address);
        CHECK(address->text() == canonical);
        CHECK(parse_ipv6(canonical).value() == *address);
        CHECK(Ipv6::from(address->octets()) == *address);
    }
    for (auto bad : {"", ":", ":::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3",
                     "12345::", "g::", "1:", ":1", "::1%eth0", "1:2:3:4:5:6:7::8", "::1.2.3",
                     "1.2.3.4", "::1.2.3.4:5", "1:2:3:4:5:6:7:1.2.3.4", "\x10::", "::1 "})
        CHECK_FALSE(parse_ipv6(bad));
}

TEST_CASE("IPv6 prefixes") {
    auto prefix = parse_ipv6_prefix("2001:db8:1:2:ffff::1/60").value();
    CHECK(prefix.network().text() == "2001:db8:1::");
    CHECK(prefix.text() == "2001:db8:1:2:ffff::1/60");
    CHECK(prefix.contains(parse_ipv6("2001:db8:1:f::").value()));
    CHECK_FALSE(prefix.contains(parse_ipv6("2001:db8:1:10::").value()));
    auto narrow = parse_ipv6_prefix("fd00::1:2/126").value();
    CHECK(narrow.network().text() == "fd00::1:0");
    CHECK_FALSE(narrow.contains(parse_ipv6("fd00::1:4").value()));
    CHECK(parse_ipv6_prefix("::/0").value().contains(parse_ipv6("ffff::").value()));
    CHECK(parse_ipv6_prefix("::1/128").value().mask().low == ~std::uint64_t{0});
    for (auto bad : {"2001:db8::1", "::/129", "::/", "::/-1", "::/064", "::/1a", "/64"})
        CHECK_FALSE(parse_ipv6_prefix(bad));
    CHECK(Ipv6::link_local(parse_mac("fe:e1:ba:12:34:56").value()).text() ==
          "fe80::fce1:baff:fe12:3456");
    CHECK(Ipv6::link_local(Mac{}).is_link_local());
}

TEST_CASE("an address of either family keeps it") {
    const IpAddress four = parse_ipv4("192.0.2.1").value();
    const IpAddress six = parse_ipv6("2001:db8::1").value();
    CHECK(four.is_ipv4());
    CHECK_FALSE(six.is_ipv4());
    CHECK(four.ipv4() == parse_ipv4("192.0.2.1").value());
    CHECK(six.ipv4().is_zero());
    CHECK(four.text() == "192.0.2.1");
    CHECK(four.host_text() == "192.0.2.1");
    CHECK(six.host_text() == "[2001:db8::1]");
    CHECK(IpAddress(Ipv4{}) != IpAddress(Ipv6{}));
    CHECK(IpAddress() == Ipv4{});
    for (const IpAddress& any : {IpAddress(Ipv4{}), IpAddress(Ipv6{})})
        CHECK(any.is_unspecified());
    CHECK_FALSE(four.is_unspecified());
    CHECK(IpAddress(Ipv6{0, 1}).is_loopback());
    CHECK(IpAddress(parse_ipv4("127.9.9.9").value()).is_loopback());
    CHECK_FALSE(six.is_loopback());
    CHECK_FALSE(four == six);
}

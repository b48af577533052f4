#include <catch2/catch.hpp>

#include "base/base.h"

using namespace vmhost;

TEST_CASE("Ethernet addresses") {
    CHECK(parse_mac("FE:e1:bb:d1:00:01").value().text() == "fe:e1:bb:d1:00:01");
    CHECK(parse_mac("fe-e1-bb-d1-00-01").value().text() == "fe:e1:bb:d1:00:01");
    for (auto bad : {"", "fe:e1:bb:d1:00", "fe:e1:bb:d1:00:0g", "fe:e1:bb:d1:00:01:02",
                     "fee1:bb:d1:00:01:"})
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

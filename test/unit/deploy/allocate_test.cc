// Addresses by the number of a VM.
#include <catch2/catch.hpp>

#include "deploy/deploy.h"

using namespace vmhost;
using namespace vmhost::deploy;

namespace {

config::Model model_of(const std::string& start = "46.23.93.100") {
    auto model =
        config::parse("[switch.u]\nipv4 = \"46.23.93.2/24\"\nipv6 = \"2a03:6000:6f64::1/48\"\n"
                      "[switch.u.dhcp]\nrouters = [\"46.23.93.114\"]\n"
                      "domain_name_servers = [\"46.23.93.115\"]\n"
                      "range = \"46.23.93.240-46.23.93.250\"\n"
                      "[allocate]\nswitch = \"u\"\nipv4_start = \"" +
                          start +
                          "\"\nipv6_prefix = \"2a03:6000:6f64::/48\"\nipv6_start = 600\n"
                          "mac_prefix = \"fe:e1:bb:f1:c8\"\n",
                      "t.toml");
    REQUIRE(model);
    return *std::move(model);
}

std::string mac(unsigned number, const std::string& prefix = "fe:e1:bb:f1:c8") {
    auto address = mac_of(prefix, number);
    return address ? address->text() : address.error().text();
}

std::string ipv4(unsigned number, const std::string& start = "46.23.93.100") {
    auto address = ipv4_of(model_of(start), number);
    return address ? address->text() : address.error().text();
}

} // namespace

TEST_CASE("VM 13 and VM 5 have the addresses that everybody expects") {
    CHECK(mac(13) == "fe:e1:bb:f1:c8:13");
    CHECK(ipv4(13) == "46.23.93.113");
    CHECK(ipv6_of(model_of().allocate, 13, 113)->text() == "2a03:6000:6f64:613::113");
    CHECK(ipv6_of(model_of().allocate, 13, 13)->text() == "2a03:6000:6f64:613::13");
    CHECK(ipv6_of(model_of().allocate, 23, 226)->text() == "2a03:6000:6f64:623::226");
    CHECK(mac(5) == "fe:e1:bb:f1:c8:05");
    CHECK(ipv4(5) == "46.23.93.105");
    CHECK(ipv6_of(model_of().allocate, 5, 105)->text() == "2a03:6000:6f64:605::105");
}

TEST_CASE("no number makes an Ethernet address that is none, or another's") {
    std::set<std::string> seen;
    for (unsigned number = 0; number <= 255; ++number) {
        auto address = mac_of("fe:e1:bb:f1:c8", number);
        REQUIRE(address);
        CHECK(seen.insert(address->text()).second);
    }
    CHECK(mac(99) == "fe:e1:bb:f1:c8:99");
    CHECK(mac(100) == "fe:e1:bb:f1:c8:0a");
    CHECK(mac(105) == "fe:e1:bb:f1:c8:0f");
    CHECK(mac(106) == "fe:e1:bb:f1:c8:1a");
    CHECK(mac(255) == "fe:e1:bb:f1:c8:ff");
    CHECK(mac(256).find("numbers 0 to 255") != std::string::npos);
    CHECK(mac(13, "fe:e1:bb:f1") == "fe:e1:bb:f1:00:13");
    CHECK(mac(300, "fe:e1:bb:f1") == "fe:e1:bb:f1:03:00");
    CHECK(mac(9999, "fe:e1:bb:f1") == "fe:e1:bb:f1:99:99");
}

TEST_CASE("an address past the subnet, or that somebody has, is refused") {
    CHECK(ipv4(254) == "46.23.94.98 is outside of 46.23.93.2/24 of switch \"u\"");
    CHECK(ipv4(155).find("is the broadcast address") != std::string::npos);
    CHECK(ipv4(14).find("is the address of a router") != std::string::npos);
    CHECK(ipv4(15).find("is the address of a name server") != std::string::npos);
    CHECK(ipv4(145).find("is in a range") != std::string::npos);
    CHECK(ipv4(2, "46.23.93.0").find("this host's own") != std::string::npos);
    CHECK(ipv4(0, "46.23.93.0").find("the network itself") != std::string::npos);
    CHECK(ipv4(13, "46.23.93.0") == "46.23.93.13");
}

TEST_CASE("a group of decimal digits ends at 9999, and at the prefix") {
    auto rules = model_of().allocate;
    CHECK(ipv6_of(rules, 9399, 1)->text() == "2a03:6000:6f64:9999::1");
    CHECK_FALSE(ipv6_of(rules, 9400, 1));
    rules.ipv6_prefix = *parse_ipv6_prefix("2a03:6000:6f64:600::/56");
    CHECK(ipv6_of(rules, 99, 1)->text() == "2a03:6000:6f64:699::1");
    CHECK_FALSE(ipv6_of(rules, 100, 1)); // 700 is another /56
}

TEST_CASE("the next number is behind all that were given") {
    CHECK(*free_number({}) == 1);
    CHECK(*free_number({1, 2, 13}) == 14);
    CHECK_FALSE(free_number({9999}));
    CHECK(number_of("vm13") == 13U);
    CHECK(number_of("13") == 13U);
    CHECK_FALSE(number_of("puffy"));
    CHECK_FALSE(number_of("a12345"));
}

TEST_CASE("the ledger comes back as it was written, and nothing else does") {
    Ledger ledger;
    ledger.put({.number = 13,
                .vm = "vm13",
                .user = "alice",
                .order = "/o/vm13.txt",
                .given = "2026-11-22"});
    ledger.put({.number = 14,
                .vm = "vm14",
                .user = "bob",
                .order = "/o/vm14.txt",
                .given = "2026-11-22",
                .removed = "2026-12-01",
                .account = true,
                .images = {"/i/a.raw", "/i/b"}});
    auto text = ledger.text();
    auto again = Ledger::parse(text, "l");
    REQUIRE(again);
    CHECK(again->entries() == ledger.entries());
    CHECK(again->of_order("/o/vm13.txt")->vm == "vm13");
    CHECK(again->of_order("/o/vm14.txt") == nullptr);
    CHECK(again->made_account("bob"));
    CHECK_FALSE(again->made_account("alice"));
    for (const std::string bad :
         {"x\n", "[]\n", "{\"vm\":\"a\"}\n", "{\"number\":-1,\"vm\":\"a\"}\n",
          "{\"number\":1,\"vm\":7}\n", "{\"number\":1,\"vm\":\"a\",\"images\":[1]}\n"})
        CHECK(Ledger::parse(text + bad, "l").error().message().starts_with("l:3:1: "));
}

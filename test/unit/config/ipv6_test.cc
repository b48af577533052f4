// IPv6 in the file: networks of switches, addresses of interfaces, and what keeps them.
#include "helpers.h"

using namespace vmhost;
using namespace vmhost::config;

namespace {

const std::string host = "[host]\nname = \"h\"\n";
const std::string lan = "[switch.lan]\nipv4 = \"10.9.8.1/24\"\nipv6 = \"2001:db8::1/64\"\n";

std::string vm(std::string_view name, std::string_view keys = "") {
    return fmt::format("[vm.{}]\ninterface = [{{ switch = \"lan\"{} }}]\n", name, keys);
}

std::string ipv6_of(const Model& model, std::string_view name, std::size_t index = 0) {
    const auto& address = model.find_vm(name)->interfaces.at(index).ipv6;
    return address ? address->text() : "none";
}

} // namespace

TEST_CASE("an interface's IPv6 address is its network and its IPv4 address") {
    auto model = good(host + lan + vm("a", ", ipv4 = \"10.9.8.20\"") + vm("b"));
    CHECK(ipv6_of(model, "a") == "2001:db8::a09:814");
    auto ipv4 = model.find_vm("b")->interfaces[0].ipv4;
    REQUIRE(ipv4);
    CHECK(model.find_vm("b")->interfaces[0].ipv6 == Ipv6{0x20010db8'00000000, ipv4->value});
    // Not on a switch without.
    CHECK(ipv6_of(good(host + "[switch.lan]\nipv4 = \"10.9.8.1/24\"\n" + vm("a")), "a") == "none");
}

TEST_CASE("a small or IPv4-less network has IPv6 addresses, too, and each once") {
    auto text = host + "[switch.lan]\nipv6 = \"fd00::1/125\"\nra = { domain_name_servers = "
                       "[\"fd00::2\"] }\n";
    for (int i = 0; i < 5; ++i)
        text += vm(fmt::format("v{}", i));
    auto model = good(text);
    std::vector<std::string> all;
    for (const auto& one : model.vms)
        all.push_back(one.interfaces[0].ipv6->text());
    std::ranges::sort(all);
    CHECK(all == std::vector<std::string>{"fd00::3", "fd00::4", "fd00::5", "fd00::6", "fd00::7"});
    CHECK(
        bad(text + vm("v5")).find("vm.v5.interface[0]: switch \"lan\" has no free IPv6 address") !=
        std::string::npos);
}

TEST_CASE("what is given counts, and the one that would have it moves on") {
    auto model = good(host + lan + vm("a", ", ipv4 = \"10.9.8.20\"") +
                      vm("b", ", ipv6 = \"2001:db8::a09:814\""));
    CHECK(ipv6_of(model, "a") == "2001:db8::a09:815");
    CHECK(ipv6_of(model, "b") == "2001:db8::a09:814");
}

TEST_CASE("a derived IPv6 address is kept, and that of an absent VM is nobody's") {
    auto text = host + lan + vm("a", ", ipv4 = \"10.9.8.20\"");
    Remembered remembered;
    remembered.interfaces.push_back(
        {.vm = "a", .index = 0, .switch_name = "lan", .ipv6 = parse_ipv6("2001:db8::77").value()});
    auto kept = recall(good(text), remembered);
    REQUIRE(kept);
    CHECK(ipv6_of(*kept, "a") == "2001:db8::77");
    remembered.interfaces[0].vm = "gone";
    remembered.interfaces[0].ipv6 = parse_ipv6("2001:db8::a09:814").value();
    auto moved = recall(good(text), remembered);
    REQUIRE(moved);
    CHECK(ipv6_of(*moved, "a") == "2001:db8::a09:815");
    // The file gives b what a has had.
    remembered.interfaces[0].vm = "a";
    auto refused = recall(good(text + vm("b", ", ipv6 = \"2001:db8::a09:814\"")), remembered);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().front().message().find(
              "vm.b.interface[0].ipv6: 2001:db8::a09:814 is what vm.a.interface[0] has had") !=
          std::string::npos);
    // On another network it is no address.
    remembered.interfaces[0].ipv6 = parse_ipv6("2001:db9::5").value();
    CHECK(ipv6_of(recall(good(text), remembered).value(), "a") == "2001:db8::a09:814");
}

TEST_CASE("local interfaces have a pair of IPv6 addresses when they are to") {
    auto text = "[host]\nname = \"h\"\nlocal = { ipv4 = \"100.64.0.0/10\", ipv6 = IPV6 }\n"
                "[vm.a]\ninterface = [{ local = true, ipv4 = \"100.64.1.3\" }]\n";
    auto with = [&](std::string_view value) {
        std::string out = text;
        return good(out.replace(out.find("IPV6"), 4, value));
    };
    CHECK(ipv6_of(with("false"), "a") == "none");
    CHECK_FALSE(with("false").find_switch("a:0")->ra.enabled);
    auto model = with("\"fd00:1:2:3::/64\"");
    CHECK(ipv6_of(model, "a") == "fd00:1:2:3:6440:103:0:2");
    CHECK(model.find_switch("a:0")->ipv6->text() == "fd00:1:2:3:6440:103:0:1/96");
    CHECK(model.find_switch("a:0")->dhcp6.enabled);
    auto derived = with("true");
    CHECK(derived.host.local_ipv6.prefix.address.high >> 56 == 0xfd);
    CHECK(ipv6_of(derived, "a").starts_with("fd"));
    CHECK(ipv6_of(good(print(derived)), "a") == ipv6_of(derived, "a"));
}

TEST_CASE("an IPv6 network that cannot be is refused") {
    auto of = [](std::string_view keys) { return bad(fmt::format("[switch.s]\n{}\n", keys)); };
    for (auto [keys, complaint] :
         {std::pair("ipv6 = \"2001:db8::/64\"", "is the network itself"),
          std::pair("ipv6 = \"fe80::1/64\"", "is not an address that a host can have"),
          std::pair("ipv6 = \"ff02::1/64\"", "is not an address that a host can have"),
          std::pair("ipv6 = \"::1/64\"", "is not an address that a host can have"),
          std::pair("ipv6 = \"2001:db8::1/127\"", "the prefix length is 16 to 126"),
          std::pair("ipv6 = \"2001:db8::1\"", "has no prefix length"),
          std::pair("ra = true", "switch.s.ra: switch \"s\" has no ipv6"),
          std::pair("dhcp6 = { enable = true }", "switch.s.dhcp6: switch \"s\" has no ipv6"),
          std::pair("ipv6 = \"2001:db8::1/72\"\nra = { autonomous = true }", "on a /64 only"),
          std::pair("ipv6 = \"2001:db8::1/64\"\nra = { lifetime = \"10s\" }",
                    "is shorter than interval, 10m"),
          std::pair("ipv6 = \"2001:db8::1/64\"\nra = { interval = \"3s\" }", "at least 4s"),
          std::pair("ipv6 = \"2001:db8::1/64\"\nra = { domain_name_servers = [\"ff02::1\"] }",
                    "is no address of a name server")}) {
        INFO(keys);
        CHECK_THAT(of(keys), Catch::Contains(complaint));
    }
    CHECK(
        bad("[switch.a]\nipv6 = \"2001:db8::1/48\"\n[switch.b]\nipv6 = \"2001:db8:0:5::1/64\"\n") ==
        "t.toml:4:8: switch.b.ipv6: 2001:db8:0:5::1/64 overlaps with 2001:db8::1/48 of "
        "switch.a.ipv6 at line 1");
    CHECK_THAT(bad("[host]\nlocal = { ipv6 = \"2001:db8::/48\" }\n[switch.a]\nipv6 = "
                   "\"2001:db8::1/64\"\n"),
               Catch::Contains("overlaps with host.local.ipv6, 2001:db8::/48"));
    CHECK_THAT(bad("[host]\nlocal = { ipv6 = \"fd00::1/64\" }\n"),
               Catch::Contains("bits beyond its prefix: write fd00::/64"));
}

TEST_CASE("an IPv6 address that a guest cannot have is refused") {
    for (auto [keys, complaint] :
         {std::pair(", ipv6 = \"2001:db8:1::5\"", "is not inside 2001:db8::1/64"),
          std::pair(", ipv6 = \"2001:db8::1\"", "is this host's own address"),
          std::pair(", ipv6 = \"2001:db8::\"", "is the network itself"),
          std::pair(", ipv6 = \"10.9.8.7\"", "is no IPv6 address")}) {
        INFO(keys);
        CHECK_THAT(bad(host + lan + vm("a", keys)), Catch::Contains(complaint));
    }
    CHECK_THAT(bad(host + "[switch.lan]\n" + vm("a", ", ipv6 = \"2001:db8::5\"")),
               Catch::Contains("has no effect: switch \"lan\" has no ipv6"));
    CHECK_THAT(bad(host + "[vm.a]\ninterface = [{ local = true, ipv6 = \"fd00::5\" }]\n"),
               Catch::Contains("leave it out"));
    CHECK_THAT(bad(host + "[vm.a]\ninterface = [{ ipv6 = \"fd00::5\" }]\n"),
               Catch::Contains("has no effect without a switch"));
    CHECK_THAT(
        bad(host + lan + vm("a", ", ipv6 = \"2001:db8::5\"") + vm("b", ", ipv6 = \"2001:db8::5\"")),
        Catch::Contains("\"2001:db8::5\" is taken by vm.a.interface[0].ipv6"));
}

TEST_CASE("a local interface's IPv6 network leads nowhere: this host is no router of it") {
    auto model = good("[host]\nname = \"h\"\n[host.local]\nipv6 = true\n[vm.a]\ninterface = "
                      "[{ local = true }]\n");
    REQUIRE(model.switches.size() == 1);
    CHECK(model.switches[0].ipv6);
    CHECK(model.switches[0].ra.enabled);
    CHECK_FALSE(model.switches[0].ra.router);
}

// What is made of the model for guests' rules and for the services: no process, no kernel.
#include <catch2/catch.hpp>

#include "host/guest.h"
#include "host/services.h"

using namespace vmhost;
using namespace vmhost::host;

namespace {

config::Model model_of(const std::string& text) {
    auto model = config::parse(text, "t.toml");
    REQUIRE(model);
    return *std::move(model);
}

net::PortGuard guard_in(const std::string& keys, const std::string& interface) {
    auto model =
        model_of("[switch.lan]\nipv4 = \"10.9.8.1/24\"\nipv6 = \"2001:db8::1/64\"\n" + keys +
                 "\n[vm.a]\ninterface = [{ switch = \"lan\", " + interface + " }]\n");
    const auto& one = model.vms.at(0).interfaces.at(0);
    return guard_of(model, one, one.lladdr);
}

Advertised advertised(const std::string& keys) {
    return advertised_by(model_of("[switch.lan]\n" + keys));
}

} // namespace

TEST_CASE("guard: a guest has the addresses of the model") {
    auto guard = guard_in("", "ipv4 = \"10.9.8.20\"");
    CHECK(guard.ipv4 == std::vector<Ipv4Prefix>{{{0x0a090814}, 32}});
    REQUIRE(guard.ipv6.size() == 1);
    CHECK(guard.ipv6[0].length == 128);
    CHECK(guard.others.size() == 2); // the router's
}

TEST_CASE("guard: a guest that makes up addresses has its network's") {
    auto guard = guard_in("ra = { autonomous = true }", "ipv4 = \"10.9.8.20\"");
    REQUIRE(guard.ipv6.size() == 2);
    CHECK(guard.ipv6[1].length == 64);
}

TEST_CASE("guard: a trunk has any addresses in its VLANs, but not the router's") {
    for (auto keys : {"vlan = 1", "vlan = 1\nra = { autonomous = true }"}) {
        auto guard = guard_in(keys, "trunk = [10, 20]");
        CHECK(guard.tags);
        CHECK(guard.ipv4.empty());
        CHECK(guard.ipv6.empty());
        CHECK(guard.others.size() == 2);
    }
}

TEST_CASE("ipv6: what guests believe is taken back when it is true no more") {
    const std::string own = "ipv6 = \"2001:db8::1/64\"\n";
    auto before = advertised(own + "ra = { autonomous = true }");
    REQUIRE(before.size() == 1);
    const std::vector<std::string> lan{"lan"};
    CHECK(to_withdraw(before, before).empty());
    CHECK(to_withdraw(before, {}) == lan);
    CHECK(to_withdraw(before, advertised(own)) == lan); // they keep no addresses of their own
    CHECK(to_withdraw(before, advertised(own + "ra = { autonomous = true, router = false }")) ==
          lan);
    CHECK(to_withdraw(before, advertised(own + "ra = false")) == lan);
    CHECK(to_withdraw(before,
                      advertised("ipv6 = \"2001:db8:1::1/64\"\nra = { autonomous = true }")) ==
          lan);
    // Also of a network that has no router.
    auto no_router = advertised(own + "ra = { router = false }");
    CHECK(to_withdraw(no_router, advertised("ipv6 = \"2001:db8:1::1/64\"\n")) == lan);
    // More than before takes nothing back.
    CHECK(to_withdraw(no_router, before).empty());
    CHECK(to_withdraw({}, before).empty());
}

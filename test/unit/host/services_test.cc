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

namespace {

std::optional<std::string> boot_file(const std::string& of_switch, const std::string& of_vm,
                                     InstallState state) {
    auto model = model_of("[switch.lan]\nipv4 = \"10.9.8.1/24\"\n" + of_switch +
                          "[vm.a]\ninterface = [{ switch = \"lan\" }]\n" + of_vm);
    const auto& vm = model.vms.at(0);
    auto guest = dhcp_guest(model.switches.at(0), vm, vm.interfaces.at(0), state);
    CHECK(guest.installing == state.armed);
    CHECK(guest.installed == (vm.install.has_value() && !state.armed));
    return guest.filename;
}

} // namespace

TEST_CASE("dhcp: the boot file has the mode that the VM is armed for") {
    const std::string install = "install = { }\n";
    const InstallState armed{true, false, 1}, upgrade{true, true, 2}, sealed{};
    // None of its own: the role has the switch's, for who is installing.
    CHECK(boot_file("", install, armed) == std::nullopt);
    CHECK(boot_file("", install, upgrade) == "auto_upgrade");
    CHECK(boot_file("", install, sealed) == std::nullopt);
    const std::string below = "dhcp = { filename = \"lab/auto_install\" }\n";
    CHECK(boot_file(below, install, armed) == std::nullopt);
    CHECK(boot_file(below, install, upgrade) == "lab/auto_upgrade");
    // One that is no installer's stays, as long as the VM does.
    const std::string script = "dhcp = { filename = \"boot.ipxe\" }\n";
    CHECK(boot_file("", install + script, upgrade) == "boot.ipxe");
    CHECK(boot_file("", install + script, sealed) == "boot.ipxe");
    const std::string own = "dhcp = { filename = \"x/auto_upgrade\" }\n";
    CHECK(boot_file("", install + own, armed) == "x/auto_install");
    CHECK(boot_file("", install + own, upgrade) == "x/auto_upgrade");
    CHECK(boot_file("", install + own, sealed) == std::nullopt);
    CHECK(boot_file("", own, sealed) == "x/auto_upgrade"); // somebody else installs it
}

TEST_CASE("dhcp: the boot file of an installation of another system") {
    auto told = [](const std::string& of_switch, const std::string& of_vm, bool armed) {
        auto model = model_of("[switch.lan]\nipv4 = \"10.9.8.1/24\"\n" + of_switch +
                              "[vm.a]\ninterface = [{ switch = \"lan\" }]\n" + of_vm);
        const auto& vm = model.vms.at(0);
        auto guest = dhcp_guest(model.switches.at(0), vm, vm.interfaces.at(0), {armed, false, 1});
        // As the role takes it: the switch's is for who is installing.
        return guest.filename     ? *guest.filename
               : guest.installing ? model.switches.at(0).dhcp.filename
                                  : std::string();
    };
    const std::string debian = "install = { system = \"preseed\" }\n";
    CHECK(told("", debian, true).empty()); // auto_install is OpenBSD's
    CHECK(told("", debian, false).empty());
    CHECK(told("dhcp = { filename = \"pxelinux.0\" }\n", debian, true) == "pxelinux.0");
    CHECK(told("dhcp = { filename = \"pxelinux.0\" }\n", debian, false).empty());
    CHECK(told("", debian + "dhcp = { filename = \"own.0\" }\n", true) == "own.0");
    CHECK(told("", debian + "dhcp = { filename = \"own.0\" }\n", false) == "own.0");
}

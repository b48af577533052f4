// Interfaces off a switch, local ones, and what vm.conf(5) has and we do not yet.
#include "helpers.h"

using namespace vmhost;
using namespace vmhost::config;

TEST_CASE("who moves the frames of an interface") {
    auto model = good("[vm.a]\ninterface = [{}, { vhost = \"auto\" }, { vhost = true }, "
                      "{ vhost = false, limit = {} }, { limit = {} }]");
    const auto& interfaces = model.vms[0].interfaces;
    CHECK_FALSE(interfaces[0].vhost);
    CHECK_FALSE(interfaces[1].vhost);
    CHECK(interfaces[2].vhost == true);
    CHECK(interfaces[3].vhost == false);
    CHECK_FALSE(interfaces[4].vhost);
    CHECK(good(print(model)).vms == model.vms);
    CHECK(bad("[vm.a]\ninterface = [{ limit = {}, vhost = true }]") ==
          "t.toml:2:36: vm.a.interface[0].vhost: the kernel keeps no limit: leave it or \"limit\" "
          "out");
    for (auto value : {"1", "\"yes\"", "\"\"", "[]"})
        CHECK_THAT(bad(fmt::format("[vm.a]\ninterface = [{{ vhost = {} }}]", value)),
                   Catch::Contains("vhost: expected \"auto\", true or false"));
}

TEST_CASE("a local interface gets a pair of addresses and a switch of its own") {
    auto model = good("[host]\nname = \"h\"\n[vm.a]\ninterface = [{}, { local = true }]\n");
    const Interface& wire = model.vms[0].interfaces[1];
    REQUIRE(model.switches.size() == 1);
    const Switch& sw = model.switches[0];
    CHECK(sw.local);
    CHECK(wire.switch_name == sw.name);
    CHECK(sw.interface == "a-br1");
    CHECK(sw.ipv4->length == 31);
    CHECK(sw.ipv4->address.value % 2 == 0);
    CHECK(wire.ipv4->value == sw.ipv4->address.value + 1);
    CHECK(model.host.local_ipv4.contains(*wire.ipv4));
    CHECK(sw.dhcp.enabled);
    CHECK(sw.dhcp.routers == std::vector<Ipv4>{sw.ipv4->address});
    CHECK(sw.dhcp.domain_name_servers == std::vector<Ipv4>{sw.ipv4->address});
    CHECK(wire.locked_lladdr == true);
    // Nobody sees the derived switch in a file.
    CHECK(print(model).find("[switch") == std::string::npos);
    CHECK(good(print(model)) == model);
}

TEST_CASE("the loose interface is locked to nothing") {
    auto model = good("[vm.a]\ninterface = [{ tap = \"tap3\", up = false }]\n");
    CHECK(model.vms[0].interfaces[0].locked_lladdr == false);
    CHECK(model.vms[0].interfaces[0].tap == "tap3");
    CHECK_FALSE(model.vms[0].interfaces[0].up);
    CHECK_FALSE(model.vms[0].interfaces[0].ipv4);
}

TEST_CASE("pairs of addresses stay and do not collide") {
    std::string text = "[host]\nlocal = { ipv4 = \"10.1.0.0/24\" }\n";
    for (int i = 0; i < 126; ++i)
        text += fmt::format("[vm.v{}]\ninterface = [{{ local = true }}]\n", i);
    auto model = good(text); // every pair but the first and the last
    std::vector<std::uint32_t> hosts;
    for (const Switch& sw : model.switches)
        hosts.push_back(sw.ipv4->address.value);
    std::sort(hosts.begin(), hosts.end());
    CHECK(std::unique(hosts.begin(), hosts.end()) == hosts.end());
    CHECK(hosts.front() == 0x0a010002);
    CHECK(hosts.back() == 0x0a0100fc);
    CHECK(bad(text + "[vm.more]\ninterface = [{ local = true }]\n") ==
          "t.toml:256:14: vm.more.interface[0]: 10.1.0.0/24 has no free pair of addresses");
}

TEST_CASE("names of bridges of local interfaces fit the kernel and stay apart") {
    auto model = good("[vm.a-very-long-name-of-a-vm-1]\ninterface = [{ local = true }]\n"
                      "[vm.a-very-long-name-of-a-vm-2]\ninterface = [{ local = true }]\n");
    CHECK(model.switches[0].interface.size() == 15);
    CHECK(model.switches[0].interface != model.switches[1].interface);
}

TEST_CASE("wrong wires are refused") {
    CHECK(bad("[switch.s]\n[vm.a]\ninterface = [{ local = true, switch = \"s\" }]\n") ==
          "t.toml:3:39: vm.a.interface[0].switch: a local interface has a wire of its own: leave "
          "one of them out");
    CHECK(bad("[vm.a]\ninterface = [{ ipv4 = \"10.0.0.1\" }]\n") ==
          "t.toml:2:23: vm.a.interface[0].ipv4: has no effect without a switch");
    CHECK(bad("[vm.a]\ninterface = [{ locked_lladdr = true }]\n") ==
          "t.toml:2:32: vm.a.interface[0].locked_lladdr: has no effect without a switch");
    CHECK(bad("[vm.a]\ninterface = [{ local = true, ipv4 = \"100.64.0.8\" }]\n")
              .find("an odd address of 100.64.0.0/10") != std::string::npos);
    CHECK(bad("[vm.a]\ninterface = [{ local = true, ipv4 = \"100.64.0.9\" }]\n[vm.b]\n"
              "interface = [{ local = true, ipv4 = \"100.64.0.9\" }]\n") ==
          "t.toml:4:37: vm.b.interface[0].ipv4: \"100.64.0.9\" is taken by "
          "vm.a.interface[0].ipv4 at line 2");
    CHECK(bad("[switch.s]\nipv4 = \"100.64.3.1/24\"\n[vm.a]\ninterface = [{ local = true }]\n")
              .find("overlaps with host.local.ipv4") != std::string::npos);
    // Nobody has a local interface: the prefix is free for others.
    good("[switch.s]\nipv4 = \"100.64.3.1/24\"\n");
    CHECK(bad("[switch.s]\ninterface = \"x\"\n[vm.a]\ninterface = [{ tap = \"x\" }]\n") ==
          "t.toml:4:22: vm.a.interface[0].tap: \"x\" is taken by switch.s.interface at line 2");
    CHECK(bad("[host]\nlocal = { ipv4 = \"100.64.0.1/10\" }\n") ==
          "t.toml:2:18: host.local.ipv4: 100.64.0.1/10: the address has bits beyond its prefix: "
          "write 100.64.0.0/10");
    CHECK(
        bad("[host]\nlocal = { ipv4 = \"10.0.0.0/25\" }\n").find("the prefix length is 1 to 24") !=
        std::string::npos);
}

TEST_CASE("what cannot be done yet is refused where it stands") {
    CHECK(bad("[vm.a]\nsev = true\n") ==
          "t.toml:2:7: vm.a.sev: encrypted guests (SEV) do not exist yet: leave it out, or false");
    // Wrong is still wrong.
    CHECK(bad("[switch.s]\nrdomain = 256\n").find("from 0 to 255") != std::string::npos);
    CHECK(bad("[switch.s]\ngroup = \"tenant0\"\n").find("does not end in a digit") !=
          std::string::npos);
    good("[switch.s]\nrdomain = 0\ngroup = \"\"\n[vm.a]\nsev = false\nsev_es = false\n");
}

TEST_CASE("an interface is guarded as its switch says when it is locked, and as it says itself") {
    auto guard_of = [](const char* of_switch, const char* of_interface) {
        auto model =
            good(fmt::format("[switch.s]\n{}\n[vm.a]\ninterface = [{{ switch = \"s\"{} }}]\n",
                             of_switch, of_interface));
        CHECK(good(print(model)) == model);
        return model.vms[0].interfaces[0].guard.value();
    };
    CHECK(guard_of("", ""));
    CHECK_FALSE(guard_of("guard = false", ""));
    CHECK_FALSE(guard_of("locked_lladdr = false", ""));
    CHECK_FALSE(guard_of("", ", locked_lladdr = false"));
    CHECK(guard_of("locked_lladdr = false", ", locked_lladdr = true"));
    CHECK(guard_of("", ", locked_lladdr = false, guard = true"));
    CHECK(guard_of("guard = false", ", guard = true"));
    CHECK_FALSE(guard_of("", ", guard = false"));
    CHECK(good("[vm.a]\ninterface = [{ local = true }]\n").vms[0].interfaces[0].guard == true);
    CHECK(good("[vm.a]\ninterface = [{ }]\n").vms[0].interfaces[0].guard == false);
    CHECK(bad("[vm.a]\ninterface = [{ guard = true }]\n") ==
          "t.toml:2:24: vm.a.interface[0].guard: has no effect without a switch");
}

TEST_CASE("a storm is limited, by how much, or not at all") {
    auto storm_of = [](const char* key) {
        return good(fmt::format("[switch.s]\n{}\n", key)).switches[0].storm;
    };
    CHECK(storm_of("") == StormLimit{true, 1000, 2000});
    CHECK(storm_of("storm = true") == StormLimit{true, 1000, 2000});
    CHECK_FALSE(storm_of("storm = false").enabled);
    CHECK(storm_of("storm = { frames = 10 }") == StormLimit{true, 10, 2000});
    CHECK(storm_of("storm = { frames = 10, burst = 1 }") == StormLimit{true, 10, 1});
    CHECK(bad("[switch.s]\nstorm = 5\n") ==
          "t.toml:2:9: switch.s.storm: expected true, false or a table, got an integer");
    CHECK_FALSE(bad("[switch.s]\nstorm = { frames = 0 }\n").empty());
}

// What a switch is joined with: VLANs, segments, routing domains, and what does not go together.
#include "helpers.h"

using namespace vmhost;
using namespace vmhost::config;

TEST_CASE("a port is a name, or a table that says its VLANs") {
    auto model = good("[switch.s]\nvlan = 1\nports = [\"eth0\", { interface = \"eth1\", vlan = 5, "
                      "trunk = [9, 7] }]\n"
                      "[switch.t]\nports = [{ interface = \"eth2.931\", parent = \"eth2\", "
                      "vlan = 931 }]\n"
                      "[vm.a]\ninterface = [{ switch = \"s\", vlan = 12 }, "
                      "{ switch = \"s\", trunk = [12, 13] }]\n");
    const auto& s = model.switches[0];
    CHECK(s.vlan == 1U);
    CHECK(s.ports[0] == SwitchPort{.interface = "eth0"});
    CHECK(s.ports[1].vlan == 5U);
    CHECK(s.ports[1].trunk == std::vector<unsigned>{9, 7});
    CHECK(model.switches[1].ports[0].parent == "eth2");
    CHECK(model.switches[1].ports[0].vlan == 931U);
    CHECK(model.vms[0].interfaces[1].trunk == std::vector<unsigned>{12, 13});
    // A file of names and tables prints as one.
    CHECK(print(model).find("ports = [\"eth0\", { interface = \"eth1\"") != std::string::npos);
    CHECK(parse(print(model), "t.toml").value() == model);
}

TEST_CASE("VLANs that do not go together are refused where they stand") {
    CHECK(bad("[switch.s]\nports = [{ interface = \"eth1\", vlan = 5 }]\n") ==
          "t.toml:2:39: switch.s.ports[0].vlan: switch \"s\" knows no VLANs: give it a vlan, that "
          "of this host and of who names none");
    CHECK(bad("[switch.s]\n[vm.a]\ninterface = [{ switch = \"s\", trunk = [5] }]\n")
              .starts_with("t.toml:3:38: vm.a.interface[0].trunk: switch \"s\" knows no VLANs"));
    CHECK(bad("[vm.a]\ninterface = [{ vlan = 5 }]\n") ==
          "t.toml:2:23: vm.a.interface[0].vlan: has no effect without a switch");
    CHECK(bad("[switch.s]\nvlan = 1\n[vm.a]\ninterface = [{ switch = \"s\", vlan = 5, trunk = [5] "
              "}]\n") ==
          "t.toml:4:48: vm.a.interface[0].trunk: VLAN 5 cannot pass with its tag and without: it "
          "is \"vlan\" too");
    CHECK(bad("[switch.s]\nvlan = 4095\n").find("from 1 to 4094") != std::string::npos);
    CHECK(bad("[switch.s]\nports = [{ interface = \"x\", parent = \"eth1\" }]\n") ==
          "t.toml:2:38: switch.s.ports[0].parent: which VLAN of it? \"vlan\" is missing");
    CHECK(bad("[switch.s]\nvlan = 1\nports = [{ interface = \"x\", parent = \"eth1\", vlan = 5 "
              "}]\n")
              .find("make the parent a port of it, with a trunk") != std::string::npos);
    CHECK(bad("[switch.s]\nports = [{ interface = \"x\", parent = \"eth1\", vlan = 5 }]\n"
              "[switch.t]\nports = [{ interface = \"y\", parent = \"eth1\", vlan = 5 }]\n")
              .find("\"VLAN 5 of eth1\" is taken by switch.s.ports[0].vlan at line 2") !=
          std::string::npos);
    CHECK(bad("[switch.s]\nports = [\"eth1\"]\n"
              "[switch.t]\nports = [{ interface = \"y\", parent = \"eth1\", vlan = 5 }]\n")
              .find("\"eth1\" is part of switch \"s\" at line 1") != std::string::npos);
    CHECK(bad("[switch.s]\nports = [{ parent = \"eth1\", vlan = 5 }]\n").find("interface") !=
          std::string::npos);
    CHECK(bad("[switch.s]\nports = [7]\n").find("expected") != std::string::npos);
}

TEST_CASE("a segment has its overhead taken from the switch's packets") {
    const std::string segment =
        "vxlan = { id = 42, local = \"192.0.2.1\", peers = [\"192.0.2.2\"] }\n";
    auto model = good("[switch.s]\n" + segment);
    CHECK(model.switches[0].mtu == 1450);
    CHECK(model.switches[0].vxlan->port == 4789);
    CHECK(good("[switch.s]\nmtu = 1500\n" + segment).switches[0].mtu == 1500);
    CHECK(bad("[switch.s]\n" + segment + "[switch.t]\n" + segment) ==
          "t.toml:4:16: switch.t.vxlan.id: \"vxlan42\" is taken by switch.s.vxlan.id at line 2");
    CHECK(bad("[switch.s]\nvlan = 1\n" + segment).find("make a switch for each of them") !=
          std::string::npos);
    CHECK(bad("[switch.s]\nvxlan = { id = 1, local = \"192.0.2.1\", peers = [\"192.0.2.1\"] }\n")
              .find("192.0.2.1 is this host itself") != std::string::npos);
    CHECK(bad("[switch.s]\nvxlan = { id = 1, local = \"239.0.0.1\" }\n")
              .find("not an address that a host can have") != std::string::npos);
    CHECK(bad("[switch.s]\nvxlan = { local = \"192.0.2.1\" }\n").find("id") != std::string::npos);
}

TEST_CASE("groups, routing domains and isolation") {
    auto model = good("[switch.s]\nrdomain = 3\ngroup = \"tenants\"\nisolated = true\n"
                      "[vm.a]\ninterface = [{ switch = \"s\", rdomain = 3 }, { rdomain = 4 }, "
                      "{ local = true, rdomain = 5, group = \"x\" }, "
                      "{ switch = \"s\", isolated = false }]\n");
    const auto& wires = model.vms[0].interfaces;
    CHECK(wires[0].isolated == true);
    CHECK(wires[1].isolated == false);
    CHECK(wires[3].isolated == false);
    CHECK(model.find_switch(wires[2].switch_name)->rdomain == 5);
    CHECK(bad("[switch.s]\nrdomain = 254\n") ==
          "t.toml:2:11: switch.s.rdomain: Linux has the tables 253 to 255 of routes for itself");
    CHECK(bad("[switch.s]\n[vm.a]\ninterface = [{ switch = \"s\", rdomain = 4 }]\n") ==
          "t.toml:3:40: vm.a.interface[0].rdomain: an interface is in the routing domain of its "
          "switch, 0 of \"s\" at line 1: leave it out");
    CHECK(bad("[vm.a]\ninterface = [{ isolated = true }]\n") ==
          "t.toml:2:27: vm.a.interface[0].isolated: has no effect without a switch");
}

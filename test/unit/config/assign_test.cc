#include "helpers.h"

#include <map>
#include <set>

using namespace vmhost;
using namespace vmhost::config;

namespace {

std::string file_with(const std::vector<std::string>& vms, std::string_view subnet = "10.9.0.1/16",
                      std::string_view host = "h") {
    auto text = fmt::format("[host]\nname = \"{}\"\n[switch.lan]\nipv4 = \"{}\"\n", host, subnet);
    for (const auto& vm : vms)
        text += fmt::format("[vm.{}]\ninterface = [{{ switch = \"lan\" }}]\n", vm);
    return text;
}

std::vector<std::string> names(std::string_view prefix, int count) {
    std::vector<std::string> out;
    for (int i = 0; i < count; ++i)
        out.push_back(fmt::format("{}{}", prefix, i));
    return out;
}

} // namespace

TEST_CASE("derived addresses are part of the interface") {
    // Fixed values: a change of the hash would give every guest a new address. (Computed by another
    // program.)
    auto model = good(file_with({"a", "b"}, "10.9.8.1/24", "server8"));
    CHECK(model.vms[0].interfaces[0].lladdr.text() == "fe:e1:bb:d1:58:53");
    CHECK(model.vms[1].interfaces[0].lladdr.text() == "fe:e1:bb:d1:ae:f2");
    CHECK(model.vms[0].interfaces[0].ipv4->text() == "10.9.8.47");
    CHECK(model.vms[1].interfaces[0].ipv4->text() == "10.9.8.108");
}

TEST_CASE("a UUID is of the host's and the VM's names, and part of the interface") {
    CHECK(uuid_of("server8", "vm13") == Uuid{0x1b3d9dcc5ff18876, 0x9a427b1127329c82});
    CHECK_FALSE(uuid_of("server8", "vm14") == uuid_of("server8", "vm13"));
    CHECK_FALSE(uuid_of("server9", "vm13") == uuid_of("server8", "vm13"));
    for (std::string name : {"a", "b", "c", "vm1", "vm2", "vm3"}) {
        auto uuid = uuid_of("h", name);
        CHECK((uuid.high >> 12 & 0xf) == 8); // version
        CHECK(uuid.low >> 62 == 2);          // variant
    }
}

TEST_CASE("the Ethernet address tells the index") {
    auto model = good("[switch.x]\n[vm.a]\ninterface = [{switch=\"x\"},{switch=\"x\"},{switch="
                      "\"x\"}]");
    for (std::size_t i = 0; i < 3; ++i) {
        const auto& octets = model.vms[0].interfaces[i].lladdr.octets;
        CHECK(octets[0] == 0xfe);
        CHECK(octets[1] == 0xe1);
        CHECK(octets[2] == 0xbb);
        CHECK(octets[3] == 0xd1 + i);
        CHECK_FALSE(model.vms[0].interfaces[i].ipv4);
    }
}

TEST_CASE("another host has other Ethernet addresses and the same IPv4 addresses") {
    auto one = good(file_with({"a"}, "10.9.8.1/24", "one"));
    auto two = good(file_with({"a"}, "10.9.8.1/24", "two"));
    CHECK(one.vms[0].interfaces[0].lladdr != two.vms[0].interfaces[0].lladdr);
    CHECK(one.vms[0].interfaces[0].ipv4 == two.vms[0].interfaces[0].ipv4);
}

TEST_CASE("addresses stay when VMs are added before, between and behind") {
    auto before = names("vm", 40);
    auto model = good(file_with(before));
    auto more = names("extra", 20);
    auto after = more;
    after.insert(after.end(), before.begin(), before.end());
    auto grown = good(file_with(after));
    // Without collisions among these names every address stays.
    for (const Vm& vm : model.vms) {
        const Interface& now = grown.find_vm(vm.name)->interfaces[0];
        CHECK(now.lladdr == vm.interfaces[0].lladdr);
        CHECK(now.ipv4 == vm.interfaces[0].ipv4);
    }
    // Behind all others nothing can change, collisions or not.
    auto full = names("vm", 200);
    auto small = good(file_with(full, "10.9.8.1/24"));
    full.push_back("last");
    auto larger = good(file_with(full, "10.9.8.1/24"));
    for (const Vm& vm : small.vms)
        CHECK(larger.find_vm(vm.name)->interfaces == vm.interfaces);
}

TEST_CASE("a subnet is used to its last address and not beyond") {
    // /28: 14 addresses, one is the host's.
    auto model = good(file_with(names("v", 13), "10.9.8.5/28"));
    std::set<std::uint32_t> seen;
    for (const Vm& vm : model.vms) {
        auto address = *vm.interfaces[0].ipv4;
        CHECK(seen.insert(address.value).second);
        CHECK(address.text() != "10.9.8.5");
        CHECK(address.value > parse_ipv4("10.9.8.0")->value);
        CHECK(address.value < parse_ipv4("10.9.8.15")->value);
    }
    CHECK(bad(file_with(names("v", 14), "10.9.8.5/28")) ==
          "t.toml:32:14: vm.v13.interface[0]: switch \"lan\" has no free address: 10.9.8.5/28 has "
          "14 in all");
    CHECK_FALSE(bad("[switch.s]\nipv4 = \"10.0.0.1/30\"\n[vm.a]\ninterface = [{switch=\"s\"},"
                    "{switch=\"s\"}]")
                    .empty());
}

TEST_CASE("given addresses and known machines are left alone") {
    std::string text = "[switch.s]\nipv4 = \"10.0.0.1/29\"\ndhcp = { routers = [\"10.0.0.2\"], "
                       "domain_name_servers = [\"10.0.0.3\", \"192.0.2.1\"] }\n";
    text += "[vm.a]\ninterface = [{switch=\"s\"}, {switch=\"s\"}]\n";
    text += "[vm.b]\ninterface = [{switch=\"s\", ipv4 = \"10.0.0.4\"}]\n";
    auto model = good(text);
    std::set<std::string> derived;
    for (const Interface& interface : model.vms[0].interfaces)
        derived.insert(interface.ipv4->text());
    CHECK(derived == std::set<std::string>{"10.0.0.5", "10.0.0.6"});
}

TEST_CASE("a derived Ethernet address gives way to a given one") {
    auto first = good(file_with({"a"})).vms[0].interfaces[0].lladdr;
    auto model = good(
        file_with({"a"}) +
        fmt::format("[vm.b]\ninterface = [{{ switch = \"lan\", lladdr = \"{}\" }}]", first.text()));
    CHECK(model.vms[1].interfaces[0].lladdr == first);
    auto moved = model.vms[0].interfaces[0].lladdr;
    CHECK(moved != first);
    CHECK(moved.octets[3] == 0xd1);
}

TEST_CASE("4096 VMs get 4096 Ethernet addresses") {
    auto model = good(file_with(names("v", 4096)));
    std::set<Mac> ethernet;
    std::set<Ipv4> addresses;
    std::map<int, int> high_bytes;
    for (const Vm& vm : model.vms) {
        ethernet.insert(vm.interfaces[0].lladdr);
        addresses.insert(*vm.interfaces[0].ipv4);
        ++high_bytes[vm.interfaces[0].lladdr.octets[4]];
    }
    CHECK(ethernet.size() == 4096);
    CHECK(addresses.size() == 4096);
    CHECK(high_bytes.size() > 250); // the hash spreads: 16 of each are expected
}

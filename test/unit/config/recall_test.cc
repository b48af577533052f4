// What VMs had before, against what the file and the rules would give them now.
#include "helpers.h"

#include <set>

using namespace vmhost;
using namespace vmhost::config;

namespace {

std::string file_with(const std::vector<std::string>& vms, std::string_view subnet = "10.9.8.1/24",
                      std::string_view more = "") {
    auto text = fmt::format("[host]\nname = \"h\"\n[switch.lan]\nipv4 = \"{}\"\n{}", subnet, more);
    for (const auto& vm : vms)
        text +=
            fmt::format("[vm.{}]\ninterface = [{{ switch = \"lan\" }}, {{ local = true }}]\n", vm);
    return text;
}

// A VM with its first interface on lan, as the file says.
std::string vm_with(std::string_view name, std::string_view keys) {
    return fmt::format("[vm.{}]\ninterface = [{{ switch = \"lan\", {} }}]\n", name, keys);
}

// Everything that the model has, as if it had been derived.
Remembered memory_of(const Model& model) {
    Remembered out;
    for (const Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i)
            out.interfaces.push_back({.vm = vm.name,
                                      .index = i,
                                      .lladdr = vm.interfaces[i].lladdr,
                                      .switch_name = vm.interfaces[i].switch_name,
                                      .ipv4 = vm.interfaces[i].ipv4});
    return out;
}

Model recalled(const std::string& text, const Remembered& remembered) {
    auto model = recall(good(text), remembered);
    if (!model) {
        for (const auto& complaint : model.error())
            UNSCOPED_INFO(complaint.message());
        FAIL("refused:\n" << text);
    }
    return *std::move(model);
}

std::string refused(const std::string& text, const Remembered& remembered) {
    auto model = recall(good(text), remembered);
    return model ? std::string() : model.error().front().message();
}

Remembered one(std::string vm, const char* lladdr, const char* ipv4, std::string on = "lan") {
    Remembered out;
    out.interfaces.push_back({.vm = std::move(vm),
                              .index = 0,
                              .lladdr = *parse_mac(lladdr),
                              .switch_name = std::move(on),
                              .ipv4 = *parse_ipv4(ipv4)});
    return out;
}

const Interface& first_of(const Model& model, std::string_view vm) {
    return model.find_vm(vm)->interfaces[0];
}

} // namespace

TEST_CASE("without anything remembered a model stays as it is") {
    auto text = file_with({"a", "b", "c"});
    CHECK(recalled(text, {}) == good(text));
    auto model = good(text);
    CHECK(recalled(text, memory_of(model)) == model);
}

TEST_CASE("addresses stay when the file is put in another order, with collisions") {
    std::vector<std::string> names;
    for (int i = 0; i < 120; ++i) // of 253 addresses: many collide
        names.push_back(fmt::format("vm{}", i));
    auto before = good(file_with(names));
    auto turned = names;
    std::ranges::reverse(turned);
    turned.insert(turned.begin(), {"new0", "new1", "new2"});
    auto derived = good(file_with(turned));
    auto after = recalled(file_with(turned), memory_of(before));
    unsigned moved = 0;
    std::set<std::string> addresses;
    for (const auto& name : names) {
        CHECK(after.find_vm(name)->interfaces == before.find_vm(name)->interfaces);
        moved += first_of(derived, name).ipv4 != first_of(before, name).ipv4 ? 1 : 0;
    }
    CHECK(moved > 0); // else this test would tell nothing
    for (const Vm& vm : after.vms)
        for (const auto& interface : vm.interfaces) {
            CHECK(addresses.insert(interface.lladdr.text()).second);
            CHECK(addresses.insert(interface.ipv4->text()).second);
        }
    for (const Vm& vm : after.vms) {
        const auto* wire = after.find_switch(vm.interfaces[1].switch_name);
        REQUIRE(wire);
        CHECK(wire->ipv4->address.value + 1 == vm.interfaces[1].ipv4->value);
    }
}

TEST_CASE("what a VM that is gone had is not derived for another") {
    auto model = good(file_with({"a"}));
    auto kept = memory_of(model);
    kept.interfaces[0].vm = kept.interfaces[1].vm = "gone"; // with the addresses that a derives
    kept.interfaces[1].switch_name = "gone:1";
    auto after = recalled(file_with({"a"}), kept);
    CHECK(first_of(after, "a").lladdr != first_of(model, "a").lladdr);
    CHECK(first_of(after, "a").ipv4 != first_of(model, "a").ipv4);
    CHECK(after.vms[0].interfaces[1].ipv4 != model.vms[0].interfaces[1].ipv4);
    // The same for an interface that the VM does not have now.
    kept = memory_of(model);
    kept.interfaces[0].index = 7;
    CHECK(first_of(recalled(file_with({"a"}), kept), "a").ipv4 != first_of(model, "a").ipv4);
    // And for another's VM of that name.
    kept = memory_of(model);
    kept.interfaces[0].of_another = true;
    CHECK(first_of(recalled(file_with({"a"}), kept), "a").ipv4 != first_of(model, "a").ipv4);
}

TEST_CASE("a file that gives an address wins over what was") {
    auto head = file_with({});
    auto before = one("a", "fe:e1:bb:d1:00:01", "10.9.8.50");
    auto own = recalled(head + vm_with("a", "ipv4 = \"10.9.8.60\", lladdr = \"02:00:00:00:00:01\""),
                        before);
    CHECK(first_of(own, "a").ipv4->text() == "10.9.8.60");
    CHECK(first_of(own, "a").lladdr.text() == "02:00:00:00:00:01");
    // What a had is free now: and of a VM that is gone the file may take it, too.
    auto taken = recalled(
        head + vm_with("a", "ipv4 = \"10.9.8.60\"") + vm_with("b", "ipv4 = \"10.9.8.50\""), before);
    CHECK(first_of(taken, "b").ipv4->text() == "10.9.8.50");
    CHECK(first_of(taken, "a").lladdr.text() == "fe:e1:bb:d1:00:01");
    CHECK(refused(head + vm_with("b", "ipv4 = \"10.9.8.50\""), before) == "");
    // What the file gave and does not give any more is derived.
    before.interfaces[0].lladdr_given = before.interfaces[0].ipv4_given = true;
    auto fresh = good(head + vm_with("a", "locked_lladdr = true"));
    CHECK(recalled(head + vm_with("a", "locked_lladdr = true"), before) == fresh);
}

TEST_CASE("a file that gives away what another of its VMs has is refused there") {
    auto head = file_with({});
    auto before = one("a", "fe:e1:bb:d1:00:01", "10.9.8.50");
    CHECK(
        refused(head + vm_with("a", "locked_lladdr = true") + vm_with("b", "ipv4 = \"10.9.8.50\""),
                before) ==
        "t.toml:8:32: vm.b.interface[0].ipv4: 10.9.8.50 is what vm.a.interface[0] has had so "
        "far: give that another one, too");
    CHECK(refused(head + vm_with("a", "locked_lladdr = true") +
                      vm_with("b", "lladdr = \"fe:e1:bb:d1:00:01\""),
                  before) ==
          "t.toml:8:32: vm.b.interface[0].lladdr: fe:e1:bb:d1:00:01 is what vm.a.interface[0] has "
          "had so far: give that another one, too");
}

TEST_CASE("an address that does not fit any more is derived anew") {
    auto kept = one("a", "fe:e1:bb:d1:00:01", "10.9.8.50");
    auto fresh = good(file_with({"a"}, "10.9.7.1/24"));
    auto moved = recalled(file_with({"a"}, "10.9.7.1/24"), kept);
    CHECK(first_of(moved, "a").ipv4 == first_of(fresh, "a").ipv4);
    CHECK(first_of(moved, "a").lladdr.text() == "fe:e1:bb:d1:00:01");
    // The host has taken it, a router, or it is of another switch.
    CHECK(first_of(recalled(file_with({"a"}, "10.9.8.50/24"), kept), "a").ipv4->text() !=
          "10.9.8.50");
    auto router = file_with({"a"}, "10.9.8.1/24", "dhcp = { routers = [\"10.9.8.50\"] }\n");
    CHECK(first_of(recalled(router, kept), "a").ipv4->text() != "10.9.8.50");
    kept.interfaces[0].switch_name = "wan";
    CHECK(first_of(recalled(file_with({"a"}), kept), "a").ipv4 ==
          first_of(good(file_with({"a"})), "a").ipv4);
}

TEST_CASE("a subnet that is full of the dead says so") {
    Remembered kept;
    for (int i = 2; i < 7; ++i) // all of a /29 but one
        kept.interfaces.push_back({.vm = fmt::format("gone{}", i),
                                   .index = 0,
                                   .switch_name = "lan",
                                   .ipv4 = Ipv4{0x0a090800U + static_cast<unsigned>(i)}});
    kept.interfaces.pop_back();
    CHECK(first_of(recalled(file_with({"a"}, "10.9.8.1/29"), kept), "a").ipv4->text() ==
          "10.9.8.6");
    CHECK_THAT(refused(file_with({"a", "b"}, "10.9.8.1/29"), kept),
               Catch::Contains("vm.b.interface[0]: switch \"lan\" has no free address") &&
                   Catch::Contains("4 of them of VMs that are gone, until vmhost forget"));
}

TEST_CASE("an instance gets back what it had, and nobody else's") {
    auto model = good(file_with({"t"}) + "[vm.t.allow_instance]\n");
    NewVm wish;
    wish.name = "i";
    wish.parent = "t";
    wish.anything_allowed = true;
    auto plain = add_vm(model, wish);
    REQUIRE(plain);
    auto again = add_vm(model, wish, one("i", "fe:e1:bb:d1:00:01", "10.9.8.50"));
    REQUIRE(again);
    CHECK(first_of(*again, "i").ipv4->text() == "10.9.8.50");
    CHECK(first_of(*again, "i").lladdr.text() == "fe:e1:bb:d1:00:01");
    CHECK(again->find_vm("t")->interfaces == model.find_vm("t")->interfaces);
    auto others = one("i", "fe:e1:bb:d1:00:01", "10.9.8.50");
    others.interfaces[0].of_another = true;
    others.interfaces[0].ipv4 = first_of(*plain, "i").ipv4;
    CHECK(first_of(*add_vm(model, wish, others), "i").ipv4 != first_of(*plain, "i").ipv4);
    // What it had is another VM's now.
    auto taken = add_vm(model, wish,
                        one("i", "fe:e1:bb:d1:00:01", first_of(model, "t").ipv4->text().c_str()));
    CHECK_FALSE((!taken || first_of(*taken, "i").ipv4 == first_of(model, "t").ipv4));
}

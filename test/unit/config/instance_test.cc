// What an instance has from its template, in the file and of a client's wish.
#include "helpers.h"

using namespace vmhost;
using namespace vmhost::config;

namespace {

const Vm& vm(const Model& model, std::string_view name) {
    REQUIRE(model.find_vm(name));
    return *model.find_vm(name);
}

} // namespace

TEST_CASE("an instance has every setting that it does not have itself") {
    auto model = good(R"(
[switch.lan]
ipv4 = "10.9.8.1/24"
[vm.a]
instance_of = "t"
memory = "1G"
disk = [{ path = "a.raw" }]
[vm.t]
enable = false
owner = "alice"
memory = "256M"
vcpus = 2
cpu_weight = 50
boot = "/bsd"
boot_flags = ["single_user"]
cdrom = "x.iso"
console_log = { path = "/log", size = "2M" }
disk = [{ path = "t.raw" }]
interface = [{ switch = "lan", lladdr = "02:00:00:00:00:01", ipv4 = "10.9.8.7", tap = "t0", locked_lladdr = false, limit = { bytes = "1M" } }]
install = { hostname = "t", user = "puffy" }
)");
    const Vm& a = vm(model, "a");
    CHECK(a.enabled);
    CHECK(a.memory_bytes == 1024 * MiB);
    CHECK(a.owner == Owner{"alice", ""});
    CHECK(a.vcpus == 2);
    CHECK(a.cpu_weight == 50);
    CHECK(a.boot == "/bsd");
    CHECK(a.boot_flags == std::vector<std::string>{"single_user"});
    CHECK(a.cdrom == "x.iso");
    CHECK(a.console_log.enabled);
    CHECK(a.console_log.path.empty());
    CHECK(a.console_log.size_bytes == 2 * MiB);
    REQUIRE(a.disks.size() == 1);
    CHECK(a.disks[0].path == "a.raw");
    CHECK(a.install->hostname == "a");
    CHECK(a.install->user == "puffy");
    REQUIRE(a.interfaces.size() == 1);
    const Interface& interface = a.interfaces[0];
    CHECK(interface.switch_name == "lan");
    CHECK(interface.limit->bytes == 1 * MiB);
    CHECK(interface.locked_lladdr == false);
    // What makes a machine itself is its own.
    CHECK(interface.lladdr != vm(model, "t").interfaces[0].lladdr);
    CHECK(interface.ipv4 != vm(model, "t").interfaces[0].ipv4);
    CHECK(interface.tap.empty());
    CHECK(good(print(model)) == model);
}

TEST_CASE("an interface of an instance replaces the one at its position") {
    auto model = good(R"(
[switch.a]
[switch.b]
[vm.t]
interface = [{ switch = "a", up = false }, { switch = "b" }]
[vm.i]
instance_of = "t"
interface = [{ local = true }]
[vm.j]
instance_of = "t"
interface = [{}, {}, { switch = "a" }]
)");
    const Vm& i = vm(model, "i");
    REQUIRE(i.interfaces.size() == 2);
    CHECK(i.interfaces[0].local);
    CHECK(i.interfaces[0].up);
    CHECK(i.interfaces[1].switch_name == "b");
    const Vm& j = vm(model, "j");
    REQUIRE(j.interfaces.size() == 3);
    CHECK(j.interfaces[0].switch_name.empty());
    CHECK(j.interfaces[1].switch_name.empty());
    CHECK(j.interfaces[2].switch_name == "a");
}

TEST_CASE("instances of instances, in any order") {
    auto model = good("[vm.c]\ninstance_of = \"b\"\n[vm.b]\ninstance_of = \"a\"\nvcpus = 3\n"
                      "[vm.a]\nmemory = \"64M\"\n");
    CHECK(vm(model, "c").memory_bytes == 64 * MiB);
    CHECK(vm(model, "c").vcpus == 3);
    CHECK(vm(model, "a").vcpus == 1);
}

TEST_CASE("a template that cannot be one is named") {
    CHECK(bad("[vm.a]\ninstance_of = \"golen\"\n[vm.golden]\n") ==
          "t.toml:2:15: vm.a.instance_of: there is no VM \"golen\": did you mean \"golden\"?");
    CHECK(bad("[vm.a]\ninstance_of = \"a\"\n") ==
          "t.toml:2:15: vm.a.instance_of: \"a\" is an instance of this VM itself, or of an "
          "instance of it");
    auto circle = bad("[vm.a]\ninstance_of = \"b\"\n[vm.b]\ninstance_of = \"c\"\n[vm.c]\n"
                      "instance_of = \"a\"\n");
    CHECK(circle == "t.toml:6:15: vm.c.instance_of: \"a\" is an instance of this VM itself, or of "
                    "an instance of it");
    CHECK(bad("[vm.a]\ninstance_of = 7\n") ==
          "t.toml:2:15: vm.a.instance_of: expected a name such as \"lan\", got an integer");
}

TEST_CASE("a long chain of instances is read without recursion") {
    std::string text;
    for (int i = 0; i < 4000; ++i)
        text += fmt::format("[vm.v{}]\ninstance_of = \"v{}\"\n", i, i + 1);
    auto model = good(text + "[vm.v4000]\nvcpus = 5\n");
    CHECK(vm(model, "v0").vcpus == 5);
}

TEST_CASE("permission to make instances is only had from a template that allows it") {
    auto model = good(R"(
[vm.t]
allow_instance = { owner = ":students", options = ["disk", "instance"] }
[vm.u]
allow_instance = { owner = ":students", options = ["disk"] }
[vm.a]
instance_of = "t"
[vm.b]
instance_of = "u"
)");
    CHECK(vm(model, "a").allow_instance == vm(model, "t").allow_instance);
    CHECK_FALSE(vm(model, "b").allow_instance);
    CHECK(bad("[vm.t]\nallow_instance = { options = [\"memroy\"] }\n") ==
          "t.toml:2:31: vm.t.allow_instance.options[0]: \"memroy\" is none of \"boot\", "
          "\"memory\", \"interface\", \"disk\", \"cdrom\", \"instance\": did you mean \"memory\"?");
}

namespace {

const char* templates = R"(
[host]
name = "h"
[switch.lan]
ipv4 = "10.9.8.1/24"
dhcp = false
[vm.t]
enable = false
memory = "256M"
boot = "/bsd"
boot_flags = ["config"]
disk = [{ path = "t.raw" }]
interface = [{ switch = "lan" }]
allow_instance = { owner = ":students", options = ["memory", "disk"] }
[vm.free]
allow_instance = { options = ["boot", "memory", "interface", "disk", "cdrom", "instance"] }
[vm.other]
disk = [{ path = "/other.raw" }]
interface = [{ switch = "lan" }, { local = true }]
)";

NewVm wish_of(std::string parent) {
    NewVm wish;
    wish.name = "i";
    wish.parent = std::move(parent);
    return wish;
}

std::string refusal(const Model& model, const NewVm& wish) {
    auto added = add_vm(model, wish);
    return added ? "" : added.error().message();
}

} // namespace

TEST_CASE("a client's instance has what its template has and what it chose") {
    auto model = good(templates);
    auto wish = wish_of("t");
    wish.memory_bytes = 100 * MiB + 5;
    wish.owner = Owner{"1000", ""};
    Disk disk;
    disk.path = "/home/alice/i.qcow2";
    wish.disks = {disk};
    auto added = add_vm(model, wish);
    REQUIRE(added);
    const Vm& i = added->vms.back();
    CHECK(i.name == "i");
    CHECK(i.instance_of == "t");
    CHECK(i.memory_bytes == 100 * MiB);
    CHECK(i.boot == "/bsd");
    CHECK(i.boot_flags == std::vector<std::string>{"config"});
    CHECK(i.owner.user == "1000");
    REQUIRE(i.disks.size() == 1);
    CHECK(i.disks[0].serial == "i-0");
    CHECK(i.interfaces[0].switch_name == "lan");
    CHECK(i.interfaces[0].locked_lladdr == true);
    CHECK_FALSE(i.interfaces[0].lladdr.is_zero());
    CHECK(i.interfaces[0].lladdr != model.vms[0].interfaces[0].lladdr);
    CHECK(i.interfaces[0].ipv4 != model.vms[0].interfaces[0].ipv4);
    // The others are as they were, and it can go again.
    auto without = *added;
    remove_vm(without, "i");
    CHECK(without == model);
    CHECK(added->switches == model.switches);
}

TEST_CASE("a client's instance may choose what its template allows, root everything") {
    auto model = good(templates);
    auto refused = [&](auto change) {
        auto wish = wish_of("t");
        change(wish);
        auto text = refusal(model, wish);
        wish.anything_allowed = true;
        CHECK(refusal(model, wish) == "");
        wish.anything_allowed = false;
        wish.parent = "free";
        CHECK(refusal(model, wish) == "");
        return text;
    };
    CHECK(refused([](NewVm& w) { w.boot = "/x"; }) ==
          "vm i: an instance of t may not choose its boot: \"boot\" is missing in allow_instance "
          "of [vm.t]");
    CHECK(refused([](NewVm& w) { w.cdrom = "/x.iso"; }).find("its cdrom") != std::string::npos);
    CHECK(refused([](NewVm& w) { w.interfaces_min = 2; }).find("its interface") !=
          std::string::npos);
    CHECK(refused([](NewVm& w) { w.interfaces.resize(1); }).find("its interface") !=
          std::string::npos);
    CHECK(refused([](NewVm& w) { w.memory_bytes = 64 * MiB; }).empty());
    auto denied = add_vm(model, wish_of(""));
    REQUIRE_FALSE(denied);
    CHECK(denied.error().kind() == ErrorKind::denied);
    CHECK(denied.error().text() == "vm i: only root makes a VM that is no instance of another");
    auto suspended = model;
    for (auto& one : suspended.vms)
        one.suspended = true;
    CHECK(refusal(suspended, wish_of("t")) == "vm t is suspended: only root makes instances of it");
    auto by_root = wish_of("t");
    by_root.anything_allowed = true;
    CHECK(refusal(suspended, by_root).empty());
    // An instance of an instance.
    auto second = wish_of("i");
    second.name = "j";
    CHECK(refusal(*add_vm(model, wish_of("t")), second).find("its instance") != std::string::npos);
    CHECK(refusal(*add_vm(model, wish_of("free")), second) == "");
    auto wish = wish_of("none");
    CHECK(refusal(model, wish) == "invalid template: there is no vm none");
}

TEST_CASE("a client's VM is checked as the file is") {
    auto model = good(templates);
    auto root = wish_of("");
    root.anything_allowed = true;
    CHECK(refusal(model, root) == "");
    auto wish = root;
    wish.name = "t";
    CHECK(refusal(model, wish) == "vm t exists already");
    wish.name = "../x";
    CHECK(refusal(model, wish) != "");
    wish.name = "12";
    CHECK(refusal(model, wish).find("a name of digits only") != std::string::npos);
    wish = root;
    wish.disks.resize(1);
    wish.disks[0].path = "/other.raw";
    CHECK(refusal(model, wish).find("is the disk of vm.other.disk[0].path") != std::string::npos);
    wish = root;
    wish.interfaces.resize(1);
    wish.interfaces[0].switch_name = "wan";
    CHECK(refusal(model, wish).find("there is no switch \"wan\"") != std::string::npos);
    wish = root;
    wish.memory_bytes = 100;
    CHECK(refusal(model, wish) == "vm i: memory is from 1M to 128G");
    wish = root;
    wish.interfaces_min = 17;
    CHECK(refusal(model, wish) == "vm i: 17 interfaces: there may be at most 16");
    wish = root;
    wish.disks.resize(17);
    CHECK(refusal(model, wish) == "vm i: 17 disks: there may be at most 16");
}

TEST_CASE("a client's VM with a local interface brings a switch and takes it along") {
    auto model = good(templates);
    auto wish = wish_of("");
    wish.anything_allowed = true;
    wish.interfaces.resize(1);
    wish.interfaces[0].local = true;
    wish.interfaces_min = 3;
    auto added = add_vm(model, wish);
    REQUIRE(added);
    CHECK(added->vms.back().interfaces.size() == 3);
    CHECK(added->switches.size() == model.switches.size() + 1);
    CHECK(added->switches.back().name == "i:0");
    CHECK(added->vms.back().interfaces[0].ipv4);
    CHECK(good(print(*added)) == *added);
    remove_vm(*added, "i");
    CHECK(*added == model);
}

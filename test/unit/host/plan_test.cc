// What a plan says of each kind of change.
#include <catch2/catch.hpp>

#include "host/plan.h"

using namespace vmhost;
using namespace vmhost::host;

namespace {

config::Model model(const std::string& text) {
    auto parsed = config::parse("[host]\nname = \"h\"\n" + text, "t.toml");
    INFO((parsed ? std::string() : parsed.error().front().message()));
    REQUIRE(parsed);
    return std::move(*parsed);
}

using Lines = std::vector<std::string>;

// "SUBJECT KEY EFFECT" of each change; running are the VMs that run.
Lines told(const std::string& before, const std::string& after, const Lines& running = {"a"}) {
    std::vector<VmState> states;
    for (const auto& name : running)
        states.push_back({name, true});
    Lines out;
    for (const auto& change : make_plan(model(before), model(after), states).changes)
        out.push_back(fmt::format("{}: {}: {}", change.subject, change.difference.key,
                                  name_of(change.effect)));
    return out;
}

const std::string lan = "[switch.lan]\nipv4 = \"10.9.8.1/24\"\n";
const std::string on_lan = "[vm.a]\ninterface = [{ switch = \"lan\", ipv4 = \"10.9.8.5\" }]\n";

std::string vm(const std::string& more) {
    return "[vm.a]\n" + more + "\n";
}

} // namespace

TEST_CASE("what a guest can see needs a restart, if it runs") {
    for (const char* key : {"memory = \"1G\"", "vcpus = 2", "cpu = \"baseline\"", "boot = \"bsd\"",
                            "cdrom = \"\"", "balloon = true", "disk = [{ path = \"a.img\" }]"}) {
        INFO(key);
        auto running = told(vm(""), vm(key));
        REQUIRE(running.size() == 1);
        CHECK(running[0].ends_with(": restart"));
        auto stopped = told(vm(""), vm(key), {});
        REQUIRE(stopped.size() == 1);
        CHECK(stopped[0].ends_with(": none"));
    }
}

TEST_CASE("what only the host knows disturbs nobody") {
    for (const char* key : {"enable = false", "owner = \"nobody\"", "restart = \"always\"",
                            "stop_timeout = \"9s\"", "stop_answer_timeout = \"9s\""}) {
        INFO(key);
        auto lines = told(vm(""), vm(key));
        REQUIRE(lines.size() == 1);
        CHECK(lines[0].ends_with(": none"));
    }
    CHECK(told(vm(""), vm("console_log = true"))[0].ends_with(": next start"));
}

TEST_CASE("VMs that come and go") {
    CHECK(told("", "[vm.a]\n[vm.b]\nenable = false\n", {}) ==
          Lines{"vm a: vm.a: start", "vm b: vm.b: none"});
    CHECK(told("[vm.a]\n[vm.b]\n", "") == Lines{"vm a: vm.a: stop", "vm b: vm.b: none"});
}

TEST_CASE("a switch that is made anew takes its guests down, another does not") {
    CHECK(told(lan + on_lan, lan + "mtu = 1400\n" + on_lan) ==
          Lines{"switch lan: switch.lan.mtu: restart", "vm a: vm.a: restart"});
    CHECK(told(lan + on_lan, lan + "mtu = 1400\n" + on_lan, {}) ==
          Lines{"switch lan: switch.lan.mtu: restart"});
    CHECK(told(lan + on_lan, lan + "dhcp = { lease_time = \"1h\" }\n" + on_lan) ==
          Lines{"switch lan: switch.lan.dhcp.lease_time: service"});
    CHECK(told(lan + on_lan, "[switch.lan]\nipv4 = \"10.9.8.2/24\"\n" + on_lan) ==
          Lines{"switch lan: switch.lan.ipv4: reconnect",
                "switch lan: switch.lan.dhcp.routers: service",
                "switch lan: switch.lan.dhcp.next_server: service"});
    CHECK(told("", lan, {}) == Lines{"switch lan: switch.lan: service"});
    const std::string joined = "vxlan = { id = 7, local = \"192.0.2.1\", peers = [] }\n";
    CHECK(told(lan + "mtu = 1450\n" + on_lan, lan + "mtu = 1450\n" + joined + on_lan) ==
          Lines{"switch lan: switch.lan.vxlan: reconnect"});
    CHECK(told(lan + on_lan, lan + "rdomain = 4\n" + on_lan) ==
          Lines{"switch lan: switch.lan.rdomain: reconnect"});
    CHECK(told(lan + on_lan, lan + "group = \"tenants\"\n" + on_lan) ==
          Lines{"switch lan: switch.lan.group: next start"});
    CHECK(told("[vm.a]\ninterface = [{}]\n", "[vm.a]\ninterface = [{ vhost = false }]\n") ==
          Lines{"vm a: vm.a.interface[0].vhost: next start"});
    CHECK(told(lan + on_lan, lan + "isolated = true\n" + on_lan) ==
          Lines{"switch lan: switch.lan.isolated: none",
                "vm a: vm.a.interface[0].isolated: restart"});
}

TEST_CASE("names may have dots") {
    const std::string a = "[vm.\"a.b\"]\n", lan1 = "[switch.\"l.1\"]\ninterface = \"br1\"\n";
    CHECK(told(a, a + "memory = \"1G\"\n", {"a.b"}) == Lines{"vm a.b: vm.a.b.memory: restart"});
    CHECK(told(a, "", {"a.b"}) == Lines{"vm a.b: vm.a.b: stop"});
    CHECK(told("", a, {}) == Lines{"vm a.b: vm.a.b: start"});
    CHECK(told(lan1, "[switch.\"l.1\"]\ninterface = \"br2\"\n", {}) ==
          Lines{"switch l.1: switch.l.1.interface: restart"});
}

TEST_CASE("a guest whose switch an earlier order lost is plugged in again") {
    auto running = model(lan + on_lan);
    running.switches.clear();
    auto plan = make_plan(running, model(lan + on_lan), {{"a", true}});
    CHECK(plan.effect_on("vm a") == Effect::restart);
}

TEST_CASE("what only a new daemon can have refuses the plan") {
    auto plan = make_plan(model("user = \"one\"\n"), model("user = \"two\"\n"), {});
    REQUIRE(plan.refused());
    CHECK(plan.refused()->difference.key == "host.user");
    CHECK(plan.refused()->difference.place.line == 3);
    CHECK(told("", "stop_timeout = \"9s\"\n") == Lines{"host: host.stop_timeout: none"});
    CHECK_FALSE(make_plan(model(""), model("[vm.a]\n"), {}).refused());
}

TEST_CASE("a digest is one of names, values and effects") {
    auto digest = [](const std::string& after, const std::vector<VmState>& states) {
        return make_plan(model(vm("")), model(after), states).digest();
    };
    CHECK(digest(vm("vcpus = 2"), {}) == digest("\n\n" + vm("vcpus = 2"), {}));
    CHECK(digest(vm("vcpus = 2"), {}) != digest(vm("vcpus = 3"), {}));
    // Nor does what is not shown: inside a new table, or secret.
    CHECK(digest(vm("") + "[vm.b]\nvcpus = 2\n", {}) != digest(vm("") + "[vm.b]\nvcpus = 3\n", {}));
    CHECK(digest(vm("install = { password = \"1\" }"), {}) !=
          digest(vm("install = { password = \"2\" }"), {}));
    CHECK(digest(vm("vcpus = 2"), {}) != digest(vm("vcpus = 2"), {{"a", true}}));
}

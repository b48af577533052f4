// What a host remembers, and what it says of where things come from.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <sys/stat.h>

#include "host/explain.h"
#include "host/memory.h"

using namespace vmhost;
using namespace vmhost::host;

namespace {

struct Folder {
    Folder() {
        path = (std::filesystem::temp_directory_path() / "vmhost-XXXXXX").string();
        REQUIRE(::mkdtemp(path.data()) != nullptr);
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    std::string path;
};

config::Model model_of(const std::string& text, const std::string& state = "/nowhere") {
    auto model = config::parse(fmt::format("[host]\nname = \"h\"\nstate = \"{}\"\n", state) + text,
                               "t.toml");
    INFO((model ? std::string() : model.error().front().message()));
    REQUIRE(model);
    return std::move(*model);
}

const std::string lan = "[switch.lan]\nipv4 = \"10.9.8.1/24\"\n";

std::string vm(const std::string& name, const std::string& more = "") {
    return fmt::format("[vm.{}]\ninterface = [{{ switch = \"lan\"{} }}]\n", name, more);
}

Memory opened(const Folder& folder) {
    config::Host host;
    host.name = "h";
    host.state = folder.path;
    auto memory = Memory::open(host);
    INFO((memory ? std::string() : memory.error().message()));
    REQUIRE(memory);
    return *std::move(memory);
}

std::vector<std::uint32_t> note(Memory& memory, const config::Model& model) {
    std::vector<Noted> vms;
    for (const auto& one : model.vms)
        vms.push_back({&model, &one, {}});
    auto ids = memory.note(vms);
    REQUIRE(ids);
    return *ids;
}

config::Model recalled(Memory& memory, const std::string& text) {
    auto remembered = memory.of_file();
    REQUIRE(remembered);
    auto model = config::recall(model_of(text), *remembered);
    REQUIRE(model);
    return *model;
}

// "WHAT VALUE SOURCE LINE TEXT", line and text when there are any.
std::vector<std::string> told(const std::vector<Fact>& facts) {
    std::vector<std::string> out;
    for (const auto& fact : facts)
        out.push_back(
            fmt::format("{} {} {}{}{}", fact.what, fact.value, name_of(fact.source),
                        fact.place.line > 0 ? fmt::format(" {}", fact.place.line) : std::string(),
                        fact.text.empty() ? std::string() : " " + fact.text));
    return out;
}

std::string told_of(const std::vector<Fact>& facts, std::string_view what) {
    for (const auto& line : told(facts))
        if (line.starts_with(std::string(what) + " "))
            return line;
    return {};
}

} // namespace

TEST_CASE("a VM that comes back has its id and its addresses") {
    Folder folder;
    auto first = model_of(lan + vm("a") + vm("b") + vm("c"));
    {
        auto memory = opened(folder);
        CHECK(note(memory, first) == std::vector<std::uint32_t>{1, 2, 3});
    }
    auto memory = opened(folder);
    CHECK(note(memory, recalled(memory, lan + vm("c") + vm("a"))) ==
          std::vector<std::uint32_t>{3, 1});
    auto again = recalled(memory, lan + vm("new") + vm("b") + vm("a"));
    CHECK(note(memory, again) == std::vector<std::uint32_t>{4, 2, 1});
    for (auto name : {"a", "b"})
        CHECK(again.find_vm(name)->interfaces == first.find_vm(name)->interfaces);
}

TEST_CASE("what the file gave is not kept for its VM, and not derived for another") {
    Folder folder;
    auto memory = opened(folder);
    auto derived = model_of(lan + vm("b")).vms[0].interfaces[0].ipv4->text();
    note(memory, recalled(memory, lan + vm("a", fmt::format(", ipv4 = \"{}\"", derived))));
    auto after = recalled(memory, lan + vm("b")); // a is gone
    CHECK(after.vms[0].interfaces[0].ipv4->text() != derived);
    auto plain = recalled(memory, lan + vm("a"));
    CHECK(plain.vms[0].interfaces[0].ipv4 == model_of(lan + vm("a")).vms[0].interfaces[0].ipv4);
}

TEST_CASE("instances are remembered by who made them") {
    Folder folder;
    auto memory = opened(folder);
    auto model = model_of(lan + vm("i"));
    auto noted = [&](std::optional<std::uint32_t> maker) {
        return memory.note({{&model, &model.vms[0], maker}})->front();
    };
    CHECK(noted(1000) == 1);
    CHECK(noted(1001) == 2);
    CHECK(noted({}) == 3);
    CHECK(noted(1000) == 1);
    auto of = [&](std::uint32_t maker) {
        unsigned own = 0;
        auto remembered = memory.of_new("i", maker);
        REQUIRE(remembered);
        for (const auto& one : remembered->interfaces)
            own += one.of_another ? 0 : 1;
        return own;
    };
    CHECK(of(1000) == 1);
    CHECK(of(4711) == 0);
}

TEST_CASE("a state directory that is not there is told, and ids are given all the same") {
    config::Host host;
    host.name = "h";
    host.state = "/nowhere/at/all";
    auto memory = Memory::open(host);
    REQUIRE(memory);
    CHECK_THAT(memory->lost_because(), Catch::Contains("/nowhere/at/all/host.db"));
    auto model = model_of(lan + vm("a"));
    CHECK(note(*memory, model) == std::vector<std::uint32_t>{1});
    CHECK(Memory::look(host).error().kind() == ErrorKind::not_found);
}

TEST_CASE("a file that cannot be relied on stops the host") {
    Folder folder;
    config::Host host;
    host.name = "h";
    host.state = folder.path;
    std::ofstream(folder.path + "/host.db") << std::string(5000, 'x');
    ::chmod((folder.path + "/host.db").c_str(), 0600);
    auto memory = Memory::open(host);
    REQUIRE_FALSE(memory);
    CHECK(memory.error().kind() == ErrorKind::corrupt);
}

TEST_CASE("explain names the line, the default, the rule or the store") {
    Folder folder;
    auto memory = opened(folder);
    auto text = lan + "[vm.a]\nowner = \"alice\"\n" +
                "interface = [{ switch = \"lan\" }, { switch = \"lan\", ipv4 = \"10.9.8.7\" },"
                " { local = true }, {}]\n";
    auto model = model_of(text);
    auto facts = explain(model, model.vms[0], {});
    CHECK(told_of(facts, "vm") == "vm a file 6");
    CHECK(told_of(facts, "id") == "id - unknown given at its first start");
    CHECK(told_of(facts, "uid") == "");
    CHECK(told_of(facts, "owner") == "owner alice file 7");
    CHECK(told_of(facts, "start") == "start with the host default");
    CHECK(told_of(facts, "memory") == "memory 512M default");
    CHECK(told_of(facts, "boot") == "boot SeaBIOS default");
    CHECK(told_of(facts, "interface[0].switch") == "interface[0].switch lan file 8");
    CHECK_THAT(told_of(facts, "interface[0].tap"), Catch::Contains(" derived name of the VM"));
    CHECK_THAT(
        told_of(facts, "interface[0].lladdr"),
        Catch::Contains(model.vms[0].interfaces[0].lladdr.text() + " derived of the names") &&
            Catch::Contains("host.name by t.toml:2"));
    CHECK_THAT(told_of(facts, "interface[0].ipv4"),
               Catch::Contains(model.vms[0].interfaces[0].ipv4->text() +
                               " derived a free address of 10.9.8.1/24, switch.lan.ipv4 by "
                               "t.toml:5"));
    CHECK(told_of(facts, "interface[1].ipv4") == "interface[1].ipv4 10.9.8.7 file 8");
    CHECK(told_of(facts, "interface[2].local") == "interface[2].local true file 8");
    CHECK_THAT(told_of(facts, "interface[2].ipv4"),
               Catch::Contains("host.local.ipv4 by the default"));
    CHECK(told_of(facts, "interface[3].switch") == "interface[3].switch none default");
    CHECK_THAT(told_of(facts, "interface[3].ipv4"), Catch::Contains("plugged into nothing"));

    note(memory, model);
    Knowledge known;
    known.stored = *memory.store().find("a");
    known.running = RunningVm{.id = 1, .uid = 2113929217, .state = "running", .lease = "10.9.8.9"};
    facts = explain(model, model.vms[0], known);
    CHECK(told_of(facts, "id") == "id 1 remembered for this name");
    CHECK(told_of(facts, "uid") ==
          "uid 2113929217 derived vm_uids of [host], 2113929216 by the default, plus the id");
    CHECK_THAT(told_of(facts, "interface[0].ipv4"), Catch::Contains(" remembered a free address"));
    CHECK(told_of(facts, "interface[1].ipv4") == "interface[1].ipv4 10.9.8.7 file 8");
    CHECK(told_of(facts, "state") == "state running host");
    CHECK(told_of(facts, "lease") == "lease 10.9.8.9 host");
    for (const auto& fact : facts)
        if (fact.source == Fact::Source::remembered)
            CHECK(fact.since_s > 1'700'000'000);
}

TEST_CASE("explain follows templates, to the line that says so") {
    auto model = model_of(lan + "[vm.t]\nenable = false\nowner = \"alice\"\nmemory = \"1G\"\n"
                                "interface = [{ switch = \"lan\" }, { switch = \"lan\" }]\n"
                                "[vm.u]\ninstance_of = \"t\"\nmemory = \"2G\"\n"
                                "[vm.i]\ninstance_of = \"u\"\ninterface = [{}]\n");
    auto facts = explain(model, *model.find_vm("i"), {});
    CHECK(told_of(facts, "template") == "template u file 15");
    CHECK(told_of(facts, "owner") == "owner alice template 8 t");
    CHECK(told_of(facts, "memory") == "memory 2.0G template 13 u");
    CHECK(told_of(facts, "start") == "start with the host default");
    CHECK(told_of(facts, "interface[0].switch") == "interface[0].switch none default");
    CHECK(told_of(facts, "interface[1].switch") == "interface[1].switch lan template 10 t");
    CHECK_THAT(told_of(facts, "interface[1].lladdr"), Catch::Contains(" derived "));
}

TEST_CASE("explain tells what a command chose from what its template has") {
    auto model = model_of(lan + "[vm.t]\nowner = \"alice\"\nmemory = \"1G\"\n"
                                "interface = [{ switch = \"lan\" }]\n[vm.t.allow_instance]\n");
    config::NewVm wish;
    wish.name = "i";
    wish.parent = "t";
    wish.memory_bytes = 64 * MiB;
    wish.anything_allowed = true;
    auto added = config::add_vm(model, wish);
    REQUIRE(added);
    Knowledge known;
    known.not_stored_because = "the disk is full";
    known.running = RunningVm{.id = 7, .uid = {}, .state = "running", .maker = 1000};
    auto facts = explain(*added, *added->find_vm("i"), known);
    CHECK(told_of(facts, "vm") == "vm i command uid 1000");
    CHECK(told_of(facts, "id") == "id 7 host until vmhost ends: the disk is full");
    CHECK_THAT(told_of(facts, "uid"), Catch::Contains("not started as root"));
    CHECK(told_of(facts, "memory") == "memory 64.0M command uid 1000");
    CHECK(told_of(facts, "owner") == "owner alice template 7 t");
    CHECK(told_of(facts, "interface[0].switch") == "interface[0].switch lan template 9 t");
    CHECK_THAT(told_of(facts, "interface[0].ipv4"), Catch::Contains("(the disk is full)"));
    CHECK(told_of(facts, "start") == "");
}

TEST_CASE("a new VM with an install table is armed, sealed once, and armed by hand alone") {
    Folder folder;
    const auto text = lan + vm("a", "") + "install = { mode = \"upgrade\" }\n" + vm("b", "");
    {
        auto memory = opened(folder);
        auto ids = note(memory, model_of(text));
        CHECK(memory.armed(ids[0]));
        CHECK(memory.installation(ids[0])->upgrade);
        CHECK(memory.installation(ids[1]) == nullptr);
        REQUIRE(memory.seal(ids[0]));
        CHECK_FALSE(memory.armed(ids[0]));
        CHECK_FALSE(memory.seal(ids[0]));
        CHECK_FALSE(memory.seal(ids[1]));
    }
    auto memory = opened(folder);
    auto ids = note(memory, model_of(text + "install = { }\n"));
    CHECK_FALSE(memory.armed(ids[0]));
    CHECK_FALSE(memory.armed(ids[1])); // it was there before its table
    auto armed = memory.arm(ids[0], false);
    REQUIRE(armed);
    CHECK(armed->number == 2);
    CHECK(memory.armed(ids[0]));
    CHECK_FALSE(memory.arm(99, false));
}

TEST_CASE("where nothing can be kept nothing is armed") {
    config::Host host;
    host.name = "h";
    host.state = "/proc/nowhere";
    auto memory = Memory::open(host);
    REQUIRE(memory);
    auto ids = note(*memory, model_of(lan + vm("a", "") + "install = { }\n"));
    CHECK_FALSE(memory->armed(ids[0]));
    CHECK_FALSE(memory->arm(ids[0], false));
    CHECK_FALSE(memory->seal(ids[0]));
}

TEST_CASE("a host key is that of the last installation, and keeps its public part") {
    Folder folder;
    const auto text = lan + vm("a", "") + "install = { }\n";
    const auto key = *install::make_host_key("root@a");
    {
        auto memory = opened(folder);
        auto ids = note(memory, model_of(text));
        CHECK(memory.host_key(ids[0]) == nullptr);
        CHECK_FALSE(memory.keep_host_key(99, key));
        REQUIRE(memory.keep_host_key(ids[0], key));
        CHECK(memory.host_key(ids[0])->private_text == key.private_text);
    }
    auto memory = opened(folder);
    auto ids = note(memory, model_of(text));
    REQUIRE(memory.host_key(ids[0]) != nullptr);
    CHECK(memory.host_key(ids[0])->installation == 1);
    REQUIRE(memory.forget_private_key(ids[0]));
    CHECK(memory.host_key(ids[0])->private_text.empty());
    CHECK(memory.host_key(ids[0])->public_line == key.public_line);
    REQUIRE(memory.forget_private_key(99));
    REQUIRE(memory.arm(ids[0], false));
    CHECK(memory.host_key(ids[0]) == nullptr); // the next one needs its own
}

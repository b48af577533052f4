#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/socket.h>
#include <unistd.h>

#include "host/running.h"

using namespace vmhost;
using host::RunningGuest;
using host::RunningGuests;

namespace {

struct Folder {
    std::string path;
    std::vector<std::string> changes;
    Folder() {
        char name[] = "/tmp/running-test-XXXXXX";
        path = ::mkdtemp(name);
    }
    ~Folder() { std::filesystem::remove_all(path); }
    RunningGuests open() {
        auto opened = RunningGuests::open(
            path, [this](std::string_view what) { changes.emplace_back(what); });
        REQUIRE(opened);
        return std::move(*opened);
    }
};

RunningGuest some_guest() {
    RunningGuest guest{.name = "a.b-c", .id = 7, .pid = 4711, .start_ticks = 12345678901ULL};
    guest.taps = {"a-if0", "a-if1"};
    guest.snapshot = "before";
    guest.restarts = 3;
    guest.lease = Ipv4{0x0a090801};
    guest.in_installer = true;
    guest.temporary = true;
    config::Disk disk;
    disk.path = "a \"quoted\".img";
    disk.format = config::ImageFormat::qcow2;
    disk.read_only = true;
    disk.base = {"x", "y"};
    guest.disks = {disk, {}};
    return guest;
}

} // namespace

TEST_CASE("records of running guests: what is written is read") {
    Folder folder;
    auto running = folder.open();
    CHECK(running.read().empty());
    auto guest = some_guest();
    REQUIRE(running.write(guest));
    REQUIRE(running.write({.name = "plain", .id = 8}));
    auto read = folder.open().read();
    REQUIRE(read.size() == 2);
    auto& same = read[read[0].name == "plain" ? 1 : 0];
    CHECK(same.name == guest.name);
    CHECK(same.id == 7);
    CHECK(same.pid == 4711);
    CHECK(same.start_ticks == guest.start_ticks);
    CHECK(same.taps == guest.taps);
    CHECK(same.snapshot == "before");
    CHECK(same.restarts == 3);
    CHECK(same.lease == guest.lease);
    CHECK(same.in_installer);
    CHECK(same.temporary);
    CHECK(same.disks == guest.disks);
    auto before = folder.changes.size();
    running.remove("plain");
    CHECK(folder.changes.size() > before);
    CHECK(running.read().size() == 1);
}

TEST_CASE("records of another boot, and what is none, are removed") {
    Folder folder;
    auto running = folder.open();
    REQUIRE(running.write(some_guest()));
    auto path = folder.path + "/run/a.b-c.json";
    std::string text;
    {
        std::ifstream file(path);
        text.assign(std::istreambuf_iterator<char>(file), {});
    }
    auto spoilt = GENERATE(as<std::string>(), "empty", "{}", "[1]", "boot", "format", "id", "cut");
    auto at = text.find('"' + spoilt + '"');
    if (spoilt == "cut")
        text.resize(text.size() / 2);
    else if (at != std::string::npos)
        text.replace(at + 1, spoilt.size(), std::string(spoilt.size(), 'x'));
    else
        text = spoilt == "empty" ? "" : spoilt;
    std::ofstream(path) << text;
    CHECK(running.read().empty());
    CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("the model is this boot's, and goes with its removal") {
    Folder folder;
    auto running = folder.open();
    CHECK_FALSE(running.read_model());
    auto temporary = GENERATE(std::vector<std::string>{}, std::vector<std::string>{"t", "a-b.c"});
    REQUIRE(running.write_model({"[host]\nname = \"x\"\n", temporary}));
    CHECK(running.read_model()->toml.ends_with("[host]\nname = \"x\"\n"));
    CHECK(config::parse(running.read_model()->toml, "x"));
    CHECK(running.read_model()->temporary == temporary);
    std::ofstream(folder.path + "/run/model.toml") << "# of the boot before\n";
    CHECK_FALSE(running.read_model());
    running.remove_model();
    CHECK(std::filesystem::is_empty(folder.path + "/run"));
}

TEST_CASE("links of this boot are known until they are removed") {
    Folder folder;
    auto running = folder.open();
    CHECK_FALSE(running.links_noted());
    REQUIRE(running.note_links());
    REQUIRE(running.note_links()); // by a parent that found them
    CHECK(folder.open().links_noted());
    std::ofstream(folder.path + "/run/links") << "# of the boot before\n";
    CHECK_FALSE(running.links_noted());
    REQUIRE(running.note_links());
    CHECK(running.read().empty());
    running.forget_links();
    CHECK(std::filesystem::is_empty(folder.path + "/run"));
}

TEST_CASE("the folder is its owner's alone") {
    Folder folder;
    std::filesystem::create_directory(folder.path + "/run");
    std::filesystem::permissions(folder.path + "/run", std::filesystem::perms::all);
    auto opened = RunningGuests::open(folder.path, [](std::string_view) {});
    CHECK(opened.error().kind() == ErrorKind::denied);
    CHECK(RunningGuests::open("/nonexistent", [](std::string_view) {}).error().kind() ==
          ErrorKind::not_found);
}

TEST_CASE("a process listens, the next parent connects, however long the path is") {
    Folder folder;
    folder.path += "/" + std::string(200, 'x');
    std::filesystem::create_directory(folder.path);
    auto running = folder.open();
    std::string name(limits::max_name_bytes, 'n');
    CHECK_FALSE(running.connect(name));
    auto listener = running.listen(name);
    REQUIRE(listener);
    auto ours = running.connect(name);
    REQUIRE(ours);
    Fd theirs(::accept(listener->get(), nullptr, nullptr));
    REQUIRE(theirs);
    CHECK(::write(ours->get(), "x", 1) == 1);
    listener->reset();
    CHECK_FALSE(running.connect(name));
    CHECK(running.listen(name)); // in place of the dead one
    std::filesystem::remove_all(folder.path.substr(0, folder.path.rfind('/')));
}

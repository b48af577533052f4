// The record of a VM's snapshots, over a real folder.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "../disk/temporary.h"
#include "host/snapshots.h"

using namespace vmhost;
using vmhost::host::Snapshots;

namespace {

struct Folder {
    test::TemporaryDirectory directory;
    std::string path = directory / "snapshots/a";

    Snapshots load() {
        auto loaded = Snapshots::load(path);
        INFO((loaded ? "" : loaded.error().text()));
        REQUIRE(loaded.has_value());
        REQUIRE(loaded->make_folder().has_value());
        return std::move(*loaded);
    }
    void make(const std::string& file) { std::ofstream(file) << "x"; }
    void write_record(const std::string& text) { std::ofstream(path + "/record.json") << text; }
    std::string record() {
        std::ostringstream text;
        text << std::ifstream(path + "/record.json").rdbuf();
        return text.str();
    }
    std::string refusal() {
        auto loaded = Snapshots::load(path);
        return loaded ? std::string()
                      : loaded.error().text().substr(path.size() + 14); // "/record.json: "
    }
};

const std::vector<std::string> disks = {"/vm/a.img", "/vm/b.qcow2"};

// A snapshot as the parent makes one; the new overlays.
std::vector<std::string> snapshot(Snapshots& all, const std::string& name) {
    REQUIRE(all.add(name, disks, 1'700'000'000).has_value());
    std::vector<std::string> made;
    for (const auto& disk : disks)
        made.push_back(all.put_overlay(disk, 0).value());
    return made;
}

} // namespace

TEST_CASE("snapshots: a VM without any has no folder and no record") {
    Folder folder;
    auto loaded = Snapshots::load(folder.path);
    REQUIRE(loaded.has_value());
    CHECK(loaded->list().empty());
    CHECK(loaded->overlays_of("/vm/a.img").empty());
    CHECK_FALSE(std::filesystem::exists(folder.path));
    loaded->remove_others(); // of nothing
}

TEST_CASE("snapshots: chains grow with each, and going back puts a new one on the old") {
    Folder folder;
    auto all = folder.load();
    auto first = snapshot(all, "one");
    CHECK(first == std::vector{folder.path + "/1.qcow2", folder.path + "/2.qcow2"});
    all.set_state_bytes("one", 77);
    snapshot(all, "two");
    REQUIRE(all.store().has_value());

    auto again = folder.load();
    REQUIRE(again.list().size() == 2);
    CHECK(again.list()[0].name == "one");
    CHECK(again.list()[0].time_s == 1'700'000'000);
    CHECK(again.list()[0].state_bytes == 77);
    CHECK(again.list()[0].disks ==
          std::vector<Snapshots::Disk>{{"/vm/a.img", {}}, {"/vm/b.qcow2", {}}});
    CHECK(again.list()[1].disks[0] == Snapshots::Disk{"/vm/a.img", {"1.qcow2"}});
    CHECK(again.overlays_of("/vm/a.img") ==
          std::vector{folder.path + "/1.qcow2", folder.path + "/3.qcow2"});
    REQUIRE(again.go_back("two", disks).has_value());
    CHECK(again.put_overlay("/vm/a.img", 0).value() == folder.path + "/5.qcow2");
    CHECK(again.overlays_of("/vm/a.img") ==
          std::vector{folder.path + "/1.qcow2", folder.path + "/5.qcow2"});
    REQUIRE(again.go_back("one", disks).has_value());
    CHECK(again.overlays_of("/vm/a.img").empty());
}

TEST_CASE("snapshots: what the record does not name is removed, and nothing else") {
    Folder folder;
    auto all = folder.load();
    auto made = snapshot(all, "one");
    for (const auto& path : made)
        folder.make(path);
    folder.make(all.state_path("one"));
    REQUIRE(all.store().has_value());
    // A snapshot that came to nothing: the record was never stored.
    auto cut_short = all;
    for (const auto& path : snapshot(cut_short, "two"))
        folder.make(path);
    folder.make(cut_short.state_path("two"));
    folder.make(folder.path + "/record.json.new");
    auto next = folder.load();
    next.remove_others();
    auto exists = [&](const std::string& name) {
        return std::filesystem::exists(folder.path + "/" + name);
    };
    CHECK(exists("record.json"));
    CHECK(exists("one.state"));
    CHECK(exists("1.qcow2"));
    CHECK(exists("2.qcow2"));
    CHECK_FALSE(exists("two.state"));
    CHECK_FALSE(exists("3.qcow2"));
    CHECK_FALSE(exists("record.json.new"));
    // The state of a removed one goes; overlays that the disks still consist of stay.
    REQUIRE(next.remove("one").has_value());
    REQUIRE(next.store().has_value());
    next.remove_others();
    CHECK_FALSE(exists("one.state"));
    CHECK(exists("1.qcow2"));
    CHECK(next.remove("one").error().kind() == ErrorKind::not_found);
}

TEST_CASE("snapshots: what cannot be is refused by name") {
    Folder folder;
    auto all = folder.load();
    snapshot(all, "one");
    CHECK(all.add("one", disks, 0).error().text() == "it has a snapshot one already");
    CHECK(all.add("../one", disks, 0).error().kind() == ErrorKind::invalid);
    CHECK(all.find("two").error().text() == "it has no snapshot two");
    CHECK(all.go_back("one", {"/vm/a.img"}).error().text() ==
          "snapshot one: it has a disk /vm/b.qcow2, the VM has not");
    auto more = disks;
    more.push_back("/vm/c.raw");
    CHECK(all.go_back("one", more).error().text() ==
          "snapshot one: it has no disk /vm/c.raw, the VM has");
    // With two files below it, a disk has room for five overlays.
    for (unsigned i = 0; i < limits::max_image_layers - 3; ++i)
        CHECK(all.put_overlay("/vm/d.qcow2", 2).has_value());
    auto refused = all.put_overlay("/vm/d.qcow2", 2);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().kind() == ErrorKind::limit);
    CHECK(refused.error().text().find("disk /vm/d.qcow2: it consists of 8 files already") == 0);
    for (std::size_t i = all.list().size(); i < limits::max_snapshots; ++i)
        CHECK(all.add(fmt::format("s{}", i), {}, 0).has_value());
    CHECK(all.add("last", {}, 0).error().kind() == ErrorKind::limit);
}

TEST_CASE("snapshots: a damaged record is refused, whatever is damaged") {
    Folder folder;
    auto all = folder.load();
    snapshot(all, "one");
    REQUIRE(all.store().has_value());
    const auto good = folder.record();
    for (std::size_t size = 0; size + 2 < good.size(); size += 7) {
        folder.write_record(good.substr(0, size));
        CHECK(folder.refusal().find("not a record of snapshots") == 0);
    }
    auto with = [&](std::string_view from, std::string_view to) {
        auto changed = good;
        changed.replace(changed.find(from), from.size(), to);
        folder.write_record(changed);
        return folder.refusal();
    };
    CHECK(with("\"format\": 1", "\"format\": 2") == "a record of another format than 1");
    CHECK(with("1.qcow2", "../../../etc/shadow") == "the record names files outside of its folder");
    CHECK(with("\"name\": \"one\"", "\"name\": \"../one\"") ==
          "the record names files outside of its folder");
    CHECK(with("/vm/a.img", "a.img") == "the record names files outside of its folder");
    CHECK(with("\"next\": 3", "\"next\": \"3\"").find("not a record of snapshots") == 0);
    folder.write_record(good);
    CHECK(folder.refusal().empty());
}

TEST_CASE("snapshots: a disk that begins anew has no overlays, and others keep theirs") {
    Folder folder;
    auto all = folder.load();
    snapshot(all, "one");
    REQUIRE(all.remove("one"));
    all.drop_overlays(disks[0]);
    REQUIRE(all.store());
    auto again = folder.load();
    CHECK(again.overlays_of(disks[0]).empty());
    CHECK(again.overlays_of(disks[1]).size() == 1);
}

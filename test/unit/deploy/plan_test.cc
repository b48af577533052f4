// From orders to a changed file, images and accounts, on a host made of maps; and every step of it
// as the last one before the power goes.
#include <catch2/catch.hpp>

#include <algorithm>

#include "deploy/deploy.h"
#include "install/install.h"

using namespace vmhost;
using namespace vmhost::deploy;

namespace {

struct FakeWorld : World {
    std::map<std::string, std::string> files;
    struct Image {
        std::uint64_t bytes;
        int made = 0; // by create_image
        std::string base = {};
    };
    std::map<std::string, Image> images;
    struct Person {
        Account account;
        std::set<std::string> groups;
        std::set<std::string> keys;
    };
    std::map<std::string, Person> people;
    std::set<std::string> groups;
    int changes_left = 1 << 30; // until everything fails
    int changes = 0;
    bool after_the_fact = false; // the change that fails was made

    // Whether this change takes place; what it says is returned after it.
    Result<void> change() {
        ++changes;
        if (changes_left-- > 0)
            return {};
        return fail(ErrorKind::io, "power failure");
    }
    template <class Do>
    Result<void> changed(Do what) {
        auto good = change();
        if (good || (after_the_fact && changes_left == -1))
            what();
        return good;
    }

    Result<std::string> read(const std::string& path) override {
        auto found = files.find(path);
        if (found == files.end())
            return fail(ErrorKind::not_found, "{}: no such file", path);
        return found->second;
    }
    Result<void> replace(const std::string& path, std::string_view text) override {
        return changed([&] { files[path] = text; });
    }
    bool exists(const std::string& path) override {
        return files.contains(path) || images.contains(path);
    }
    Result<void> rename(const std::string& from, const std::string& to) override {
        return changed([&] {
            images[to] = images.at(from);
            images.erase(from);
        });
    }
    Result<void> remove(const std::string& path) override {
        return changed([&] { images.erase(path); });
    }
    Result<std::uint64_t> image_size(const std::string& path, config::ImageFormat) override {
        auto found = images.find(path);
        if (found == images.end())
            return fail(ErrorKind::not_found, "{}", path);
        return found->second.bytes;
    }
    std::map<std::string, Template> templates;
    Result<Template> look_at_template(const std::string& path) override {
        auto found = templates.find(path);
        if (found == templates.end())
            return fail(ErrorKind::not_found, "{}: no such file", path);
        return found->second;
    }
    Result<void> create_image(const std::string& path, config::ImageFormat format,
                              std::uint64_t bytes, const std::string& base) override {
        REQUIRE_FALSE(images.contains(path));
        CHECK((base.empty() || format == config::ImageFormat::qcow2));
        return changed([&] { images[path] = {bytes, 1, base}; });
    }
    Result<std::optional<Account>> account(const std::string& name) override {
        auto found = people.find(name);
        if (found == people.end())
            return std::nullopt;
        return found->second.account;
    }
    Result<bool> has_group(const std::string& group) override { return groups.contains(group); }
    Result<bool> is_member(const Account& account, const std::string& group) override {
        return people.at(account.name).groups.contains(group);
    }
    Result<void> add_group(const std::string& group) override {
        return changed([&] { REQUIRE(groups.insert(group).second); });
    }
    Result<void> add_account(const NewAccount& account) override {
        REQUIRE(groups.contains(account.group));
        return changed([&] {
            people[account.name] = {
                {account.name, 1001, 1001, "/home/" + account.name}, {account.group}, {}};
        });
    }
    Result<void> add_member(const std::string& account, const std::string& group) override {
        return changed([&] { people.at(account).groups.insert(group); });
    }
    Result<void> remove_account(const std::string& name) override {
        return changed([&] { people.erase(name); });
    }
    Result<bool> has_key(const Account& account, const SshKey& key) override {
        return people.at(account.name).keys.contains(key.base64);
    }
    Result<void> add_key(const Account& account, const SshKey& key) override {
        return changed([&] { people.at(account.name).keys.insert(key.base64); });
    }
};

const std::string keys[] = {
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a@d",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS b@d"};

const std::string base =
    "# our host\n[host]\nname = \"server8\"\ndomain = \"openbsd.amsterdam\"\n"
    "state = \"/state\"\n[control]\nowner = \":_vmdusers\"\n"
    "[switch.up]\nipv4 = \"46.23.93.1/24\"\nipv6 = \"2a03:6000:6f64::1/48\"\n"
    "[allocate] # the rules\nswitch = \"up\"\nmac_prefix = \"fe:e1:bb:f1:c8\"\n"
    "ipv4_start = \"46.23.93.100\"\nipv6_prefix = \"2a03:6000:6f64::/48\"\n"
    "ipv6_start = 600\nimages = \"/images\"\n"
    "install = { timezone = \"Europe/Amsterdam\", sets = \"-x* +xb*\" }\n";

Order order(const std::string& file, const std::string& user, int key,
            const std::string& more = "") {
    auto made = parse_order("hostname=\"puffy\"\nusername=\"" + user + "\"\nsshkey=\"" + keys[key] +
                                "\"\nname=\"A Person\"\n" + more,
                            file);
    if (!made)
        FAIL(made.error().front().message());
    return *std::move(made);
}

struct Scene {
    FakeWorld world;
    Wishes wishes;
    std::string said; // complaints, or what was done
    std::string warned;

    Scene() {
        world.files["/t.toml"] = base;
        wishes.today = *parse_date("2026/11/22");
        wishes.password = [] { return std::string("p\"w\\d456789012345678"); };
    }
    std::optional<Job> planned(const std::vector<Order>& orders) {
        auto standing = look(world, "/t.toml");
        REQUIRE(standing);
        auto job = plan(world, *standing, orders, wishes);
        said = warned = "";
        if (!job)
            for (const auto& complaint : job.error())
                said += complaint.message() + "\n";
        else
            for (const auto& warning : job->warnings)
                warned += warning.message() + "\n";
        return job ? std::optional(*std::move(job)) : std::nullopt;
    }
    bool carried(const Job& job) {
        said = "";
        auto done = carry_out(world, job, [&](const Step& step) {
            said += fmt::format("{}: {}\n", step.vm, step.text);
        });
        if (!done)
            said += done.error().message();
        return done.has_value();
    }
    void deploy(const std::vector<Order>& orders) {
        auto job = planned(orders);
        if (!job)
            FAIL(said);
        if (!carried(*job))
            FAIL(said);
    }
    config::Model model() {
        auto model = config::parse(world.files["/t.toml"], "/t.toml");
        if (!model)
            FAIL(model.error().front().message());
        return *std::move(model);
    }
    bool refused(const std::vector<Order>& orders, const std::string& part) {
        auto before = world.files;
        INFO(part);
        auto job = planned(orders);
        UNSCOPED_INFO(said);
        return !job && said.find(part) != std::string::npos && world.changes == 0 &&
               world.files == before;
    }
};

} // namespace

TEST_CASE("one order makes a VM, an image and an account") {
    Scene scene;
    scene.deploy({order("/o/vm13.txt", "alice", 0, "note=\"\";$(reboot)\"\n")});
    CHECK(scene.said == "vm13: _vmdusers\n"
                        "vm13: alice\n"
                        "vm13: alice: key of the order added\n"
                        "vm13: /images/vm13.qcow2 created (size 50G)\n"
                        "vm13: added for alice: 512M, fe:e1:bb:f1:c8:13 46.23.93.113 "
                        "2a03:6000:6f64:613::113 puffy.openbsd.amsterdam\n");
    auto model = scene.model();
    const auto* vm = model.find_vm("vm13");
    REQUIRE(vm);
    CHECK(vm->owner.user == "alice");
    CHECK(vm->enabled);
    CHECK(vm->memory_bytes == 512 * MiB);
    CHECK(vm->disks[0].path == "/images/vm13.qcow2");
    CHECK(vm->disks[0].size_bytes == 50 * GiB);
    CHECK(vm->interfaces[0].lladdr.text() == "fe:e1:bb:f1:c8:13");
    CHECK(vm->interfaces[0].ipv4->text() == "46.23.93.113");
    CHECK(vm->interfaces[0].ipv6->text() == "2a03:6000:6f64:613::113");
    CHECK(vm->install->hostname == "puffy.openbsd.amsterdam");
    CHECK(vm->install->timezone == "Europe/Amsterdam");
    CHECK(vm->install->sets == "-x* +xb*");
    CHECK(vm->install->password == "p\"w\\d456789012345678");
    CHECK(vm->install->root_password == vm->install->password);
    CHECK(vm->install->sshkey == keys[0] + " " + vm->install->password);
    CHECK(scene.warned == ""); // among others: every question of the installer has its answer
    CHECK(scene.world.files["/t.toml"].starts_with(base)); // comments and all
    CHECK(scene.world.files["/t.toml"].find("reboot") == std::string::npos);
    CHECK(scene.world.people.at("alice").groups.contains("_vmdusers"));
    CHECK(scene.world.images.at("/images/vm13.qcow2").bytes == 50 * GiB);
}

TEST_CASE("a disk begins as the template that its order names") {
    Scene scene;
    scene.world.templates["/images/debian-12.qcow2"] = {2 * GiB, "", true};
    scene.deploy({order("/o/vm13.txt", "alice", 0,
                        "image=\"debian-12.qcow2\"\ndisk=\"4G\"\ndisk2=\"1G\"\n")});
    CHECK(scene.said.find("vm13: /images/vm13.qcow2 created (size 4G, on "
                          "/images/debian-12.qcow2)\n") != std::string::npos);
    CHECK(scene.world.images.at("/images/vm13.qcow2").base == "/images/debian-12.qcow2");
    CHECK(scene.world.images.at("/images/vm13-2.qcow2").base.empty());
    auto model = scene.model();
    const auto* vm = model.find_vm("vm13");
    REQUIRE(vm);
    CHECK(vm->disks[0].base == std::vector<std::string>{"/images/debian-12.qcow2"});
    CHECK(vm->disks[0].size_bytes == 4 * GiB);
    CHECK(vm->disks[1].base.empty());
    CHECK(vm->install->system == config::InstallSystem::cloud_init);
    CHECK(vm->install->timezone == "Europe/Amsterdam");
    CHECK(vm->install->sets == config::VmInstall{}.sets); // those of [allocate] are OpenBSD's
    CHECK(vm->install->hostname == "puffy.openbsd.amsterdam");

    // The same order again, with another one's beside it, and with what it does not change.
    auto job = scene.planned(
        {order("/o/vm13.txt", "alice", 0, "image=\"debian-12.qcow2\"\nsystem=\"cloud-init\"\n")});
    REQUIRE(job);
    CHECK(job->nothing_to_do());
    scene.world.changes = 0;
    CHECK(scene.refused({order("/o/vm13.txt", "alice", 0, "image=\"other.qcow2\"\n")},
                        "image is debian-12.qcow2 at /t.toml:"));
    CHECK(scene.refused({order("/o/vm13.txt", "alice", 0, "image=\"none\"\n")},
                        "and none in the order"));
    CHECK(scene.refused({order("/o/vm13.txt", "alice", 0, "system=\"preseed\"\n")},
                        "system is cloud-init at"));

    // A disk that is lost begins as the template again.
    scene.world.images.erase("/images/vm13.qcow2");
    scene.deploy({order("/o/vm13.txt", "alice", 0)});
    CHECK(scene.world.images.at("/images/vm13.qcow2").base == "/images/debian-12.qcow2");
}

TEST_CASE("what an order would make of the file is told with its line") {
    Scene scene;
    CHECK(scene.refused({order("/o/vm13.txt", "alice", 0, "system=\"ipxe\"\n")},
                        "/o/vm13.txt:5:1: the file would be wrong then: vm.vm13.install.system: "));
}

TEST_CASE("a template of [allocate] is for all new VMs that do not say otherwise") {
    Scene scene;
    auto& file = scene.world.files["/t.toml"];
    file.replace(file.find("images ="), 0, "image = \"debian-12.raw\"\nboot = \"/bsd.rd\"\n");
    file.replace(file.find("timezone"), 0, "kernel = \"/bsd.rd\", ");
    // Its mode is the operator's affair.
    scene.world.templates["/images/debian-12.raw"] = {2 * GiB, "", false};
    scene.deploy({order("/o/vm13.txt", "alice", 0, "system=\"kickstart\"\n"),
                  order("/o/vm14.txt", "bob", 1, "image=\"none\"\n")});
    auto model = scene.model();
    const auto* vm = model.find_vm("vm13");
    REQUIRE(vm);
    CHECK(vm->disks[0].base == std::vector<std::string>{"/images/debian-12.raw"});
    CHECK(vm->boot.empty());
    CHECK(vm->install->kernel.empty());
    CHECK(vm->install->system == config::InstallSystem::kickstart);
    vm = model.find_vm("vm14");
    REQUIRE(vm);
    CHECK(vm->disks[0].base.empty());
    CHECK(vm->boot == "/bsd.rd");
    CHECK(vm->install->kernel == "/bsd.rd");
    CHECK(vm->install->system == config::InstallSystem::openbsd);
    CHECK(vm->install->sets == "-x* +xb*");
}

TEST_CASE("a password and a key of an order fit what its system's answers are written in") {
    for (auto [system, name] : {std::pair{"preseed", "preseed.cfg"}, {"kickstart", "ks.cfg"}}) {
        Scene scene;
        auto one = order("/o/vm13.txt", "alice", 0, fmt::format("system=\"{}\"\n", system));
        one.sshkey.comment = "alice's \"laptop\" $(reboot)";
        scene.deploy({one});
        auto model = scene.model();
        const auto& given = *model.find_vm("vm13")->install;
        CHECK(given.password.size() == password_chars);
        CHECK(std::ranges::all_of(given.password, [](char c) { return std::isalnum(c) != 0; }));
        CHECK(given.sshkey == one.sshkey.type + " " + one.sshkey.base64 + " " + given.password);
        auto text = install::file_text(model, *model.find_vm("vm13"), false, 1, name,
                                       [](const std::string&) { return std::string(); });
        REQUIRE(text);
        CHECK(text->find(given.sshkey) != std::string::npos);
    }
}

TEST_CASE("an order's template is nobody's disk, and one that everybody may read") {
    Scene scene;
    scene.world.files["/t.toml"] += "[vm.db]\ndisk = [{ path = \"/images/../images/db.qcow2\" }]\n";
    auto& templates = scene.world.templates;
    templates["/images/db.qcow2"] = {GiB, "", true};
    templates["/images/private.qcow2"] = {GiB, "", false};
    templates["/images/upper.qcow2"] = {GiB, "lower.qcow2", true};
    templates["/images/large.qcow2"] = {60 * GiB, "", true};
    templates["/images/good.qcow2"] = {GiB, "", true};
    auto with = [](const std::string& image, const std::string& more = "") {
        return std::vector{order("/o/vm13.txt", "alice", 0, "image=\"" + image + "\"\n" + more)};
    };
    CHECK(scene.refused(with("db.qcow2"), "vm13.txt:5:1: vm13: image: /images/db.qcow2 is the disk "
                                          "of db at /t.toml:"));
    CHECK(scene.refused(with("private.qcow2"), "may not be named by orders"));
    CHECK(scene.refused(with("upper.qcow2"), "needs lower.qcow2 below it"));
    CHECK(scene.refused(with("missing.qcow2"), "/images/missing.qcow2: no such file"));
    CHECK(scene.refused(with("large.qcow2"), "vm13.txt:5:1: vm13: a disk of 50G is too small for "
                                             "the 60G of /images/large.qcow2"));
    CHECK(scene.refused(with("good.qcow2", "disk=\"512M\"\n"),
                        "vm13.txt:6:1: vm13: a disk of 512M is too small for the 1G"));
    CHECK(scene.refused(with("good.qcow2", "format=\"raw\"\n"), "vm13.txt:6:1: "));

    // What was put away of somebody who is gone is still his.
    scene.deploy({order("/o/vm14.txt", "bob", 1)});
    auto standing = look(scene.world, "/t.toml");
    REQUIRE(standing);
    auto job = plan_removal(scene.world, *standing, {"vm14"}, false, scene.wishes.today);
    REQUIRE(job);
    REQUIRE(scene.carried(*job));
    scene.world.changes = 0;
    templates["/images/vm14.qcow2"] = {GiB, "", true};
    CHECK(scene.refused(with("vm14.qcow2"), "/images/vm14.qcow2 is the disk of vm14"));
}

TEST_CASE("a second run has nothing to do") {
    Scene scene;
    scene.deploy({order("/o/vm13.txt", "alice", 0), order("/o/any.txt", "bob", 1)});
    CHECK(scene.model().find_vm("vm14")); // the next number
    auto before = scene.world.files;
    auto job = scene.planned({order("/o/vm13.txt", "alice", 0), order("/o/any.txt", "bob", 1)});
    REQUIRE(job);
    CHECK(job->nothing_to_do());
    scene.world.changes = 0;
    CHECK(scene.carried(*job));
    CHECK(scene.world.changes == 0);
    CHECK(scene.said == "");
    CHECK(scene.world.files == before);
}

TEST_CASE("every order says what it wants, within the rules") {
    Scene scene;
    scene.deploy({order("/o/vm5.txt", "alice", 0,
                        "memory=\"1G\"\ndisk=\"20G\"\ndisk2=\"100G\"\nformat=\"raw\"\ncpus=\"2\"\n"
                        "mac=\"fe:e1:bb:00:00:05\"\nipv4=\"46.23.93.9\"\n"
                        "ipv6=\"2a03:6000:6f64:1::9\"\nstate=\"suspended\"\n"),
                  order("/o/vm100.txt", "alice", 0, "hostname2=\"x\"\n")});
    auto model = scene.model();
    const auto* vm = model.find_vm("vm5");
    CHECK(vm->suspended);
    CHECK(vm->memory_bytes == GiB);
    CHECK(vm->vcpus == 2);
    REQUIRE(vm->disks.size() == 2);
    CHECK(vm->disks[1].path == "/images/vm5-2.raw");
    CHECK(vm->disks[1].size_bytes == 100 * GiB);
    CHECK(vm->interfaces[0].lladdr.text() == "fe:e1:bb:00:00:05");
    CHECK(vm->interfaces[0].ipv4->text() == "46.23.93.9");
    CHECK(vm->interfaces[0].ipv6->text() == "2a03:6000:6f64:1::9");
    CHECK(model.find_vm("vm100")->interfaces[0].lladdr.text() == "fe:e1:bb:f1:c8:0a");
    CHECK(scene.world.people.size() == 1);
}

TEST_CASE("two people cannot have one name, and nobody gets another's") {
    Scene scene;
    CHECK(scene.refused({order("/o/vm1.txt", "alice", 0), order("/o/vm2.txt", "alice", 1)},
                        "/o/vm2.txt:2:1: \"alice\" has another key in /o/vm1.txt:3"));
    scene.deploy({order("/o/vm1.txt", "alice", 0)});
    scene.world.changes = 0;
    CHECK(scene.refused({order("/o/vm2.txt", "alice", 1)}, "\"alice\" owns vm1 at /t.toml:"));
    // An account that is the host's own.
    scene.world.people["carol"] = {{"carol", 1500, 1500, "/home/carol"}, {}, {}};
    CHECK(scene.refused({order("/o/vm3.txt", "carol", 1)}, "owns no VM"));
    scene.world.people["sysd"] = {{"sysd", 105, 105, "/"}, {}, {}};
    scene.world.files["/t.toml"] +=
        "\n[vm.own]\nowner = \"sysd\"\n[vm.legacy]\nowner = \"carol\"\n";
    CHECK(scene.refused({order("/o/vm3.txt", "sysd", 1)}, "owns no VM"));
    // One that another tool made for a VM of hers is left alone.
    scene.deploy({order("/o/vm3.txt", "carol", 1)});
    CHECK(scene.world.people.at("carol").keys.empty());
    CHECK(scene.planned({order("/o/vm3.txt", "carol", 1)})->nothing_to_do()); // nor the next time
}

TEST_CASE("what two VMs would share is refused before anything is written") {
    Scene scene;
    const std::string mac = "mac=\"fe:e1:bb:00:00:01\"\n";
    CHECK(scene.refused({order("/o/vm1.txt", "alice", 0, mac), order("/o/vm2.txt", "bob", 1, mac)},
                        "/o/vm2.txt:5:1: vm2: fe:e1:bb:00:00:01 is taken by vm1 in /o/vm1.txt:5"));
    CHECK(scene.refused(
        {order("/o/vm1.txt", "alice", 0), order("/o/vm2.txt", "bob", 1, "ipv4=\"46.23.93.101\"\n")},
        "46.23.93.101 is taken by vm1"));
    CHECK(scene.refused({order("/o/vm1.txt", "alice", 0), order("/p/vm1.txt", "alice", 0)},
                        "vm1 is ordered by /o/vm1.txt too"));
    CHECK(scene.refused({order("/o/vm1.txt", "alice", 0), order("/p/web1.txt", "alice", 0)},
                        "the number 1 is that of /o/vm1.txt too"));
    CHECK(scene.refused({order("/o/vm254.txt", "alice", 0)},
                        "vm254: 46.23.94.98 is outside of 46.23.93.1/24"));
    CHECK(scene.refused({order("/o/vm1.txt", "alice", 0, "ipv4=\"46.23.93.1\"\n")}, "own address"));
    scene.world.files["/t.toml"] += "[vm.x]\ninterface = [{ switch = \"up\", ipv4 = "
                                    "\"46.23.93.107\" }]\n";
    CHECK(
        scene.refused({order("/o/vm7.txt", "alice", 0)}, "46.23.93.107 is taken by x at /t.toml:"));
}

TEST_CASE("owners who could not use vmctl(8) are a warning") {
    Scene scene;
    auto& file = scene.world.files["/t.toml"];
    file.replace(file.find("owner = \":_vmdusers\"\n"), 21, "");
    scene.world.groups.insert("");
    REQUIRE(scene.planned({order("/o/vm1.txt", "alice", 0), order("/o/vm2.txt", "bob", 1)}));
    CHECK(scene.warned == "neither allocate.group nor control.owner names a group: owners cannot "
                          "use vmctl(8)\n");
}

TEST_CASE("an image that is there is never touched") {
    Scene scene;
    scene.world.images["/images/vm13.qcow2"] = {GiB};
    scene.deploy({order("/o/vm13.txt", "alice", 0)});
    CHECK(scene.world.images.at("/images/vm13.qcow2").made == 0);
    auto standing = look(scene.world, "/t.toml");
    scene.world.images["/images/vm14.qcow2"] = {GiB};
    scene.world.images["/images/vm15.qcow2"] = {50 * GiB};
    auto job = scene.planned({order("/o/vm14.txt", "alice", 0), order("/o/vm15.txt", "alice", 0)});
    REQUIRE(job);
    CHECK(scene.warned.find("vm14: the image /images/vm14.qcow2 has 1G and not 50G") !=
          std::string::npos);
    CHECK(scene.warned.find("vm15: the image /images/vm15.qcow2 was there before") !=
          std::string::npos);
}

TEST_CASE("an order with other values is refused, and changes them with --update") {
    Scene scene;
    scene.deploy({order("/o/vm13.txt", "alice", 0)});
    scene.world.changes = 0;
    std::vector<Order> other{order("/o/vm13.txt", "alice", 1, "memory=\"1G\"\ncpus=\"2\"\n")};
    other[0].hostname = "blow";
    CHECK(scene.refused(other, "/o/vm13.txt:5:1: vm13: memory is 512M at /t.toml:21 and 1G in the "
                               "order: --update changes it"));
    CHECK(std::ranges::count(scene.said, '\n') == 4);
    scene.wishes.update = true;
    scene.deploy(other);
    auto model = scene.model();
    const auto* vm = model.find_vm("vm13");
    CHECK(vm->memory_bytes == GiB);
    CHECK(vm->vcpus == 2);
    CHECK(vm->install->hostname == "blow.openbsd.amsterdam");
    CHECK(vm->install->sshkey == keys[1] + " " + vm->install->password);
    CHECK(scene.world.people.at("alice").keys.size() == 2);
    CHECK(scene.planned(other)->nothing_to_do());
    // What makes a VM the one it is.
    scene.world.changes = 0;
    for (const std::string more : {"ipv4=\"46.23.93.9\"", "mac=\"fe:e1:bb:00:00:01\"",
                                   "disk=\"1G\"", "disk2=\"1G\"", "ipv6=\"2a03:6000:6f64::9\""})
        CHECK(scene.refused({order("/o/vm13.txt", "alice", 1, more + "\n")},
                            "an order does not change it"));
    CHECK(scene.refused({order("/o/vm13.txt", "bob", 1)}, "username is alice"));
}

TEST_CASE("a VM is suspended and resumed by its order") {
    Scene scene;
    scene.deploy({order("/o/vm13.txt", "alice", 0)});
    scene.deploy({order("/o/vm13.txt", "alice", 0, "state=\"suspended\"\n")});
    CHECK(scene.said == "vm13: suspended\n");
    CHECK(scene.model().find_vm("vm13")->suspended);
    CHECK(scene.planned({order("/o/vm13.txt", "alice", 0)})->nothing_to_do());
    CHECK(scene.planned({order("/o/vm13.txt", "alice", 0, "state=\"suspended\"\n")})
              ->nothing_to_do());
    scene.deploy({order("/o/vm13.txt", "alice", 0, "state=\"active\"\n")});
    CHECK(scene.said == "vm13: active again\n");
    CHECK_FALSE(scene.model().find_vm("vm13")->suspended);
    CHECK(scene.planned({order("/o/vm13.txt", "alice", 0, "state=\"active\"\n")})->nothing_to_do());
}

TEST_CASE("a VM whose order is gone is disabled, and its image stays") {
    Scene scene;
    scene.world.files["/o/vm13.txt"] = scene.world.files["/o/vm14.txt"] = "";
    scene.deploy({order("/o/vm13.txt", "alice", 0), order("/o/vm14.txt", "bob", 1)});
    scene.world.files.erase("/o/vm14.txt");
    auto none = scene.planned({order("/o/vm13.txt", "alice", 0)});
    CHECK(none->nothing_to_do()); // the folder was not given
    scene.wishes.directories = {"/o"};
    scene.deploy({order("/o/vm13.txt", "alice", 0)});
    CHECK(scene.said ==
          "vm14: disabled: its order /o/vm14.txt is gone; vmhost undeploy removes it\n");
    CHECK_FALSE(scene.model().find_vm("vm14")->enabled);
    CHECK(scene.world.images.contains("/images/vm14.qcow2"));
    CHECK(scene.planned({order("/o/vm13.txt", "alice", 0)})->nothing_to_do());
}

TEST_CASE("wherever a run is cut off, the next one comes to the same end") {
    const std::vector<Order> orders{order("/o/vm13.txt", "alice", 0),
                                    order("/o/vm14.txt", "bob", 1, "disk2=\"1G\"\n"),
                                    order("/o/more.txt", "alice", 0)};
    Scene whole;
    whole.deploy(orders);
    const int changes = whole.world.changes;
    CHECK(changes > 8);
    for (bool after_the_fact : {false, true})
        for (int at = 0; at < changes; ++at) {
            INFO(at << (after_the_fact ? " after" : " before"));
            Scene scene;
            scene.world.changes_left = at;
            scene.world.after_the_fact = after_the_fact;
            auto job = scene.planned(orders);
            REQUIRE(job);
            CHECK_FALSE(scene.carried(*job));
            // No half of a VM is ever in the file.
            auto between = scene.world.files["/t.toml"];
            CHECK((between == base || between == whole.world.files["/t.toml"]));
            scene.world.changes_left = 1 << 30;
            scene.deploy(orders);
            CHECK(scene.world.files == whole.world.files);
            CHECK(scene.planned(orders)->nothing_to_do());
            CHECK(scene.world.people.at("bob").keys == whole.world.people.at("bob").keys);
            for (const auto& [path, image] : scene.world.images)
                CHECK(image.made == 1);
            CHECK(scene.world.images.size() == whole.world.images.size());
        }
}

TEST_CASE("a file that was edited meanwhile is not written over") {
    Scene scene;
    auto job = scene.planned({order("/o/vm13.txt", "alice", 0)});
    scene.world.files["/t.toml"] += "# edited\n";
    CHECK_FALSE(scene.carried(*job));
    CHECK(scene.said.find("has changed meanwhile") != std::string::npos);
    CHECK(scene.world.files["/t.toml"] == base + "# edited\n");
}

TEST_CASE("a VM goes, its image is kept for a while, and so is its number") {
    auto undeploy = [](Scene& scene, bool accounts, const std::string& day) -> std::string {
        auto standing = look(scene.world, "/t.toml");
        auto job = plan_removal(scene.world, *standing, {"vm13"}, accounts, *parse_date(day));
        if (!job)
            return job.error().front().message();
        if (auto done = carry_out(scene.world, *job, [](const Step&) {}); !done)
            return done.error().message();
        if (auto tidied = tidy(scene.world, "/t.toml", *parse_date(day)); !tidied)
            return tidied.error().message();
        return "";
    };
    Scene start;
    start.deploy({order("/o/vm13.txt", "alice", 0)});
    const int before = start.world.changes;
    CHECK(undeploy(start, true, "2026/12/01") == "");
    CHECK(start.world.files["/t.toml"] == base);
    CHECK(start.world.people.empty());
    CHECK(start.world.images.size() == 1);
    CHECK(start.world.images.contains("/images/vm13.qcow2.removed-2026-12-01"));
    const int changes = start.world.changes - before;
    for (int at = 0; at < changes; ++at) {
        INFO(at);
        Scene scene;
        scene.deploy({order("/o/vm13.txt", "alice", 0)});
        scene.world.changes_left = at;
        CHECK(undeploy(scene, true, "2026/12/01").ends_with("power failure"));
        scene.world.changes_left = 1 << 30;
        CHECK(undeploy(scene, true, "2026/12/01") == "");
        CHECK(scene.world.files == start.world.files);
        CHECK(scene.world.people.empty());
        CHECK(scene.world.images.contains("/images/vm13.qcow2.removed-2026-12-01"));
        CHECK(scene.world.images.size() == 1);
    }
    // Its order may stay where it is.
    start.wishes.directories = {"/o"};
    CHECK(start.planned({order("/o/vm13.txt", "alice", 0)})->nothing_to_do());
    CHECK(start.warned.find("vm13 was removed on 2026-12-01: its order is passed over") !=
          std::string::npos);
    start.wishes.directories = {};
    CHECK_FALSE(start.planned({order("/o/vm13.txt", "alice", 0)})->nothing_to_do());
    // Nobody else gets the number meanwhile, by name or as the next free one.
    start.world.changes = 0;
    CHECK(start.refused({order("/o/vm13.txt", "bob", 1)}, "its number is kept until 2026-12-31"));
    CHECK(start.planned({order("/o/x.txt", "bob", 1)})->vms == std::vector<std::string>{"vm14"});
    CHECK(tidy(start.world, "/t.toml", *parse_date("2026/12/30"))->empty());
    CHECK(tidy(start.world, "/t.toml", *parse_date("2026/12/31"))->size() == 1);
    CHECK(start.world.images.empty());
    start.wishes.today = *parse_date("2026/12/31");
    start.deploy({order("/o/vm13.txt", "bob", 1)});
    CHECK(start.model().find_vm("vm13")->owner.user == "bob");
}

TEST_CASE("a VM that others need does not go") {
    Scene scene;
    scene.deploy({order("/o/vm13.txt", "alice", 0), order("/o/vm14.txt", "alice", 0)});
    auto standing = look(scene.world, "/t.toml");
    auto goes = [&](const std::string& more, const std::string& name) -> std::string {
        scene.world.files["/t.toml"] = standing->text + more;
        auto now = look(scene.world, "/t.toml");
        auto job = plan_removal(scene.world, *now, {name}, true, scene.wishes.today);
        if (!job)
            return job.error().front().text();
        // Alice has another one: her account stays.
        CHECK(job->steps.size() == 1);
        return "";
    };
    CHECK(goes("", "vm13") == "");
    CHECK(goes("[vm.x]\ninstance_of = \"vm13\"\n", "vm13") == "x is an instance of vm13");
    // One that no order made takes no number away.
    scene.world.files["/t.toml"] = standing->text + "[vm.web13]\n";
    auto now = look(scene.world, "/t.toml");
    auto job = plan_removal(scene.world, *now, {"web13"}, false, scene.wishes.today);
    REQUIRE(job);
    CHECK(scene.carried(*job));
    CHECK(scene.planned({order("/o/vm13.txt", "alice", 0)})->nothing_to_do());
    CHECK(goes("", "vm15") == "there is no VM \"vm15\" in the file");
}

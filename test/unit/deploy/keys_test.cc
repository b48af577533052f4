// authorized_keys in a home whose owner may be hostile. Its owner is whoever runs the test.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include "deploy/accounts.h"
#include "deploy/deploy.h"
#include "disk/disk.h"

using namespace vmhost;
using namespace vmhost::deploy;
namespace fs = std::filesystem;

namespace {

struct Home {
    Home() {
        char name[] = "/tmp/vmhost-home-XXXXXX";
        REQUIRE(::mkdtemp(name));
        path = name;
        account = {"alice", ::geteuid(), ::getegid(), path.string()};
    }
    ~Home() { fs::remove_all(path); }
    std::string keys() const {
        std::ifstream file(path / ".ssh/authorized_keys");
        std::stringstream text;
        text << file.rdbuf();
        return text.str();
    }
    fs::path path;
    Account account;
};

const std::string line =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a";

unsigned mode_of(const fs::path& path) {
    struct stat about {};
    REQUIRE(::lstat(path.c_str(), &about) == 0);
    return about.st_mode & 07777;
}

} // namespace

TEST_CASE("a key is added once, with the right modes, behind those that are there") {
    Home home;
    auto key = *parse_ssh_key(line);
    CHECK_FALSE(*has_authorized_key(home.account, key));
    REQUIRE(add_authorized_key(home.account, key));
    CHECK(home.keys() == line + "\n");
    CHECK(mode_of(home.path / ".ssh") == 0700);
    CHECK(mode_of(home.path / ".ssh/authorized_keys") == 0600);
    CHECK(*has_authorized_key(home.account, key));
    std::ofstream(home.path / ".ssh/authorized_keys") << "# " << line << "\nssh-rsa other";
    CHECK_FALSE(*has_authorized_key(home.account, key)); // a comment is none
    // What a run left behind that was cut off is no obstacle.
    std::ofstream(home.path / ".ssh/.authorized_keys.vmhost") << "half";
    REQUIRE(add_authorized_key(home.account, key));
    REQUIRE(add_authorized_key(home.account, key));
    CHECK(home.keys() == "# " + line + "\nssh-rsa other\n" + line + "\n");
    CHECK_FALSE(fs::exists(home.path / ".ssh/.authorized_keys.vmhost"));
}

TEST_CASE("no link leads out of a home") {
    Home home, other;
    auto key = *parse_ssh_key(line);
    fs::create_directory(other.path / ".ssh");
    std::ofstream(other.path / "victim") << "secret\n";
    fs::create_directory_symlink(other.path / ".ssh", home.path / ".ssh");
    CHECK_FALSE(add_authorized_key(home.account, key));
    CHECK_FALSE(has_authorized_key(home.account, key));
    CHECK(fs::is_empty(other.path / ".ssh"));
    fs::remove(home.path / ".ssh");
    fs::create_directory(home.path / ".ssh");
    fs::create_symlink(other.path / "victim", home.path / ".ssh/authorized_keys");
    CHECK_FALSE(add_authorized_key(home.account, key));
    fs::remove(home.path / ".ssh/authorized_keys");
    // The name of the new file is no trap either.
    fs::create_symlink(other.path / "victim", home.path / ".ssh/.authorized_keys.vmhost");
    REQUIRE(add_authorized_key(home.account, key));
    std::ifstream victim(other.path / "victim");
    std::string text;
    std::getline(victim, text);
    CHECK(text == "secret");
    auto link = home.path.string() + "-link";
    fs::create_directory_symlink(home.path, link);
    CHECK_FALSE(has_authorized_key({"alice", ::geteuid(), ::getegid(), link}, key));
    fs::remove(link);
    CHECK_FALSE(has_authorized_key({"bob", ::geteuid() + 1, ::getegid(), home.path.string()}, key));
}

TEST_CASE("a comment of an account is one field") {
    CHECK(comment_of("Alice: A, & \"B\"\n\x80=") == "Alice A  B");
    CHECK(comment_of(std::string(500, 'x')).size() == 100);
}

TEST_CASE("programs are run without a shell, and their failure is told") {
    CHECK(run({"true", "$(touch /nonexistent)"}));
    auto failed = run({"false"});
    REQUIRE_FALSE(failed);
    CHECK(failed.error().text().find("status 1") != std::string::npos);
    CHECK_FALSE(run({"no-such-program-of-vmhost"}));
}

TEST_CASE("a file is replaced as a whole, and others cannot read it then") {
    Home home;
    auto world = this_host();
    auto path = (home.path / "f").string();
    REQUIRE(world->replace(path, "one"));
    CHECK(mode_of(path) == 0600);
    fs::permissions(path, fs::perms(0644));
    fs::create_symlink("f", home.path / "link");
    std::ofstream(path + ".new") << "half";
    REQUIRE(world->replace((home.path / "link").string(), "two"));
    CHECK(fs::is_symlink(home.path / "link"));
    CHECK(mode_of(path) == 0640);
    CHECK(*world->read(path) == "two");
    CHECK_FALSE(fs::exists(path + ".new"));
    CHECK(world->read(path + "x").error().kind() == ErrorKind::not_found);
}

TEST_CASE("a template is looked at, and a disk is made on it") {
    if (::geteuid() != 0)
        return; // templates are root's
    Home home;
    auto world = this_host();
    auto in = [&](const char* name) { return (home.path / name).string(); };
    auto kind = [&](const char* name) { return world->look_at_template(in(name)).error().kind(); };
    REQUIRE(disk::create_image(in("t.qcow2"), disk::Format::qcow2, 8 * MiB));
    auto found = world->look_at_template(in("t.qcow2"));
    REQUIRE(found);
    CHECK(found->bytes == 8 * MiB);
    CHECK(found->below.empty());
    CHECK_FALSE(found->for_all);
    fs::permissions(in("t.qcow2"), fs::perms(0644));
    CHECK(world->look_at_template(in("t.qcow2"))->for_all);

    REQUIRE(
        world->create_image(in("d.qcow2"), config::ImageFormat::qcow2, 16 * MiB, in("t.qcow2")));
    auto made = disk::inspect({disk::Format::qcow2, in("d.qcow2")});
    REQUIRE(made);
    CHECK(made->size_bytes == 16 * MiB);
    CHECK(made->backing_file == "t.qcow2");
    CHECK(made->backing_format == "qcow2");
    CHECK(world->look_at_template(in("d.qcow2"))->below == "t.qcow2");
    CHECK_FALSE(world->create_image(in("d.qcow2"), config::ImageFormat::qcow2, MiB, in("t.qcow2")));

    CHECK(kind("missing.qcow2") == ErrorKind::not_found);
    fs::create_symlink("t.qcow2", home.path / "link.qcow2");
    CHECK(kind("link.qcow2") == ErrorKind::denied);
    fs::create_hard_link(home.path / "t.qcow2", home.path / "second.qcow2");
    CHECK(kind("t.qcow2") == ErrorKind::denied);
    fs::remove(home.path / "second.qcow2");
    REQUIRE(::chown(in("t.qcow2").c_str(), 1234, 0) == 0);
    CHECK(kind("t.qcow2") == ErrorKind::denied);
    std::ofstream(in("text.qcow2")) << "no image";
    CHECK_FALSE(world->look_at_template(in("text.qcow2")));
}

TEST_CASE("a second run waits for the first, or is told") {
    Home home;
    auto path = (home.path / "state/deploy.lock").string();
    {
        auto first = Lock::take(path, false);
        REQUIRE(first);
        auto second = Lock::take(path, false);
        REQUIRE_FALSE(second);
        CHECK(second.error().kind() == ErrorKind::busy);
    }
    CHECK(Lock::take(path, true));
}

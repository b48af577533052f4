// Answer files written from a configuration.

#include <catch2/catch.hpp>

#include "install/install.h"

using namespace vmhost;
using namespace vmhost::install;

namespace {

struct Sample {
    config::Model model;
    config::Vm vm;
    config::InstallMode mode = config::InstallMode::install;
    Sample() {
        vm.name = "vm13";
        vm.place = Place{"vmhost.toml", 7, 1};
        vm.install.emplace();
        vm.install->hostname = "puffy.example.org";
        vm.install->user = "alice";
        vm.install->sshkey = "ssh-ed25519 AAAA alice@home";
        vm.install->password = "$2b$10$aaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    }
    std::string render() {
        auto text = render_answers(model, vm, mode);
        REQUIRE(text);
        return *text;
    }
    Error refusal() {
        auto text = render_answers(model, vm, mode);
        REQUIRE_FALSE(text);
        return text.error();
    }
};

bool has_line(const std::string& text, std::string_view line) {
    return ("\n" + text).find("\n" + std::string(line) + "\n") != std::string::npos;
}

std::string complaints(std::string_view text) {
    std::string all;
    for (const auto& error : lint_answers(text))
        all += error.message() + "\n";
    return all;
}

} // namespace

TEST_CASE("a whole file") {
    Sample sample;
    CHECK(sample.render() ==
          "# vm13\n"
          "System hostname = puffy.example.org\n"
          "Password for root = *************\n"
          "Change the default console to com0 = yes\n"
          "Which speed should com0 use = 115200\n"
          "Setup a user = alice\n"
          "Full name for user = alice\n"
          "Password for user = $2b$10$aaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
          "Public ssh key for user = ssh-ed25519 AAAA alice@home\n"
          "What timezone are you in = UTC\n"
          "Use (W)hole disk = whole\n"
          "Location of sets = http\n"
          "HTTP Server = http://cdn.openbsd.org\n"
          "Server directory = pub/OpenBSD/7.8/amd64\n"
          "Set name(s) = -x* -game*\n"
          "Cannot determine prefetch area. Continue without verification = yes\n");
    CHECK(complaints(sample.render()).empty());
}

TEST_CASE("without a user the key is root's") {
    Sample sample;
    sample.vm.install->user.clear();
    sample.vm.install->hostname.clear();
    sample.vm.install->root_password = "secret";
    sample.model.host.domain = "example.org";
    auto text = sample.render();
    CHECK(has_line(text, "System hostname = vm13"));
    CHECK(has_line(text, "DNS domain name = example.org"));
    CHECK(has_line(text, "Password for root = secret"));
    CHECK(has_line(text, "Public ssh key for root = ssh-ed25519 AAAA alice@home"));
    CHECK(has_line(text, "Setup a user = no"));
    CHECK(has_line(text, "Allow root ssh login = prohibit-password"));
    CHECK(text.find("for user") == std::string::npos);
    CHECK(complaints(text).empty());
}

TEST_CASE("the operator's answers come first and replace ours") {
    Sample sample;
    sample.vm.install->answers = {{"Set name(s)", "all"},
                                  {"Server", "http://10.0.0.1"},
                                  {"Password for user", "hunter2"},
                                  {"URL to autopartitioning template", "http://10.0.0.1/d"}};
    auto text = sample.render();
    CHECK(text.starts_with("# vm13\nSet name(s) = all\nServer = http://10.0.0.1\n"
                           "Password for user = hunter2\nURL to autopartitioning template = "
                           "http://10.0.0.1/d\nSystem hostname"));
    CHECK_FALSE(has_line(text, "Set name(s) = -x* -game*")); // would be taken the second time
    CHECK_FALSE(has_line(text, "HTTP Server = http://cdn.openbsd.org"));
    CHECK(has_line(text, "Server directory = pub/OpenBSD/7.8/amd64"));
    CHECK(text.find("$2b$") == std::string::npos);
    CHECK(has_line(text, "Setup a user = alice"));

    sample.vm.install->answers = {{"Setup a user", "no"}, {"Location of sets", "cd0"}};
    text = sample.render();
    CHECK(text.find("for user") == std::string::npos);
    CHECK(text.find("HTTP Server") == std::string::npos);
    CHECK(complaints(text).empty());
}

TEST_CASE("sets of this host are fetched from where the guest reaches it") {
    Sample sample;
    auto& model = sample.model;
    model.install.sets = "/srv/openbsd";
    CHECK(sample.refusal().text().find("no interface") != std::string::npos);
    auto& lan = model.switches.emplace_back();
    lan.name = "lan";
    lan.ipv4 = parse_ipv4_prefix("10.9.8.1/24").value();
    auto& other = sample.vm.interfaces.emplace_back(); // on no switch with an address
    other.switch_name = "none";
    auto& interface = sample.vm.interfaces.emplace_back();
    interface.switch_name = "lan";
    interface.ipv4 = parse_ipv4("10.9.8.13").value();
    CHECK(has_line(sample.render(), "HTTP Server = http://10.9.8.1"));
    CHECK(has_line(sample.render(), "Server directory = pub/OpenBSD/7.8/amd64"));
    auto listen = [&](const char* address, std::uint16_t port) {
        model.install.listen.push_back({{}, parse_ipv4(address).value(), port});
    };
    listen("127.0.0.1", 80);
    CHECK(sample.refusal().text().find("cannot reach 127.0.0.1") != std::string::npos);
    model.install.listen.clear();
    listen("192.0.2.1", 8000);
    CHECK(has_line(sample.render(), "HTTP Server = http://192.0.2.1:8000"));
    listen("0.0.0.0", 8080);
    CHECK(has_line(sample.render(), "HTTP Server = http://10.9.8.1:8080"));
    CHECK(complaints(sample.render()).empty());
}

TEST_CASE("mirrors") {
    Sample sample;
    sample.model.install.mirror = "http://10.0.0.1:8080/";
    sample.model.install.release = "snapshots";
    CHECK(has_line(sample.render(), "HTTP Server = http://10.0.0.1:8080"));
    CHECK(has_line(sample.render(), "Server directory = snapshots/amd64"));
    sample.model.install.mirror = "https://[2001:db8::1]/a/b//";
    CHECK(has_line(sample.render(), "HTTP Server = https://[2001:db8::1]"));
    CHECK(has_line(sample.render(), "Server directory = a/b/snapshots/amd64"));
    for (auto bad : {"", "ftp://a/", "http://", "http:///x", "http://u:p@h/", "http://a b/"}) {
        sample.model.install.mirror = bad;
        CHECK(sample.refusal().text().find("mirror") != std::string::npos);
    }
}

TEST_CASE("verification is waved through for site sets alone, when they are wanted") {
    Sample sample;
    CHECK(sample.render().find("Continue anyway") == std::string::npos);
    sample.vm.install->sets = "-x* +site*";
    auto text = sample.render();
    CHECK(has_line(text, "Checksum test for site78.tgz failed. Continue anyway = yes"));
    CHECK(has_line(text, "Checksum test for site78-puffy.tgz failed. Continue anyway = yes"));
    CHECK(has_line(text, "Unverified sets: site78.tgz. Continue without verification = yes"));
    CHECK(has_line(text, "Unverified sets: site78.tgz site78-puffy.tgz. Continue without "
                         "verification = yes"));
    CHECK_FALSE(has_line(text, "Continue without verification = yes"));
    CHECK(complaints(text).empty());
    sample.vm.install->sets = "-site* all";
    CHECK(sample.render().find("Continue anyway") == std::string::npos);
}

TEST_CASE("a value that is not one line is refused, with its place") {
    auto change = GENERATE(
        as<std::function<void(config::VmInstall&)>>{},
        [](config::VmInstall& i) { i.hostname = "a\nPassword for root = x"; },
        [](config::VmInstall& i) { i.sshkey = "ssh-ed25519 AAAA\n"; },
        [](config::VmInstall& i) { i.password = "a\rb"; },
        [](config::VmInstall& i) { i.root_password = " a"; },
        [](config::VmInstall& i) { i.password = "a "; },
        [](config::VmInstall& i) { i.timezone = "UTC\n"; },
        [](config::VmInstall& i) { i.sets = "all\n"; },
        [](config::VmInstall& i) { i.user = "Alice"; },
        [](config::VmInstall& i) { i.user = "root"; }, [](config::VmInstall& i) { i.user = "no"; },
        [](config::VmInstall& i) { i.user = std::string(32, 'a'); },
        [](config::VmInstall& i) { i.hostname = "two words"; },
        [](config::VmInstall& i) {
            i.answers = {{"a", "b\nc"}};
        },
        [](config::VmInstall& i) {
            i.answers = {{"a\nb", "c"}};
        },
        [](config::VmInstall& i) {
            i.answers = {{"a", ""}};
        },
        [](config::VmInstall& i) {
            i.answers = {{"", "b"}};
        },
        [](config::VmInstall& i) {
            i.answers = {{"#a", "b"}};
        },
        [](config::VmInstall& i) {
            i.answers = {{"a=b", "c"}};
        },
        [](config::VmInstall& i) { i.file = "/etc/answers"; });
    Sample sample;
    change(*sample.vm.install);
    auto error = sample.refusal();
    CHECK(error.text().starts_with("vm \"vm13\": "));
    CHECK(error.text().find('\n') == std::string::npos);
}

TEST_CASE("refusals carry the place of the vm") {
    Sample sample;
    sample.vm.install->user = "Alice";
    CHECK(sample.refusal().message().starts_with("vmhost.toml:7:1: vm \"vm13\": install user"));
    sample.vm.install.reset();
    CHECK(sample.refusal().text() == "vm \"vm13\": has no install table");
}

TEST_CASE("a host name adds no line to an upgrade either") {
    Sample sample;
    sample.mode = config::InstallMode::upgrade;
    sample.vm.install->sets = "+site*";
    sample.vm.install->hostname = "puffy\nPassword for root = x";
    CHECK(sample.refusal().kind() == ErrorKind::invalid);
}

TEST_CASE("an upgrade is told where the sets are, and no secret") {
    Sample sample;
    sample.mode = config::InstallMode::upgrade;
    sample.vm.install->answers = {{"Force checking of clean non-root filesystems", "yes"}};
    sample.vm.install->root_password = "open sesame";
    auto text = sample.render();
    CHECK(has_line(text, "Force checking of clean non-root filesystems = yes"));
    CHECK(has_line(text, "Location of sets = http"));
    CHECK(has_line(text, "Server directory = pub/OpenBSD/7.8/amd64"));
    for (auto word : {"assword", "sesame", "user", "hostname", "Use (W)hole disk", "ssh key"}) {
        INFO(word);
        CHECK(text.find(word) == std::string::npos);
    }
}

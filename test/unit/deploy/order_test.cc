// Orders in all their forms, and everything that is refused in them.
#include <catch2/catch.hpp>

#include "deploy/deploy.h"

using namespace vmhost;
using namespace vmhost::deploy;

namespace {

const std::string key =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f alice@d.tld";
const std::string least = "hostname=\"puffy\"\nusername=\"alice\"\nsshkey=\"" + key + "\"\n";

Order good(const std::string& text, const std::string& file = "vms/vm13.txt") {
    auto order = parse_order(text, file);
    if (!order) {
        for (const auto& complaint : order.error())
            UNSCOPED_INFO(complaint.message());
        FAIL("refused:\n" << text);
    }
    return *std::move(order);
}

std::string bad(const std::string& text, const std::string& file = "vm13.txt") {
    auto order = parse_order(text, file);
    std::string out;
    if (!order)
        for (const auto& complaint : order.error())
            out += (out.empty() ? "" : "\n") + complaint.message();
    return out;
}

bool key_is_good(const std::string& line) {
    return parse_ssh_key(line).has_value();
}

} // namespace

TEST_CASE("an order as the seeds have it") {
    auto order = good("# vm13\ndate=\"2019/09/21\"\npayment=\"\"\ndonated=\"\"\nname=\"Alice\"\n"
                      "email=\"alice@domain.tld\"\nsshkey=\"" +
                      key +
                      "\"\nhostname=\"puffy\"\nusername=\"alice\"\nnote=\"I like VMs\"\n"
                      "memory=\"512M\"\ndisk2=\"\"\nformat=\"qcow2\"\nreferral=\"OBSD-1\"\n");
    CHECK(order.vm == "vm13");
    CHECK(order.number == 13);
    CHECK(order.date == "2019/09/21");
    CHECK(order.name == "Alice");
    CHECK(order.hostname == "puffy");
    CHECK(order.username == "alice");
    CHECK(order.memory_bytes == 512 * MiB);
    CHECK_FALSE(order.disk2_bytes);
    CHECK(order.format == config::ImageFormat::qcow2);
    CHECK(order.sshkey.text() == key);
    CHECK(order.warnings.empty());
    CHECK(order.place("memory").line == 11);
}

TEST_CASE("CRLF, a byte order mark, tabs, no quotes and no last line feed are taken") {
    auto order = good("\xef\xbb\xbfhostname\t=\t\"puffy\"\r\n\r\n\tusername=alice\t\r\n"
                      "memory = 1G # as usual\r\nsshkey=" +
                          key,
                      "x/13.txt");
    CHECK(order.vm == "vm13");
    CHECK(order.hostname == "puffy");
    CHECK(order.username == "alice");
}

TEST_CASE("the same in TOML") {
    auto order = good("date = 2019-09-21\nhostname = \"puffy\"\nusername = \"alice\"\ncpus = 2\n"
                      "mac = \"fe:e1:bb:00:00:01\"\nipv4 = \"10.0.0.5\"\nipv6 = \"2001:db8::5\"\n"
                      "state = \"suspended\"\nsshkey = \"" +
                          key + "\"\n",
                      "vm7.toml");
    CHECK(order.date == "2019-09-21");
    CHECK(order.cpus == 2);
    CHECK(order.mac->text() == "fe:e1:bb:00:00:01");
    CHECK(order.suspended == true);
    CHECK(bad("a = [1]\n", "vm1.toml").find("expected a text") != std::string::npos);
    CHECK(bad("hostname = \n", "vm1.toml").starts_with("vm1.toml:1:"));
}

TEST_CASE("the form's mail as it was saved") {
    auto order = good("From: form@openbsd.amsterdam\nSubject: order\nDate: today\n"
                      "Hostname: not this\n\nHello,\n\nName: Alice\nemail: alice@domain.tld\n"
                      "Hostname: puffy\nusername=\"alice\"\nsshkey: " +
                          key + "\nnote: a: b\n\n-- \nusername: mallory\n",
                      "orders/first.eml");
    CHECK(order.vm.empty());
    CHECK_FALSE(order.number);
    CHECK(order.hostname == "puffy");
    CHECK(order.username == "alice");
    CHECK(bad("From: a\nContent-Transfer-Encoding: base64\n\nx: y\n").find("plain text") !=
          std::string::npos);
}

TEST_CASE("a note is inert") {
    auto order = good(least + "note=\"\";$(reboot)`id`\"\n");
    CHECK(order.warnings.empty());
    CHECK(bad(least + "note=\"a\x01\"\n") ==
          "vm13.txt:4:1: note: has a control character, or lines");
    CHECK(bad(least + "note=\"a\nb\"\n") ==
          "vm13.txt:4:1: note: the value has no closing quote\n"
          "vm13.txt:5:1: expected a line such as hostname=\"puffy\"");
}

TEST_CASE("what an order cannot say") {
    CHECK(bad(least + "hostname=\"x\"\n") ==
          "vm13.txt:4:1: hostname: is there twice, first at line 1");
    CHECK(bad("name=\"x\"\n") == "vm13.txt:1:1: \"username\" is missing\n"
                                 "vm13.txt:1:1: \"hostname\" is missing\n"
                                 "vm13.txt:1:1: \"sshkey\" is missing");
    for (const std::string line :
         {"date=\"2019/02/30\"", "date=\"19/9/21\"", "email=\"a@b@c\"", "email=\"@b\"",
          "memory=\"1Q\"", "memory=\"1K\"", "memory=\"999G\"", "disk=\"1K\"", "format=\"zst\"",
          "mac=\"01:00:5e:00:00:01\"", "mac=\"fe:e1\"", "ipv4=\"1.2.3\"", "ipv6=\"::g\"",
          "cpus=\"0\"", "state=\"gone\"", "no equals sign", "Key=\"x\""}) {
        INFO(line);
        CHECK(bad(least + line + "\n").starts_with("vm13.txt:4:1: "));
    }
    CHECK(bad("\xff\xfe" + least) == "vm13.txt:1:1: an order is a text in UTF-8");
    CHECK(bad("name=\"\xed\xa0\x80\"\n" + least) != "");
    CHECK(bad(std::string(deploy::limits::max_order_bytes + 1, '#')).find("at most 65536 bytes") !=
          std::string::npos);
    CHECK(bad(least + std::string(deploy::limits::max_order_lines, '\n')).find("at most 1000") !=
          std::string::npos);
    CHECK(bad(least, "vm013.txt").find("no zero in front") != std::string::npos);
    CHECK(bad(least, "vm10000.txt").find("at most 9999") != std::string::npos);
    CHECK(bad(least, "a b13.txt") != "");
}

TEST_CASE("an image by its name alone, and a system") {
    auto order = good(least + "image=\"debian-12_x.y+1.qcow2\"\nsystem=\"cloud-init\"\n");
    CHECK(order.image == "debian-12_x.y+1.qcow2");
    CHECK(order.system == config::InstallSystem::cloud_init);
    CHECK(good(least + "image = \"none\"\n").image == "none");
    CHECK(good("image = \"a.raw\"\nsystem = \"ipxe\"\nhostname = \"puffy\"\nusername = \"alice\"\n"
               "sshkey = \"" +
                   key + "\"\n",
               "vm13.toml")
              .image == "a.raw");
    CHECK_FALSE(good(least).system);
    for (std::string image : {"/etc/a.qcow2", "../a.qcow2", "a/b.qcow2", ".a.qcow2", "a", "a.iso",
                              "a b.qcow2", "a.qcow2.removed-2026-11-22", "None"})
        CHECK(bad(least + "image=\"" + image + "\"\n").find("is no name of an image") !=
              std::string::npos);
    CHECK(bad(least + "system=\"windows\"\n")
              .starts_with("vm13.txt:4:1: system: \"windows\" is none of"));
}

TEST_CASE("an unknown key is a warning with a hint") {
    auto order = good(least + "memroy=\"1G\"\n");
    REQUIRE(order.warnings.size() == 1);
    CHECK(order.warnings[0].message() ==
          "vms/vm13.txt:4:1: \"memroy\" is not known: did you mean \"memory\"?");
}

TEST_CASE("host names") {
    for (const std::string name : {"puffy", "p", "a-b", "3com", "puffy.example.org"})
        CHECK(check_hostname(name));
    for (const std::string& name :
         {std::string("Puffy_1"), std::string("-x"), std::string("x-"), std::string(64, 'a'),
          std::string("a..b"), std::string("a."), std::string(), std::string("a b")})
        CHECK_FALSE(check_hostname(name));
    CHECK(check_hostname(std::string(63, 'a')));
}

TEST_CASE("names of users") {
    for (const std::string name : {"alice", "a", "a-b_c9"})
        CHECK(check_username(name));
    for (const std::string name : {"root", "Alice", "9a", "_x", "", "a.b", "no", "www", "a b",
                                   "abcdefghijklmnopqrstuvwxyzabcdef"})
        CHECK_FALSE(check_username(name));
}

TEST_CASE("keys that are taken") {
    CHECK(key_is_good(key));
    CHECK(key_is_good(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"));
    CHECK(key_is_good(
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGsX0fLhLEJH+Lzm5W"
        "OkQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU= a b c"));
    auto spaced = parse_ssh_key("  " + key + " \t");
    REQUIRE(spaced);
    CHECK(spaced->comment == "alice@d.tld");
}

TEST_CASE("keys that are refused") {
    auto changed = [](std::size_t at, char c) {
        auto text = key;
        text[at] = c;
        return text;
    };
    CHECK_FALSE(key_is_good(key + "\n" + key));
    CHECK_FALSE(key_is_good("no-pty " + key));
    CHECK(parse_ssh_key("command=\"a b\" " + key).error().text().find("no options") !=
          std::string::npos);
    CHECK_FALSE(key_is_good(key.substr(0, 60)));                              // cut off
    CHECK_FALSE(key_is_good("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgME")); // inside, too
    CHECK(parse_ssh_key("ssh-rsa" + key.substr(11)).error().text() ==
          "the key says ssh-rsa and is ssh-ed25519");
    CHECK_FALSE(key_is_good(changed(20, '-')));
    CHECK_FALSE(key_is_good("ssh-dss AAAAB3NzaC1kc3M= x"));
    CHECK_FALSE(key_is_good("ssh-ed25519"));
    CHECK_FALSE(key_is_good(""));
    // Four bytes too many, and a length that is past the end.
    CHECK_FALSE(key_is_good(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAAAA"));
    CHECK_FALSE(key_is_good("ssh-ed25519 /////w=="));
    CHECK_FALSE(key_is_good("ssh-ed25519 AAAAC3Nzaf=="));
}

TEST_CASE("a password has 20 characters, all of them equally likely") {
    unsigned next = 0;
    auto text = password_of([&] { return static_cast<std::uint8_t>(next++); });
    CHECK(text == "!\"#$%&'()*+,-./01234");
    // Bytes of which some characters would be more are passed over.
    unsigned asked = 0;
    text = password_of([&] { return asked++ < 50 ? std::uint8_t{188} : std::uint8_t{187}; });
    CHECK(text == std::string(20, '~'));
    CHECK(asked == 70);
    // Each byte that counts, once: every character as often as any other.
    std::map<char, int> seen;
    for (unsigned byte = 0; byte < 188; ++byte)
        ++seen[password_of([&] { return static_cast<std::uint8_t>(byte); })[0]];
    CHECK(seen.size() == 94);
    CHECK(std::ranges::all_of(seen, [](const auto& one) { return one.second == 2; }));
    CHECK(new_password() != new_password());
    CHECK(new_password().size() == 20);
}

TEST_CASE("dates") {
    CHECK(date_text(*parse_date("2024/02/29")) == "2024-02-29");
    CHECK(date_text(*parse_date("2019-09-21")) == "2019-09-21");
    for (const std::string text : {"2023/02/29", "2019/09-21", "2019/9/21", "", "yesterday!"})
        CHECK_FALSE(parse_date(text));
}

TEST_CASE("fingerprints of known keys are the known ones") {
    SshfpOptions both{.sha1 = true};
    auto records = [&](const std::string& line, const SshfpOptions& options) {
        auto parsed = parse_ssh_key(line);
        REQUIRE(parsed);
        return *sshfp_records("h", *parsed, options);
    };
    CHECK(
        records("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS",
                both) ==
        "h IN SSHFP 4 1 06a2de9a2d0f034701d67917e49cfc45a03c2e61\n"
        "h IN SSHFP 4 2 a87f1b687ac0e57d2a081a2f282672334d90ed316d2b818ca9580ea384d92401\n");
    CHECK(records(key, both) ==
          "h IN SSHFP 4 1 568be87a0fbb623a91793addce529ff4c254abd3\n"
          "h IN SSHFP 4 2 66402c9468c58941dd19ffd650bf2b42f9226f83d3bd06ad515d0e5104a77020\n");
    CHECK(
        records("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGsX0fLh"
                "LEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU=",
                both) ==
        "h IN SSHFP 3 1 8a1ad100a767b506a3c4bb0c22d0b31850f76a31\n"
        "h IN SSHFP 3 2 4853150ceae139206cb0e547f6121c2bf6765d57f5a1254c8cd08bf2ed9a2026\n");
    CHECK(records(key, {.generic = true}) ==
          "h IN TYPE44 \\# 34 04 02 "
          "66402c9468c58941dd19ffd650bf2b42f9226f83d3bd06ad515d0e5104a77020\n");
    auto scanned = parse_host_keys("# host:22 SSH-2.0\nhost " + key + "\r\n\n" + key + "\n", "k");
    REQUIRE(scanned);
    CHECK(scanned->size() == 2);
    CHECK_FALSE(parse_host_keys("", "k"));
    CHECK(parse_host_keys(key + "\nnonsense\n", "k").error().message().starts_with("k:2:1: "));
}

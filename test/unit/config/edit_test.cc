// Edits of a file's text, and files of keys and values alone.
#include "helpers.h"

using namespace vmhost;
using namespace vmhost::config;

namespace {

const std::string file = "# The host\n[host]\nname = \"h\"\n\n"
                         "# Alice's\n# first one\n[vm.a] # hers\nmemory = \"64M\" # small\n"
                         "disk = [\n  { path = \"[vm.b]\" }, # ]\n]\n\n[vm.a.install]\n"
                         "sshkey = '''[vm.a]'''\n\n"
                         "# between\n\n# Bob's\n[vm.b]\nmemory = \"32M\"\n\n"
                         "[[vm.b.disk]]\npath = \"b.raw\"\n";

} // namespace

TEST_CASE("a VM is taken out with its tables and comments, and nothing else") {
    auto without = without_vm(file, "a");
    REQUIRE(without);
    CHECK(*without == "# The host\n[host]\nname = \"h\"\n\n"
                      "# between\n\n# Bob's\n[vm.b]\nmemory = \"32M\"\n\n"
                      "[[vm.b.disk]]\npath = \"b.raw\"\n");
    auto last = without_vm(*without, "b");
    REQUIRE(last);
    CHECK(*last == "# The host\n[host]\nname = \"h\"\n\n# between\n");
    CHECK_FALSE(without_vm(*last, "b"));
    CHECK_FALSE(without_vm("vm.a.memory = \"64M\"\n", "a"));
    CHECK_FALSE(without_vm("[vm]\na = { memory = \"64M\" }\n", "a"));
}

TEST_CASE("a VM's tables may stand apart") {
    auto without = without_vm("[vm.a]\n[vm.b]\n[vm.a.install]\nuser = \"x\"\n", "a");
    REQUIRE(without);
    CHECK(*without == "[vm.b]\n");
}

TEST_CASE("taking out and putting back leaves the file as it was") {
    std::string tables = "# new\n[vm.z]\nmemory = \"16M\"\n\n[vm.z.install]\nuser = \"z\"\n";
    auto with = with_tables(file, tables);
    CHECK(good(with).vms.size() == 3);
    auto without = without_vm(with, "z");
    REQUIRE(without);
    CHECK(*without == file);
    CHECK(with_tables("a = 1", "[b]\n") == "a = 1\n\n[b]\n");
    CHECK(with_tables("", "[b]\n") == "[b]\n");
}

TEST_CASE("a key is changed where it stands, or added to its table") {
    auto changed = with_key(file, {"vm", "a"}, "memory", "\"1G\"");
    REQUIRE(changed);
    CHECK(changed->find("memory = \"1G\" # small\n") != std::string::npos);
    CHECK(changed->size() == file.size() - 1);
    auto disks = with_key(file, {"vm", "a"}, "disk", "[]");
    REQUIRE(disks);
    CHECK(disks->find("disk = []\n\n[vm.a.install]") != std::string::npos);
    auto added = with_key(file, {"vm", "b"}, "enable", "false");
    REQUIRE(added);
    CHECK(added->find("[vm.b]\nenable = false\nmemory") != std::string::npos);
    CHECK_FALSE(with_key(file, {"vm", "b", "install"}, "user", "\"x\""));
    auto quoted = with_key("[ \"vm\" . 'a b' ]\n", {"vm", "a b"}, "enable", "true");
    REQUIRE(quoted);
    CHECK(*quoted == "[ \"vm\" . 'a b' ]\nenable = true\n");
    CHECK(*with_key("[host]", {"host"}, "name", "\"x\"") == "[host]\nname = \"x\"\n");
    CHECK_FALSE(with_key("[vm.a]\ninstall.user = \"x\"\n", {"vm", "a"}, "install", "{}"));
}

TEST_CASE("an editor never runs off the end of what is no TOML") {
    for (std::string text : {"[", "[[", "[vm.", "[vm.\"a", "a", "a =", "a = \"", "a = \"\\",
                             "a = '''", "a = [", "\"\\", "= ]", "#", "\xef\xbb\xbf"}) {
        CHECK_FALSE(without_vm(text, "z"));
        CHECK_FALSE(with_key(text, {"vm", "z"}, "b", "1"));
    }
}

TEST_CASE("a flat file") {
    auto values = parse_flat("a = \"x\"\nb = 3\nc = true\nd = 2019-09-21\n", "o.toml");
    REQUIRE(values);
    REQUIRE(values->size() == 4);
    CHECK((*values)[1].value == "3");
    CHECK((*values)[3].value == "2019-09-21");
    CHECK((*values)[3].place.line == 4);
    CHECK_FALSE(parse_flat("[a]\nb = 1\n", "o.toml"));
    CHECK_FALSE(parse_flat("a = 1\na = 2\n", "o.toml"));
}

TEST_CASE("a _deploy.conf becomes an [allocate] table") {
    ImportOptions options;
    options.read = [](const std::string&) -> Result<std::string> {
        return "# Server config\nSERVER=\"server8\"\nDOMAIN=\"openbsd.amsterdam\"\n"
               "IP_PREFIX=\"46.23.93\"\nIP_START=100\nIPV6_PREFIX=\"2a03:6000:6f64\"\n"
               "IPV6_START=600\nMAC_PREFIX=\"fe:e1:bb:f1:c8\"\nVMS=\"/home/mischa/vms\"\n"
               "ETC=\"/etc\"\nIMAGES=\"/var/vmm\"\nHTDOCS=\"/var/www/htdocs/default\"\n"
               "MEMORY=\"512M\"\nDISKSIZE=\"50G\"\nFORMAT=\"qcow2\"\nVMDUSERS=\"_vmdusers\"\n"
               "SWITCH=\"uplink_vlan931\"\nINTERFACE=\"bridge931\"\nROUTER=\"46.23.93.1\"\n"
               "DNS=\"46.23.80.26\"\nSUBNET=\"46.23.93.0\"\nNETMASK=\"255.255.255.0\"\n";
    };
    auto imported = import_deployconf("_deploy.conf", options);
    REQUIRE(imported);
    auto model = good(imported->toml);
    const auto& allocate = model.allocate;
    CHECK(model.host.name == "server8");
    CHECK(model.control.owner.group == "_vmdusers");
    CHECK(allocate.switch_name == "uplink_vlan931");
    CHECK(allocate.mac_prefix == "fe:e1:bb:f1:c8");
    CHECK(allocate.ipv4_start->text() == "46.23.93.100");
    CHECK(allocate.ipv6_prefix->text() == "2a03:6000:6f64::/48");
    CHECK(allocate.ipv6_start == 600);
    CHECK(allocate.images == "/var/vmm");
    REQUIRE(model.switches.size() == 1);
    CHECK(model.switches[0].interface == "bridge931");
    CHECK(model.switches[0].ipv4->text() == "46.23.93.254/24");
    CHECK(model.switches[0].dhcp.routers[0].text() == "46.23.93.1");
    CHECK(imported->warnings.size() == 4); // the made-up address, ETC, HTDOCS, VMS
    options.read = [](const std::string&) -> Result<std::string> { return "A=\"1\"\nA=\"2\"\n"; };
    REQUIRE_FALSE(import_deployconf("_deploy.conf", options));
    CHECK(import_deployconf("_deploy.conf", options).error()[0].message() ==
          "_deploy.conf:2:1: A is there twice");
}

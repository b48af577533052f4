#include "helpers.h"

using namespace vmhost;
using namespace vmhost::config;

namespace {

const std::string lan = "[switch.lan]\nipv4 = \"10.9.8.1/24\"\n"; // two lines

} // namespace

TEST_CASE("names of VMs and switches") {
    CHECK(bad("[vm.007]") == "t.toml:1:5: vm.007: vmctl(8) takes a name of digits only for a "
                             "number: add a letter");
    CHECK(bad("[vm.7a]").empty());
    CHECK(bad("[switch.7]").empty());
    CHECK(bad("[vm." + std::string(63, 'a') + "]").empty());
    CHECK_FALSE(bad("[vm." + std::string(64, 'a') + "]").empty());
    CHECK(bad("[vm.\"a/b\"]") ==
          "t.toml:1:5: \"a/b\": a name has only letters, digits, '.', '-' and '_'");
}

TEST_CASE("an Ethernet address belongs to one interface") {
    CHECK(bad(lan + R"([vm.a]
interface = [{ switch = "lan", lladdr = "02:00:00:00:00:01" }]
[vm.b]
interface = [{ switch = "lan" }, { switch = "lan", lladdr = "02:00:00:00:00:01" }]
)") == "t.toml:6:61: vm.b.interface[1].lladdr: \"02:00:00:00:00:01\" is taken by "
       "vm.a.interface[0].lladdr at line 4");
    CHECK_FALSE(
        bad(lan + "[vm.a]\ninterface = [{ switch = \"lan\", lladdr = \"01:00:5e:00:00:01\" }]")
            .empty());
}

TEST_CASE("a guest's IPv4 address is its own and inside the subnet") {
    auto with = [](std::string_view address) {
        return bad(lan + fmt::format("[vm.a]\ninterface = [{{ switch = \"lan\", ipv4 = \"{}\" }}]",
                                     address));
    };
    CHECK(with("10.9.8.2").empty());
    CHECK(with("10.9.8.254").empty());
    CHECK(with("10.9.9.2") == "t.toml:4:39: vm.a.interface[0].ipv4: 10.9.9.2 is not inside "
                              "10.9.8.1/24 of switch \"lan\"");
    CHECK(with("10.9.8.1").find("own address") != std::string::npos);
    CHECK(with("10.9.8.0").find("network address") != std::string::npos);
    CHECK(with("10.9.8.255").find("broadcast address") != std::string::npos);
    CHECK(bad(lan + R"([vm.a]
interface = [{ switch = "lan", ipv4 = "10.9.8.7" }]
[vm.b]
interface = [{ switch = "lan", ipv4 = "10.9.8.7" }]
)") == "t.toml:6:39: vm.b.interface[0].ipv4: \"10.9.8.7\" is taken by vm.a.interface[0].ipv4 at "
       "line 4");
    CHECK(bad("[switch.x]\n[vm.a]\ninterface = [{ switch = \"x\", ipv4 = \"10.9.8.7\" }]") ==
          "t.toml:3:37: vm.a.interface[0].ipv4: 10.9.8.7 has no effect: switch \"x\" has no ipv4");
}

TEST_CASE("one mistake is one complaint") {
    // A subnet that cannot be read does not make its guests wrong.
    CHECK(bad("[switch.x]\nipv4 = 1\n[vm.a]\ninterface = [{ switch = \"x\", ipv4 = \"10.9.8.7\" }]")
              .find('\n') == std::string::npos);
    CHECK(bad("[vm.a]\nboot = 1\ninitrd = \"/initrd\"").find('\n') == std::string::npos);
    CHECK(bad("[vm.a]\ninterface = [{ switch = 1 }]").find('\n') == std::string::npos);
}

TEST_CASE("subnets of switches") {
    for (auto prefix : {"10.9.8.1/31", "10.9.8.1/32", "10.9.8.0/24", "10.9.8.255/24", "1.2.3.4/0",
                        "0.0.0.1/8", "127.0.0.1/8", "224.0.0.1/24", "10.9.8.1"}) {
        INFO(prefix);
        CHECK_FALSE(bad(fmt::format("[switch.a]\nipv4 = \"{}\"", prefix)).empty());
    }
    CHECK(bad("[switch.a]\nipv4 = \"10.9.8.1/30\"").empty());
    CHECK(bad(lan + "[switch.b]\nipv4 = \"10.9.8.2/24\"") ==
          "t.toml:4:8: switch.b.ipv4: 10.9.8.2/24 is the subnet of switch.lan.ipv4 at line 1 too");
    CHECK_FALSE(bad(lan + "[switch.b]\nipv4 = \"10.9.8.129/25\"").empty());
    CHECK_FALSE(bad(lan + "[switch.b]\nipv4 = \"10.9.0.1/16\"").empty());
    CHECK(bad(lan + "[switch.b]\nipv4 = \"10.9.9.1/24\"").empty());
    CHECK(bad("[switch.a]\ndhcp = true") ==
          "t.toml:2:8: switch.a.dhcp: DHCP needs a subnet: switch \"a\" has no ipv4");
}

TEST_CASE("a network device is in one switch") {
    CHECK(bad("[switch.a]\ninterface = \"br0\"\n[switch.b]\ninterface = \"br0\"") ==
          "t.toml:4:13: switch.b.interface: \"br0\" is taken by switch.a.interface at line 2");
    CHECK(bad("[switch.a]\nports = [\"eth0\"]\n[switch.b]\nports = [\"eth1\", \"eth0\"]") ==
          "t.toml:4:18: switch.b.ports: \"eth0\" is taken by switch.a.ports at line 2");
    CHECK_FALSE(bad("[switch.a]\nports = [\"br-b\"]\n[switch.b]").empty());
    // Default names that are equal once cut.
    CHECK_FALSE(bad("[switch.a-rather-long-one]\n[switch.a-rather-long-two]").empty());
}

TEST_CASE("an image has one writer") {
    CHECK(bad("[vm.a]\ndisk = [{ path = \"x.img\" }]\n[vm.b]\ndisk = [{ path = \"x.img\" }]") ==
          "t.toml:4:18: vm.b.disk[0].path: \"x.img\" is the disk of vm.a.disk[0].path at line 2 "
          "too, and only read-only disks can be shared");
    // However it is written.
    CHECK_FALSE(bad("[vm.a]\ndisk = [{ path = \"x.img\", read_only = true }, { path = "
                    "\"/var/lib/vmhost/./y/../x.img\" }]")
                    .empty());
    // A base is read by many and written by none.
    CHECK(bad("[vm.a]\ndisk = [{ path = \"x\", base = \"b\" }, { path = \"y\", base = \"b\" }]\n"
              "[vm.b]\ndisk = [{ path = \"b\", read_only = true }]")
              .empty());
    CHECK(
        bad("[vm.a]\ndisk = [{ path = \"x\", base = \"b\" }]\n[vm.b]\ndisk = [{ path = "
            "\"/var/lib/vmhost/b\" }]") ==
        "t.toml:4:18: vm.b.disk[0].path: \"/var/lib/vmhost/b\" is the base of vm.a.disk[0].base at "
        "line 2 too, and only read-only disks can be shared");
    CHECK_FALSE(bad("[vm.a]\ndisk = [{ path = \"x\", base = [\"y\", \"x\"] }]").empty());
    CHECK(bad("[vm.a]\ndisk = [{ path = \"x\", format = \"raw\", base = \"b\" }]") ==
          "t.toml:2:46: vm.a.disk[0].base: only a qcow2 image can have a base");
    CHECK(bad("[vm.a]\ndisk = [{ path = \"x\", read_only = true }]\n[vm.b]\ndisk = [{ path = "
              "\"x\", read_only = true }]")
              .empty());
}

TEST_CASE("settings of an installation are of its system") {
    auto install = [](const std::string& lines) { return bad("[vm.a]\n[vm.a.install]\n" + lines); };
    for (auto system : {"cloud-init", "preseed", "kickstart"}) {
        const auto head = std::string("system = \"") + system + "\"\n";
        CHECK(install(head).empty());
        CHECK(install(head + "template = \"t\"\n").empty());
        CHECK(install(head + "disklabel = \"/d\"\n") ==
              "t.toml:4:13: vm.a.install.disklabel: only with system = \"openbsd\"");
        CHECK(install(head + "answers = { \"a\" = \"b\" }\n") ==
              "t.toml:1:5: vm.a.install.answers: only with system = \"openbsd\"");
        CHECK(install(head + "mode = \"upgrade\"\n") ==
              "t.toml:4:8: vm.a.install.mode: only with system = \"openbsd\"");
        CHECK(install(head + "site = { installurl = \"http://x\" }\n")
                  .find("vm.a.install.site: only with system") != std::string::npos);
        CHECK(install(head + "host_keys = true\n").empty() == (head.find("cloud") != head.npos));
    }
    CHECK(install("disklabel = \"/d\"\nmode = \"upgrade\"\nhost_keys = true\n"
                  "[install]\nsets = \"/s\"\nrelease = \"7.8\"\nlisten = [\"192.0.2.1\"]\n")
              .empty());
    CHECK(install("file = \"f\"\ntemplate = \"t\"\n") ==
          "t.toml:4:12: vm.a.install.template: \"file\" is served as it is: give one of the two");
    CHECK(install("system = \"ipxe\"\n") == "t.toml:3:10: vm.a.install.system: what iPXE is to do "
                                            "is said nowhere: give a \"template\"");
    CHECK(install("system = \"ipxe\"\ntemplate = \"t\"\n").empty());
    CHECK(install("system = \"ipxe\"\nfile = \"t\"\n").empty());
    CHECK(bad("[switch.lan]\nipv4 = \"10.9.8.1/24\"\n[allocate]\nswitch = \"lan\"\n"
              "[allocate.install]\nsystem = \"preseed\"\nmode = \"upgrade\"\n") ==
          "t.toml:7:8: allocate.install.mode: only with system = \"openbsd\"");
}

TEST_CASE("settings of a kernel need a kernel") {
    CHECK(bad("[vm.a]\ninitrd = \"/i\"") ==
          "t.toml:2:10: vm.a.initrd: has no effect without \"boot\", which is missing in [vm.a] at "
          "line 1");
    CHECK_FALSE(bad("[vm.a]\ncommand_line = \"x\"").empty());
    CHECK_FALSE(bad("[vm.a]\nboot_flags = [\"config\"]").empty());
    CHECK(bad("[vm.a]\nboot = \"/k\"\ninitrd = \"/i\"\nboot_flags = [\"config\"]").empty());
}

TEST_CASE("listen addresses are distinct") {
    CHECK_FALSE(bad("[install]\nlisten = [\"10.0.0.1:80\", \"10.0.0.1\"]").empty());
    CHECK(bad("[install]\nlisten = [\"10.0.0.1:80\", \"10.0.0.1:81\"]").empty());
    CHECK(bad("[install]\nlisten = [\"10.0.0.1:80\",\n\"0.0.0.0:80\"]") ==
          "t.toml:2:11: install.listen: 10.0.0.1 is taken: 0.0.0.0 at line 3 has port 80 of every "
          "address");
    CHECK_FALSE(bad("[install]\nlisten = [\"[::1]:80\", \"::1\"]").empty());
    CHECK(bad("[install]\nlisten = [\"0.0.0.0:80\", \"[::]:80\"]").empty());
    CHECK(bad("[install]\nlisten = [\"[::1]:80\",\n\"[::]:80\"]") ==
          "t.toml:2:11: install.listen: ::1 is taken: :: at line 3 has port 80 of every address");
}

TEST_CASE("files that nobody can ask for are a mistake") {
    const std::string files = "[[install.location]]\npath = \"/*\"\ndirectory = \"/srv\"\n";
    CHECK(bad(files).starts_with("t.toml:1:1: install: files are served nowhere"));
    CHECK(bad("[install]\nsets = \"/srv\"").starts_with("t.toml:2:8: install: files"));
    CHECK(bad(files + lan).empty());
    CHECK(bad("[install]\nlisten = [\"10.0.0.1:80\"]\n" + files).empty());
    CHECK(bad(lan + "[[install.location]]\npath = \"x\"\ndirectory = \"/srv\"") != "");
    CHECK(bad(lan + "[[install.location]]\npath = \"/\"\nhost = \"A.b\"\ndirectory = \"/srv\"") !=
          "");
    CHECK(bad(lan + "[[install.location]]\npath = \"/\"") != "");
}

TEST_CASE("files by TFTP are served at addresses, and from a directory") {
    CHECK(bad("[tftp]\ndirectory = \"/srv\"\nlisten = [\"10.0.0.1\"]").empty());
    CHECK(bad("[tftp]\nlisten = [\"10.0.0.1\"]")
              .find("tftp.listen: has no effect without a directory") != std::string::npos);
    CHECK(bad("[tftp]\ndirectory = \"/srv\"\nlisten = [\"0.0.0.0\"]")
              .find("tftp.listen: 0.0.0.0 is no address of this host") != std::string::npos);
}

TEST_CASE("metrics have ports of their own") {
    const std::string tenants = "[install]\nlisten = [\"10.0.0.1:80\"]\n";
    CHECK(bad(tenants + "[metrics]\nlisten = [\"10.0.0.1:9100\", \"127.0.0.1:80\"]").empty());
    CHECK(bad(tenants + "[metrics]\nlisten = [\"10.0.0.1:80\"]") ==
          "t.toml:4:11: metrics.listen: 10.0.0.1:80 is taken by the HTTP service for installers at "
          "line 2: give it another port");
    CHECK_FALSE(bad(tenants + "[metrics]\nlisten = [\"0.0.0.0:80\"]").empty());
    CHECK_FALSE(bad("[install]\nlisten = [\"0.0.0.0:80\"]\n[metrics]\nlisten = "
                    "[\"10.0.0.1:80\"]")
                    .empty());
    CHECK_FALSE(bad("[metrics]\nlisten = [\"10.0.0.1:90\", \"0.0.0.0:90\"]").empty());
    // Without [install] listen its service is on port 80 of every switch, when a VM needs it.
    const std::string listen = "[metrics]\nlisten = [\"10.9.8.1:80\"]\n";
    CHECK(bad(lan + listen).empty());
    CHECK_FALSE(bad(lan + listen +
                    "[vm.a]\ninterface = [{ switch = \"lan\" }]\n"
                    "[vm.a.install]\nuser = \"x\"\nsshkey = \"ssh-ed25519 A\"\n")
                    .empty());
}

TEST_CASE("limits of counts") {
    auto repeat = [](std::string_view head, std::string_view item, std::size_t count,
                     std::string_view tail) {
        std::string out(head);
        for (std::size_t i = 0; i < count; ++i)
            out += fmt::format(fmt::runtime(item), i);
        return out + std::string(tail);
    };
    const auto disk = "{{ path = \"d{}\" }},";
    CHECK(bad(repeat("[vm.a]\ndisk = [", disk, limits::max_disks, "]")).empty());
    CHECK(bad(repeat("[vm.a]\ndisk = [", disk, limits::max_disks + 1, "]")) ==
          "t.toml:2:8: vm.a.disk: there may be at most 16 of them, here are 17");
    const auto nic = "{{ switch = \"lan\" }},";
    CHECK(bad(repeat(lan + "[vm.a]\ninterface = [", nic, limits::max_interfaces, "]")).empty());
    CHECK_FALSE(
        bad(repeat(lan + "[vm.a]\ninterface = [", nic, limits::max_interfaces + 1, "]")).empty());
    CHECK(bad(repeat("", "[vm.v{}]\n", limits::max_vms, "")).empty());
    CHECK(bad(repeat("", "[vm.v{}]\n", limits::max_vms + 1, "")) ==
          "t.toml:4097:5: vm.v4096: there may be at most 4096 tables [vm.NAME], this is one too "
          "many");
    CHECK(bad(repeat("", "[switch.s{}]\n", limits::max_switches, "")).empty());
    CHECK_FALSE(bad(repeat("", "[switch.s{}]\n", limits::max_switches + 1, "")).empty());
}

TEST_CASE("a boot from CD-ROM needs a drive, and what lies in it is written by nobody") {
    CHECK(bad("[vm.a]\nboot_device = \"cdrom\"") ==
          "t.toml:2:15: vm.a.boot_device: needs a drive: \"cdrom\" is missing in [vm.a] at line 1");
    CHECK(bad("[vm.a]\nboot_device = \"cdrom\"\ncdrom = \"\"").empty());
    CHECK(bad("[vm.a]\ncdrom = \"a.iso\"\n[vm.b]\ncdrom = \"a.iso\"").empty());
    CHECK_THAT(bad("[vm.a]\ncdrom = \"a.iso\"\n[vm.b]\ndisk = [{ path = \"a.iso\" }]"),
               Catch::Contains("only read-only disks can be shared"));
}

TEST_CASE("a host key for OpenBSD needs sets of a release") {
    const std::string vm = "[switch.lan]\ninterface = \"br0\"\nipv4 = \"10.9.8.1/24\"\n"
                           "[vm.a.install]\nhost_keys = true\n";
    CHECK(bad("[install]\nsets = \"/srv/openbsd\"\n" + vm) == "");
    CHECK(bad(vm).find("host_keys: the key comes with the sets of this host") != std::string::npos);
    CHECK(bad("[install]\nsets = \"/srv/openbsd\"\nrelease = \"snapshots\"\n" + vm)
              .find("snapshots has no number") != std::string::npos);
    // Others have it in their answers.
    CHECK(bad(vm + "system = \"cloud-init\"\n").empty());
}

TEST_CASE("site sets have something in them, and sets beside them") {
    const std::string head =
        "[switch.lan]\ninterface = \"br0\"\nipv4 = \"10.9.8.1/24\"\n[install]\n";
    const std::string sets = head + "sets = \"/srv\"\n";
    auto site = [&](const std::string& keys) { return bad(sets + "site = { " + keys + " }"); };
    CHECK(site("installurl = \"https://cdn.openbsd.org/pub/OpenBSD\"").empty());
    CHECK(site("files = [{ path = \"etc/x\", content = \"a\\nb\" }]").empty());
    CHECK(site("files = [{ path = \"etc/x\", source = \"/srv/x\", mode = \"0600\" }]").empty());
    CHECK(bad(head + "site = { installurl = \"https://a.example/x\" }")
              .find("give [install] \"sets\"") != std::string::npos);
    CHECK(site("").find("there is nothing in it") != std::string::npos);
    CHECK(site("sysctl = { a = \"b\" }, files = [{ path = \"etc/sysctl.conf\", content = \"x\" }]")
              .find("etc/sysctl.conf comes twice") != std::string::npos);
    for (auto wrong : {"files = [{ path = \"../x\", content = \"x\" }]",
                       "files = [{ path = \"/x\", content = \"x\" }]",
                       "files = [{ path = \"a/../x\", content = \"x\" }]",
                       "files = [{ path = \"a//x\", content = \"x\" }]",
                       "files = [{ path = \"a/\", content = \"x\" }]", "files = [{ path = \"a\" }]",
                       "files = [{ path = \"a\", content = \"x\", source = \"/x\" }]",
                       "files = [{ path = \"a\", content = \"x\", mode = \"0999\" }]",
                       "files = [{ path = \"a\", content = \"x\", mode = \"10000\" }]",
                       "files = [{ path = \"a\", content = \"x\", owner = -1 }]",
                       "sysctl = { \"a b\" = \"c\" }", "sysctl = { a = 1 }",
                       "rc_conf_local = { a = \"b\\nc\" }", "install_site = \"\\u0007\""}) {
        INFO(wrong);
        CHECK_FALSE(site(wrong).empty());
    }
}

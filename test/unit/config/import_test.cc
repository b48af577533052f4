// vm.conf(5) to vmhost.toml(5): every keyword, what is lost, what is refused and where.
#include "helpers.h"

#include <fstream>
#include <map>
#include <sstream>

using namespace vmhost;
using namespace vmhost::config;

namespace {

using Files = std::map<std::string, std::string>;

std::expected<Imported, Complaints>
import_files(const Files& files, std::vector<std::pair<std::string, std::string>> macros = {}) {
    ImportOptions options;
    options.macros = std::move(macros);
    options.read = [&](const std::string& path) -> Result<std::string> {
        auto found = files.find(path);
        if (found == files.end())
            return fail(ErrorKind::not_found, "cannot open \"{}\"", path);
        return found->second;
    };
    return import_vmconf("vm.conf", options);
}

struct Good {
    Model model;
    std::string toml;
    std::string warnings; // a line each
};

Good imported(const Files& files, std::vector<std::pair<std::string, std::string>> macros = {}) {
    auto result = import_files(files, std::move(macros));
    if (!result) {
        for (const Error& complaint : result.error())
            UNSCOPED_INFO(complaint.message());
        FAIL("refused");
    }
    Good out{good(result->toml), result->toml, ""};
    for (const Error& warning : result->warnings)
        out.warnings += warning.message() + "\n";
    return out;
}
Good imported(const std::string& text) {
    return imported(Files{{"vm.conf", text}});
}

std::string refused(const Files& files) {
    auto result = import_files(files);
    std::string out;
    if (!result)
        for (const Error& complaint : result.error())
            out += (out.empty() ? "" : "\n") + complaint.message();
    return out;
}
std::string refused(const std::string& text) {
    return refused(Files{{"vm.conf", text}});
}

const Vm& vm(const Good& result, std::string_view name) {
    REQUIRE(result.model.find_vm(name));
    return *result.model.find_vm(name);
}

std::string source(const std::string& path) {
    std::ifstream file(std::string(VMHOST_SOURCE_ROOT) + "/" + path);
    REQUIRE(file);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

} // namespace

TEST_CASE("import: a file with everything reads as it says") {
    auto result = imported(Files{{"vm.conf", source("test/unit/config/vm.conf")},
                                 {"vm.d/golden.conf", source("test/unit/config/vm.d/golden.conf")}},
                           {{"ramdisk", "/srv/bsd.rd"}});
    const Model& model = result.model;
    CHECK(model.control.owner == Owner{"", "_vmdusers"});
    CHECK(model.host.start_parallel == 4);
    CHECK(model.host.start_delay == std::chrono::seconds(30));
    CHECK(model.host.local_ipv4.text() == "10.64.0.0/16");
    CHECK(model.host.local_ipv6.enabled);
    CHECK(model.host.local_ipv6.prefix.text() == "fd00:1234::/64");

    const Switch* uplink = model.find_switch("uplink_vlan931");
    REQUIRE(uplink);
    CHECK(uplink->interface == "bridge931");
    CHECK(uplink->locked_lladdr);
    CHECK(uplink->enabled);
    CHECK(uplink->up);
    const Switch* spare = model.find_switch("spare");
    REQUIRE(spare);
    CHECK(spare->interface == "veb0");
    CHECK_FALSE(spare->locked_lladdr);
    CHECK_FALSE(spare->enabled);
    CHECK_FALSE(spare->up);

    const Vm& vm13 = vm(result, "vm13");
    CHECK_FALSE(vm13.enabled);
    CHECK(vm13.owner == Owner{"alice", ""});
    CHECK(vm13.memory_bytes == 1024 * MiB);
    REQUIRE(vm13.disks.size() == 2);
    CHECK(vm13.disks[0].path == "/var/vmm/vm13.qcow2");
    CHECK(vm13.disks[0].format == ImageFormat::qcow2);
    CHECK(vm13.disks[1].path == "/var/vmm/vm13 data.img");
    CHECK(vm13.disks[1].format == ImageFormat::raw);
    REQUIRE(vm13.interfaces.size() == 4);
    CHECK(vm13.interfaces[0].switch_name == "uplink_vlan931");
    CHECK(vm13.interfaces[0].lladdr.text() == "fe:e1:bb:f1:c8:01");
    CHECK(vm13.interfaces[0].locked_lladdr == true);
    CHECK(vm13.interfaces[0].tap.empty());
    CHECK(vm13.interfaces[1].tap == "tap7");
    CHECK(vm13.interfaces[1].lladdr.text() == "fe:e1:bb:f1:c8:02");
    CHECK_FALSE(vm13.interfaces[1].up);
    CHECK(vm13.interfaces[2].local);
    CHECK(vm13.interfaces[2].locked_lladdr == false);
    CHECK(vm13.interfaces[3].switch_name.empty());

    const Vm& installer = vm(result, "installer");
    CHECK(installer.boot == "/srv/bsd.rd");
    CHECK(installer.boot_device == BootDevice::net);
    CHECK(vm(result, "cd").cdrom == "/srv/install78.iso");
    CHECK(vm(result, "cd").boot_device == BootDevice::cdrom);

    const Vm& golden = vm(result, "golden");
    CHECK(golden.memory_bytes == 512 * MiB);
    REQUIRE(golden.allow_instance);
    CHECK(golden.allow_instance->owner == Owner{"", "students"});
    CHECK(golden.allow_instance->options ==
          std::vector<std::string>{"memory", "disk", "interface", "boot", "cdrom", "instance"});
    const Vm& bob = vm(result, "bob");
    CHECK(bob.instance_of == "golden");
    CHECK(bob.memory_bytes == 512 * MiB);
    CHECK(bob.owner == Owner{"bob", "staff"});
    CHECK(bob.interfaces[0].switch_name == "uplink_vlan931");

    CHECK(spare->group == "tenants");
    CHECK(spare->rdomain == 3);

    // What is lost is said twice: on the terminal and in the file.
    for (const char* lost :
         {"agentx:", "seves:", "the ports of bridge931", "switch nowhere: there is none"}) {
        INFO(lost);
        CHECK(result.warnings.find(lost) != std::string::npos);
        CHECK(result.toml.find(std::string("# vm.conf:")) != std::string::npos);
        CHECK(result.toml.find(lost) != std::string::npos);
    }
    CHECK(result.warnings.find("macro \"unused\" is not used") != std::string::npos);
    CHECK(result.warnings.find("there is a VM \"bob\" already: this one is left out") !=
          std::string::npos);
    CHECK(result.warnings.find("memory is rounded down to 512M") != std::string::npos);
}

TEST_CASE("import: an empty file is a file") {
    auto result = imported("# nothing\n\n");
    CHECK(result.model == good(""));
    CHECK(result.warnings.empty());
}

TEST_CASE("import: the shapes in which an interface can be written") {
    auto result = imported("switch \"a\" {\n interface bridge0\n}\n"
                           "vm x {\n interface { switch a }\n"
                           " interface tap { switch a\n lladdr 02:00:00:00:00:01 }\n"
                           " interface tap2 switch a, locked lladdr, up\n"
                           " interface\n interfaces 6\n}\n");
    const auto& all = vm(result, "x").interfaces;
    REQUIRE(all.size() == 6);
    CHECK(all[0].switch_name == "a");
    CHECK(all[0].locked_lladdr == false);
    CHECK(all[1].lladdr.text() == "02:00:00:00:00:01");
    CHECK(all[2].tap == "tap2");
    CHECK(all[2].locked_lladdr == true);
    CHECK(all[3].switch_name.empty());
    CHECK(all[5].switch_name.empty());
}

TEST_CASE("import: words, quotes, macros, comments and continued lines") {
    auto result = imported("sets=\"/var/www/7.8/\"  # a comment \\\n that goes on\n"
                           "opts = \"memory 64M\"\n"
                           "vm 'a' { \\\n boot $sets \"bsd\" '.rd'\n $opts\n"
                           " disk \"/a b\\\"c\"\n}\n"
                           "vm \"b\" { memory 1048576 }\n");
    CHECK(vm(result, "a").boot == "/var/www/7.8/bsd.rd");
    CHECK(vm(result, "a").memory_bytes == 64 * MiB);
    CHECK(vm(result, "a").disks[0].path == "/a b\"c");
    CHECK(vm(result, "b").memory_bytes == 1 * MiB);
    // A macro's text is not expanded again.
    CHECK(refused("a=\"x\"\nb=\"$a\"\nvm v {\n boot $b\n}\n") ==
          "vm.conf:4:7: \"$a\" is in the text of a macro, where no other is expanded");
    CHECK(refused("vm v {\n memory $size\n}\n") == "vm.conf:2:9: macro \"size\" is not defined");
    CHECK(refused("memory=\"1G\"\n") == "vm.conf:1:1: \"memory\" is a keyword, no name of a macro");
    CHECK(refused("vm v {\n boot \"/bsd\n}\n") ==
          "vm.conf:2:7: the text in quotes has no end on this line");
}

TEST_CASE("import: each mistake is one complaint with its place") {
    CHECK(refused("swich a {\n interface bridge0\n}\nvm v {\n memry 1G\n memory 1X\n"
                  " disk /a format vmdk\n interface eth0\n boot device floppy\n owner :\n}\n") ==
          "vm.conf:1:1: unknown statement \"swich\": did you mean \"switch\"?\n"
          "vm.conf:5:2: unknown option \"memry\" of a VM: did you mean \"memory\"?\n"
          "vm.conf:6:9: " +
              parse_size("1X").error().text() +
              "\n"
              "vm.conf:7:17: format \"vmdk\" is none of \"raw\", \"qcow2\"\n"
              "vm.conf:8:12: \"eth0\" is no interface of a VM: tap, or tap with a number\n"
              "vm.conf:9:14: expected one of \"cdrom\", \"disk\", \"net\", got \"floppy\"\n"
              "vm.conf:10:8: \":\" has no group after its ':'");
    CHECK(refused("vm v {\n memory 1M\n memory 2M\n}\n") ==
          "vm.conf:3:9: memory is given twice, first at line 2");
    CHECK(refused("vm v {\n memory 512\n}\n") == "vm.conf:2:9: memory is from 1M to 128G");
    CHECK(refused("vm v {\n}\n") == "vm.conf:1:6: this VM has no options");
    CHECK(refused("vm v {\n disable\n") == "vm.conf:1:6: the block of this VM has no end");
    CHECK(refused("vm _v {\n disable\n}\n").starts_with("vm.conf:1:4: "));
    CHECK(refused("switch s {\n rdomain 256\n}\n") ==
          "vm.conf:2:10: a routing domain: 256 is not from 0 to 255");
    CHECK(refused("local prefix 10.0.0.0/24\n") ==
          "vm.conf:1:14: 10.0.0.0/24: a prefix of 1 to 16 bits, and none beyond them");
    CHECK(refused("staggered start parallel 0 delay 1\n") ==
          "vm.conf:1:26: a number of VMs: 0 is not from 1 to 4096");
    CHECK(refused("socket owner :x !\n") ==
          "vm.conf:1:17: \"!\" is not part of any statement; put text with it into quotes");
    CHECK(refused("vm a {\n interface tap { switch }\n}\n") ==
          "vm.conf:2:25: expected the name of a switch, got \"}\"");
}

TEST_CASE("import: what our own parser refuses is told with its place in vm.conf") {
    CHECK(refused("vm \"12\" {\n disable\n}\n") ==
          "vm.conf:1:1: vm.12: vmctl(8) takes a name of digits only for a number: add a letter");
    CHECK(refused("vm a {\n disk /x\n}\nvm b {\n disk /x\n}\n") ==
          "vm.conf:5:7: vm.b.disk[0].path: \"/x\" is the disk of vm.a.disk[0].path at vm.conf:2 "
          "too, and only read-only disks can be shared");
    CHECK(refused("vm nobody instance b {\n disable\n}\n") ==
          "vm.conf:1:4: vm.b.instance_of: there is no VM \"nobody\"");
}

TEST_CASE("import: included files") {
    auto result = imported(Files{{"vm.conf", "include \"sub/a.conf\"\nvm c {\n memory $m\n}\n"},
                                 {"sub/a.conf", "m=\"2M\"\ninclude \"b.conf\"\n"},
                                 {"sub/b.conf", "vm b {\n memory $m\n}"}});
    CHECK(vm(result, "b").memory_bytes == 2 * MiB);
    CHECK(vm(result, "c").memory_bytes == 2 * MiB);
    CHECK(refused(Files{{"vm.conf", "include \"a\"\n"}, {"a", "vm x {\n bad\n}\n"}}) ==
          "a:2:2: unknown option \"bad\" of a VM");
    CHECK(refused("\ninclude \"/gone\"\n") == "vm.conf:2:9: cannot open \"/gone\"");
    CHECK(refused("include \"vm.conf\"\n").find("files include each other 16 deep") !=
          std::string::npos);
    CHECK(refused("include \"vm.conf\"\ninclude \"vm.conf\"\n")
              .find("more than 256 files are included") != std::string::npos);
    CHECK(refused(Files{{"vm.conf", "vm a {\n include \"b\"\n}\n"}}) ==
          "vm.conf:2:2: unknown option \"include\" of a VM");
}

TEST_CASE("import: macros of the command line win") {
    auto result = imported(Files{{"vm.conf", "m=\"1M\"\nvm a {\n memory $m\n}\n"}}, {{"m", "4M"}});
    CHECK(vm(result, "a").memory_bytes == 4 * MiB);
}

TEST_CASE("import: limits") {
    CHECK(refused("x=\"" + std::string(8193, 'a') + "\"\n") ==
          "vm.conf:1:3: a text has at most 8192 bytes");
    std::string macros;
    for (int i = 0; i < 4097; ++i)
        macros += fmt::format("m{}=1\n", i);
    CHECK(refused(macros) == "vm.conf:4097:1: there are at most 4096 macros");
    std::string disks = "vm a {\n";
    for (int i = 0; i < 17; ++i)
        disks += fmt::format(" disk /d{}\n", i);
    CHECK(refused(disks + "}\n") == "vm.conf:18:7: a VM has at most 16 disks");
    // A small file cannot become a large one.
    std::string bomb = "m=\"" + std::string(8000, '#') + "\"\n";
    for (int i = 0; i < 3000; ++i)
        bomb += "$m\n";
    CHECK(refused(bomb).find("macros come to more than 4.0M") != std::string::npos);
}

TEST_CASE("import: the files of the hosts that this is made for") {
    // As their manual has it; the seeds of the project hold the whole.
    auto result = imported("socket owner :_vmdusers\n\nswitch \"uplink_vlan931\" {\n"
                           "    interface bridge931\n}\n\nvm \"vm13\" {\n    disable\n"
                           "    owner alice\n    disk \"/var/vmm/vm13.qcow2\"\n"
                           "    interface tap {\n        switch \"uplink_vlan931\"\n"
                           "        lladdr fe:e1:bb:f1:c8:01\n    }\n}\n");
    CHECK(result.toml == R"(# Made from a vm.conf(5) by vmhost import: see vmhost.toml(5).

[control]
owner = ":_vmdusers"

[switch.uplink_vlan931]
interface = "bridge931"
# vm.conf:4: the ports of bridge931 are not in vm.conf: name the interfaces of this host that belong to it, as ports = ["eth0"]
locked_lladdr = false

[vm.vm13]
enable = false
owner = "alice"

[[vm.vm13.disk]]
path = "/var/vmm/vm13.qcow2"

[[vm.vm13.interface]]
switch = "uplink_vlan931"
lladdr = "fe:e1:bb:f1:c8:01"
)");
}

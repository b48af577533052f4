// DHCP of a switch: ranges, relay agents, options and classes.
#include "helpers.h"

#include "config/dhcp_options.h"

using namespace vmhost;
using namespace vmhost::config;

namespace {

const std::string lan = "[switch.lan]\nipv4 = \"10.9.8.1/24\"\n"; // two lines

std::string hex(const std::string& data) {
    std::string out;
    for (auto byte : as_bytes(data))
        out += fmt::format("{:02x}", byte);
    return out;
}

// The wire form of an option as TOML has it, or the complaint.
std::string wire(const std::string& name, const Json& value) {
    auto kind = find_dhcp_option(name);
    if (!kind)
        return kind.error().text();
    auto data = dhcp_option_data(kind->type, value);
    return data ? fmt::format("{} {}", kind->code, hex(*data)) : data.error().text();
}

} // namespace

TEST_CASE("DHCP options by name and number") {
    CHECK(wire("ntp-servers", "10.9.8.1") == "42 0a090801");
    CHECK(wire("ntp-servers", {"10.9.8.1", "10.9.8.2"}) == "42 0a0908010a090802");
    CHECK(wire("42", "10.9.8.1") == "42 0a090801");
    CHECK(wire("option-42", "10.9.8.1") == "42 0a090801");
    CHECK(wire("time-offset", -3600) == "2 fffff1f0");
    CHECK(wire("interface-mtu", 1400) == "26 0578");
    CHECK(wire("netbios-node-type", 8) == "46 08");
    CHECK(wire("ip-forwarding", true) == "19 01");
    CHECK(wire("root-path", "/x") == "17 2f78");
    CHECK(wire("path-mtu-plateau-table", {68, 1500}) == "25 004405dc");
    CHECK(wire("static-routes", {"10.0.0.0 10.9.8.2"}) == "33 0a0000000a090802");
    CHECK(wire("43", "06:01:08") == "43 060108");
    CHECK(wire("224", "06:01:0") == "224 30363a30313a30"); // a text then
    CHECK(wire("224", "http://x") == "224 687474703a2f2f78");
}

TEST_CASE("DHCP options: routes of all lengths, domains") {
    CHECK(wire("classless-static-routes", {"0.0.0.0/0 10.1.1.1", "10.0.0.0/8 10.1.1.2",
                                           "192.0.2.128/25 10.1.1.3", "192.0.2.1/32 0.0.0.0"}) ==
          "121 000a010101"
          "080a0a010102"
          "19c00002800a010103"
          "20c000020100000000");
    CHECK(wire("249", "10.0.0.0/8 10.1.1.2") == "249 080a0a010102");
    CHECK(wire("domain-search", {"example.org", "a.b"}) ==
          "119 076578616d706c65036f7267000161016200");
}

TEST_CASE("DHCP options that cannot be") {
    CHECK(wire("ntp-server", "10.9.8.1") ==
          "there is no DHCP option \"ntp-server\": did you mean \"ntp-servers\"?");
    CHECK(wire("256", "x") == "there is no DHCP option \"256\"");
    CHECK(wire("51", 5) == "DHCP option 51 is made by the server itself");
    CHECK(wire("82", "x") == "DHCP option 82 is made by the server itself");
    CHECK(wire("ntp-servers", 5) == "expected an IPv4 address such as \"10.9.8.1\"");
    CHECK(wire("interface-mtu", 65536) == "expected a number from 0 to 65535, got 65536");
    CHECK(wire("ip-forwarding", 1) == "expected true or false");
    CHECK(wire("classless-static-routes", "10.0.0.1/8 10.1.1.2") ==
          "10.0.0.1/8 is no network: that would be 10.0.0.0/8");
    CHECK(wire("root-path", "") == "an option without a value cannot be sent: leave it out");
    CHECK(wire("root-path", std::string(1025, 'x')) == "has 1025 bytes, and 1024 is the most");
    CHECK(wire("ntp-servers", Json::array()) ==
          "an option without a value cannot be sent: leave it out");
}

TEST_CASE("ranges lie in the subnet, or in one of a relay agent") {
    auto dhcp = [&](const std::string& text) { return bad(lan + "[switch.lan.dhcp]\n" + text); };
    CHECK(dhcp("range = \"10.9.8.100-10.9.8.199\"\n").empty());
    CHECK(dhcp("range = [\"10.9.8.100\", \"10.9.8.110-10.9.8.120\"]\n").empty());
    CHECK(dhcp("range = \"192.0.2.10-192.0.2.20\"\nrelay = [\"192.0.2.0/24\"]\n").empty());
    CHECK(dhcp("range = \"10.9.8.200-10.9.8.100\"\n") ==
          "t.toml:4:9: switch.lan.dhcp.range: \"10.9.8.200-10.9.8.100\" ends before it begins");
    CHECK(dhcp("range = \"10.9.8.200-10.9.9.1\"\n") ==
          "t.toml:4:9: switch.lan.dhcp.range: 10.9.8.200-10.9.9.1 is neither in 10.9.8.1/24 nor in "
          "a subnet of \"relay\"");
    CHECK(dhcp("relay = [\"192.0.2.1/24\"]\n") ==
          "t.toml:4:10: switch.lan.dhcp.relay: 192.0.2.1/24 is no subnet of clients");
}

TEST_CASE("derived addresses of VMs lie outside of ranges") {
    std::string text = lan + "dhcp = { range = \"10.9.8.2-10.9.8.250\" }\n";
    for (int i = 0; i < 4; ++i)
        text += fmt::format("[vm.v{}]\ninterface = [{{ switch = \"lan\" }}]\n", i);
    auto model = parse(text, "t.toml");
    REQUIRE(model);
    for (const auto& vm : model->vms)
        CHECK(*vm.interfaces[0].ipv4 > parse_ipv4("10.9.8.250").value());
    text += "[vm.v4]\ninterface = [{ switch = \"lan\" }]\n";
    CHECK_FALSE(parse(text, "t.toml"));
}

TEST_CASE("options of one switch go to the service in one frame, or are refused") {
    // 64 KB of options each: one table of 64 times a kilobyte.
    std::string options;
    for (int i = 0; i < 64; ++i) // without those of pxelinux, which are no texts
        options += fmt::format("{} = \"{}\"\n", (i < 48 ? 160 : 164) + i, std::string(1024, 'x'));
    auto classes = [&](int count) {
        std::string text;
        for (int i = 0; i < count; ++i)
            text += fmt::format("[switch.lan.dhcp.class.c{}.options]\n{}", i, options);
        return text;
    };
    CHECK(parse(lan + classes(32), "t.toml"));
    CHECK(bad(lan + "[switch.lan.dhcp.options]\n" + options + classes(32))
              .find("switch.lan.dhcp.options: the options of the switch, its classes and its VMs "
                    "have 2162688 bytes, and 2097152 are the most") != std::string::npos);
}

TEST_CASE("options and classes are complained about where they stand") {
    auto dhcp = [&](const std::string& text) { return bad(lan + text); };
    CHECK(dhcp("[switch.lan.dhcp.options]\nntp-server = \"10.9.8.1\"\n") ==
          "t.toml:4:1: switch.lan.dhcp.options.ntp-server: there is no DHCP option "
          "\"ntp-server\": did you mean \"ntp-servers\"?");
    CHECK(dhcp("[switch.lan.dhcp.options]\nntp-servers = \"10.9.8\"\n")
              .starts_with("t.toml:4:15: switch.lan.dhcp.options.ntp-servers: "));
    CHECK(dhcp("[switch.lan.dhcp.options]\nntp-servers = \"10.9.8.1\"\n42 = \"10.9.8.2\"\n") ==
          "t.toml:5:6: switch.lan.dhcp.options.42: is the same option as ntp-servers");
    CHECK(dhcp("[switch.lan.dhcp.class.a]\nuser_class = \"iPXE\"\n") ==
          "t.toml:3:24: switch.lan.dhcp.class.a: says nothing to its clients: give filename, "
          "next_server or options");
    CHECK(dhcp("[vm.a.dhcp.options]\n43 = 5\n").starts_with("t.toml:4:6: vm.a.dhcp.options.43: "));
}

TEST_CASE("DHCP settings survive being printed and read again") {
    auto model = parse(lan + R"([switch.lan.dhcp]
range = ["10.9.8.100-10.9.8.199", "192.0.2.10"]
relay = ["192.0.2.0/24"]
ping_check = false
max_lease_time = "24h"
[switch.lan.dhcp.options]
42 = ["10.9.8.1", "10.9.8.2"]
time-offset = -60
ip-forwarding = true
[switch.lan.dhcp.class.ipxe]
user_class = "iPXE"
filename = "http://10.9.8.1/boot.ipxe"
[switch.lan.dhcp.class.bios]
architecture = [0]
next_server = "10.9.8.7"
options = { 43 = "06:01:08" }
[vm.a]
dhcp = { filename = "x", options = { host-name = "b" } }
)",
                       "t.toml");
    REQUIRE(model);
    REQUIRE(model->switches[0].dhcp.classes.size() == 2);
    CHECK(model->switches[0].dhcp.classes[1].architecture == std::vector{0u});
    CHECK(model->switches[0].dhcp.options[1].data == std::string("\xff\xff\xff\xc4"));
    auto again = parse(print(*model), "t.toml");
    REQUIRE(again);
    CHECK(again->switches == model->switches);
    CHECK(again->vms == model->vms);
}

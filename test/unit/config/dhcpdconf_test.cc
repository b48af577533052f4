// dhcpd.conf(5) as TOML.
#include "helpers.h"

#include <map>

using namespace vmhost;
using namespace vmhost::config;

namespace {

struct Result_ {
    std::string toml, warnings, complaint;
    std::optional<Model> model;
};

Result_ import(const std::string& text) {
    ImportOptions options;
    options.read = [&](const std::string&) -> Result<std::string> { return text; };
    auto imported = import_dhcpdconf("dhcpd.conf", options);
    Result_ out;
    if (!imported) {
        out.complaint = imported.error().front().message();
        return out;
    }
    out.toml = imported->toml;
    for (const auto& warning : imported->warnings)
        out.warnings += warning.message() + "\n";
    auto model = parse(imported->toml, "t.toml");
    REQUIRE(model);
    out.model = *std::move(model);
    return out;
}

std::map<std::string, std::string> options_of(const std::vector<DhcpOption>& options) {
    std::map<std::string, std::string> out;
    for (const auto& option : options)
        out[option.name] = option.value;
    return out;
}

} // namespace

TEST_CASE("a dhcpd.conf of a host with guests") {
    auto made = import(R"(# everything
option domain-name "example.org";
option domain-name-servers 9.9.9.9, 1.1.1.1;
default-lease-time 7200; max-lease-time 0x4000;
authoritative;
user-class "iPXE" { filename "http://192.0.2.1/boot.ipxe"; }
subnet 192.0.2.0 netmask 255.255.255.0 {
    option routers 192.0.2.1;
    option subnet-mask 255.255.255.0;
    option ntp-servers 192.0.2.5;
    server-identifier 192.0.2.1;
    range 192.0.2.200 192.0.2.100;
    range dynamic-bootp 192.0.2.210;
    host vm13 { hardware ethernet FE:E1:BB:D1:00:0D; fixed-address 192.0.2.13;
                filename "auto_install"; option host-name "puffy"; }
}
group {
    next-server 192.0.2.7;
    host 14 { hardware ethernet fe:e1:bb:d1:00:0e; fixed-address 192.0.2.14; }
    host nobody { hardware ethernet fe:e1:bb:d1:00:0f; }
}
)");
    INFO(made.complaint);
    REQUIRE(made.complaint.empty());
    REQUIRE(made.model);
    REQUIRE(made.model->switches.size() == 1);
    const auto& sw = made.model->switches[0];
    CHECK(sw.name == "net-192-0-2-0");
    CHECK(sw.ipv4->text() == "192.0.2.1/24");
    const auto& dhcp = sw.dhcp;
    CHECK(dhcp.domain_name == "example.org");
    CHECK(dhcp.domain_name_servers.size() == 2);
    CHECK(dhcp.lease_time == std::chrono::seconds(7200));
    REQUIRE(dhcp.ranges.size() == 2);
    CHECK(dhcp.ranges[0].first.text() == "192.0.2.100");
    CHECK(dhcp.ranges[0].last.text() == "192.0.2.200");
    CHECK(options_of(dhcp.options) ==
          std::map<std::string, std::string>{{"ntp-servers", "\"192.0.2.5\""}});
    REQUIRE(dhcp.classes.size() == 1);
    CHECK(dhcp.classes[0].user_class == "iPXE");
    CHECK(*dhcp.classes[0].filename == "http://192.0.2.1/boot.ipxe");
    REQUIRE(made.model->vms.size() == 2);
    const auto& vm = made.model->vms[0];
    CHECK(vm.name == "vm13");
    CHECK_FALSE(vm.enabled);
    CHECK(vm.interfaces[0].lladdr.text() == "fe:e1:bb:d1:00:0d");
    CHECK(vm.interfaces[0].ipv4->text() == "192.0.2.13");
    CHECK(*vm.dhcp->filename == "auto_install");
    CHECK(options_of(vm.dhcp->options).at("host-name") == "\"puffy\"");
    CHECK(made.model->vms[1].name == "h14");
    CHECK(made.warnings == "dhcpd.conf:13:5: BOOTP clients need a fixed address here\n"
                           "dhcpd.conf:20:5: host nobody has no fixed address in a subnet\n");
}

TEST_CASE("dhcpd.conf: what cannot be carried is a comment and a warning") {
    auto made =
        import("deny bootp;\noption no-such 5;\nget-lease-hostnames on;\n"
               "subnet 10.0.0.0 netmask 255.0.0.0 { deny unknown-clients; range 10.0.0.9; }");
    REQUIRE(made.model);
    CHECK(made.warnings ==
          "dhcpd.conf:1:1: \"deny bootp\" is left out\n"
          "dhcpd.conf:2:1: there is no DHCP option \"no-such\"\n"
          "dhcpd.conf:3:1: \"get-lease-hostnames on\" is left out\n"
          "dhcpd.conf:4:1: the host's own address in 10.0.0.0/8 is not said: look at ipv4 of "
          "[switch.net-10-0-0-0]\n"
          "dhcpd.conf:4:1: the range is left out: unknown clients are denied\n");
    CHECK(made.toml.contains("# line 2: there is no DHCP option"));
    CHECK(made.model->switches[0].dhcp.ranges.empty());
}

TEST_CASE("dhcpd.conf: what is no dhcpd.conf is refused where it stands") {
    CHECK(import("option routers 10.0.0.1").complaint ==
          "dhcpd.conf:1:24: the last statement has no end: ';' is missing");
    CHECK(import("group {\n x 1;\n").complaint ==
          "dhcpd.conf:3:1: a block has no end: '}' is missing");
    CHECK(import("}\n").complaint == "dhcpd.conf:1:1: there is a '}' too many");
    CHECK(import("filename \"x\n;").complaint == "dhcpd.conf:1:12: a string has no end");
    CHECK(import("group { a }").complaint == "dhcpd.conf:1:11: ';' is missing before '}'");
    std::string deep;
    for (int i = 0; i < 100'000; ++i)
        deep += "group{";
    CHECK(import(deep).complaint.ends_with("blocks are more than 16 deep"));
}

TEST_CASE("dhcpd.conf: strings have escapes, options raw bytes") {
    auto made = import(R"(server-identifier 10.0.0.1;
subnet 10.0.0.0 netmask 255.255.255.0 {
option root-path "a\x62\143\"\\";
option option-43 06:01:08;
option time-offset -3600;
option ip-forwarding on;
option classless-static-routes 10.0.0.0/8 10.0.0.2, 0.0.0.0/0 10.0.0.1;
option domain-search "example.org", "example.net"; })");
    REQUIRE(made.model);
    CHECK(made.warnings.empty());
    auto options = options_of(made.model->switches[0].dhcp.options);
    CHECK(options.at("root-path") == R"("abc\"\\")");
    CHECK(options.at("option-43") == R"("06:01:08")");
    CHECK(options.at("time-offset") == "-3600");
    CHECK(options.at("ip-forwarding") == "true");
    CHECK(options.at("classless-static-routes") ==
          R"(["10.0.0.0/8 10.0.0.2","0.0.0.0/0 10.0.0.1"])");
    CHECK(options.at("domain-search") == R"(["example.org","example.net"])");
}

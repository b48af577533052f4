// parse(print(m)) == m for random models, and print is a function of the model alone.
#include "config/assign.h"
#include "helpers.h"

#include <random>

#include <nlohmann/json.hpp>

using namespace vmhost;
using namespace vmhost::config;

namespace {

class Maker {
public:
    explicit Maker(std::uint32_t seed) : random_(seed) {}

    Model model() {
        Model m;
        m.file = "t.toml";
        m.host.name = name();
        m.host.domain = pick({"", "example.org"});
        m.host.state = "/" + name();
        m.host.start_parallel = number(0, 4096);
        m.host.start_delay = coin() ? until_answer : milliseconds();
        m.host.accel = accel();
        m.host.user = name();
        m.host.local_ipv6.enabled = coin();
        m.host.local_ipv6.prefix = {{0xfd00'0000'0000'0000 | number(1, 0xffff) << 16, 0}, 64};
        if (!m.host.local_ipv6.enabled)
            m.host.local_ipv6.prefix = local_ipv6_of(m.host.name);
        m.host.local_ipv4 = {{0xac100000}, static_cast<std::uint8_t>(number(12, 16))};
        m.control = {"/run/" + name(), owner()};
        for (unsigned i = number(0, 3); i > 0; --i)
            m.install.listen.push_back({{}, address(), static_cast<std::uint16_t>(1000 + i)});
        m.install.release = pick({"7.8", "snapshots"});
        m.install.mirror = pick({"http://a.example", "https://b.example:8443/pub/"});
        for (unsigned i = number(0, 2); i > 0; --i)
            m.install.locations.push_back({{},
                                           pick({"/pub/*", "*"}),
                                           pick({"*", "*.example.org"}),
                                           pick({"/srv/openbsd", "/srv/a b"}),
                                           number(0, 4),
                                           coin()});
        m.install.sets = pick({"", "/srv/openbsd"});
        if ((!m.install.locations.empty() || !m.install.sets.empty()) && m.install.listen.empty())
            m.install.listen.push_back({{}, address(), 1000}); // whom files reach
        if (coin() && !m.install.sets.empty())
            m.install.site = make_site();
        m.install.signify_keys = pick({"/etc/signify", "/usr/share/signify-openbsd-keys"});
        m.install.access_log = pick({"", "/var/log/vmhost/access.log"});
        m.install.sshfp_command = pick({"", "/usr/local/sbin/publish"});
        m.tftp.directory = pick({"", "/srv/tftp", "/srv/a b"});
        if (coin() && !m.tftp.directory.empty())
            m.tftp.listen = {Ipv4{number(1, 0xffffffff)}};
        for (unsigned i = number(0, 4); i > 0; --i)
            m.switches.push_back(make_switch(i));
        for (unsigned i = number(0, 6); i > 0; --i)
            m.vms.push_back(make_vm(i, m.switches));
        for (auto& vm : m.vms)
            if (vm.install && vm.install->system == InstallSystem::openbsd)
                vm.install->host_keys &= !m.install.sets.empty() && m.install.release == "7.8";
        for (unsigned i = number(0, 2); i > 0 && !m.vms.empty(); --i)
            m.vms.push_back(make_instance(m, i, m.vms[number(0, m.vms.size() - 1)]));
        add_local(m);
        return m;
    }

private:
    SwitchPort make_port(unsigned index, unsigned i) {
        SwitchPort port{.interface = fmt::format("eth{}.{}", index, i)};
        if (coin()) {
            port.parent = fmt::format("up{}", index);
            port.vlan = i * 7;
        }
        return port;
    }

    Switch make_switch(unsigned index) {
        Switch sw;
        sw.name = fmt::format("s{}{}", index, pick({"", ".x", "-y", "_z"}));
        sw.interface = fmt::format("br{}", index);
        for (unsigned i = number(0, 3); i > 0; --i)
            sw.ports.push_back(make_port(index, i));
        if (coin())
            sw.ipv4 = Ipv4Prefix{{0x0a000000 + index * 65536 + number(1, 250)}, 24};
        sw.mtu = number(1280, 65521);
        sw.enabled = coin();
        sw.up = coin();
        sw.locked_lladdr = coin();
        sw.isolated = coin();
        sw.group = pick({"", "tenants"});
        sw.rdomain = coin() ? number(1, 252) : 0;
        if (coin())
            sw.vxlan = Vxlan{100 + index, {0xc0000201}, {{0xc0000202}, {0xc0000203}}, 4790};
        else if (std::ranges::all_of(sw.ports, [](const auto& one) { return one.parent.empty(); }))
            sw.vlan = number(1, 4094);
        sw.guard = coin();
        sw.storm = {coin(), number(1, 10'000'000), number(1, 10'000'000)};
        sw.dhcp.enabled = sw.ipv4 && coin();
        sw.dhcp.domain_name_servers = addresses();
        sw.dhcp.routers = addresses();
        sw.dhcp.domain_name = pick({"", "a.example", "b_c.example"});
        sw.dhcp.lease_time = std::chrono::seconds(number(1, 1'000'000));
        if (sw.ipv4 || coin())
            sw.dhcp.next_server = Ipv4{number(1, 0xffffffff)};
        sw.dhcp.filename = pick({"", "auto_install", "x/y\"z\\"});
        if (coin())
            sw.ipv6 = Ipv6Prefix{{0x2001'0db8'0000'0000U + index, number(1, 0xffffffff)}, 64};
        sw.ra.enabled = sw.ipv6 && coin();
        sw.ra.router = coin();
        sw.ra.autonomous = coin();
        if (coin())
            sw.ra.domain_name_servers = {{0x2001'0db8'0000'0000, number(1, 100)}};
        sw.ra.domain_name = pick({"", "c.example"});
        sw.ra.interval = std::chrono::seconds(number(4, 1800));
        sw.ra.lifetime = sw.ra.interval + std::chrono::seconds(number(0, 1800));
        sw.dhcp6.enabled = sw.ipv6 && coin();
        sw.dhcp6.lease_time = std::chrono::seconds(number(60, 1'000'000));
        return sw;
    }

    Vm make_vm(unsigned index, const std::vector<Switch>& switches) {
        Vm vm;
        vm.name = fmt::format("v{}{}", index, pick({"", ".x", "-", "_z."}));
        vm.enabled = coin();
        vm.suspended = coin();
        vm.owner = owner();
        vm.memory_bytes = number(1, 131072) * MiB;
        vm.vcpus = number(1, 64);
        if (coin())
            vm.accel = accel();
        if (coin()) {
            vm.boot = text();
            vm.initrd = coin() ? text() : "";
            vm.command_line = coin() ? text() : "";
            vm.boot_flags = coin() ? std::vector<std::string>{"config", "ask_name"}
                                   : std::vector<std::string>{};
        }
        vm.boot_device = static_cast<BootDevice>(number(0, 3));
        if (coin() || vm.boot_device == BootDevice::cdrom)
            vm.cdrom = coin() ? fmt::format("{}-{}.iso", text(), index) : "";
        for (unsigned i = number(0, 3); i > 0; --i) {
            Disk disk;
            disk.path = fmt::format("{}-{}-{}", text(), index, i);
            disk.format = static_cast<ImageFormat>(number(0, 2));
            if (coin())
                disk.size_bytes = number(1, 1 << 26) * MiB;
            disk.read_only = coin();
            disk.serial = name();
            if (disk.format == ImageFormat::automatic || disk.format == ImageFormat::qcow2)
                for (int base = number(0, 3); base > 0; --base)
                    disk.base.push_back(fmt::format("base{}-{}-{}-{}", index, i, base, text()));
            vm.disks.push_back(disk);
        }
        for (unsigned i = number(0, 3); i > 0 && !switches.empty(); --i)
            vm.interfaces.push_back(make_interface(index, i, switches));
        if (coin()) {
            Interface loose;
            loose.lladdr = {{2, 0, 1, 0, static_cast<std::uint8_t>(index), 0}};
            loose.locked_lladdr = loose.guard = loose.isolated = false;
            loose.up = coin();
            vm.interfaces.push_back(loose);
        }
        if (coin())
            vm.allow_instance = AllowInstance{owner(), coin() ? std::vector<std::string>{"boot"}
                                                              : std::vector<std::string>{}};
        if (coin())
            vm.install = make_install();
        return vm;
    }

    // Only what a file can say: the rest is its template's.
    Vm make_instance(const Model& m, unsigned index, const Vm& parent) {
        Vm vm = parent;
        vm.name = fmt::format("i{}", index);
        vm.instance_of = parent.name;
        vm.memory_bytes = number(1, 100) * MiB;
        vm.disks.clear();
        vm.allow_instance.reset();
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            vm.interfaces[i].lladdr = {
                {2, 0, 2, 0, static_cast<std::uint8_t>(index), static_cast<std::uint8_t>(i)}};
            if (auto& ipv4 = vm.interfaces[i].ipv4) {
                const auto* sw = m.find_switch(vm.interfaces[i].switch_name);
                ipv4->value = sw->ipv4->network().value + 60 + 60 * index + 2 * i;
                if (*ipv4 == sw->ipv4->address)
                    ++ipv4->value;
            }
            if (auto& ipv6 = vm.interfaces[i].ipv6)
                ipv6->low = 0x2'0000'0000U + index * 100 + i;
            vm.interfaces[i].tap.clear();
        }
        return vm;
    }

    // The derived switches behind the others, in the order of the VMs.
    void add_local(Model& m) {
        std::uint32_t host = m.host.local_ipv4.address.value + 2;
        for (Vm& vm : m.vms) {
            const bool is_template =
                std::ranges::any_of(m.vms, [&](const Vm& a) { return a.instance_of == vm.name; });
            if (vm.interfaces.size() >= 4 || is_template || coin())
                continue;
            Interface wire;
            wire.local = true;
            wire.lladdr = {{2, 0, 3, 0, 0, static_cast<std::uint8_t>(host)}};
            wire.locked_lladdr = coin();
            wire.guard = coin();
            wire.isolated = false;
            wire.ipv4 = Ipv4{host + 1};
            wire.tap = fmt::format("t{}", host);
            wire.switch_name = fmt::format("{}:{}", vm.name, vm.interfaces.size());
            Switch sw;
            sw.name = wire.switch_name;
            sw.interface = fmt::format("{}-br{}", vm.name, vm.interfaces.size());
            sw.ipv4 = Ipv4Prefix{{host}, 31};
            sw.dhcp.routers = sw.dhcp.domain_name_servers = {{host}};
            sw.dhcp.next_server = Ipv4{host};
            sw.dhcp.domain_name = m.host.domain;
            sw.local = true;
            sw.ra.domain_name = m.host.domain;
            sw.ra.enabled = sw.dhcp6.enabled = m.host.local_ipv6.enabled;
            sw.ra.router = false;
            if (m.host.local_ipv6.enabled) {
                const auto high = m.host.local_ipv6.prefix.address.high;
                const auto pair = std::uint64_t{host + 1} << 32;
                sw.ipv6 = Ipv6Prefix{{high, pair | 1}, 96};
                wire.ipv6 = Ipv6{high, pair | 2};
            }
            m.switches.push_back(sw);
            vm.interfaces.push_back(wire);
            host += 2;
        }
    }

    Interface make_interface(unsigned vm, unsigned index, const std::vector<Switch>& switches) {
        const Switch& sw = switches[number(0, static_cast<unsigned>(switches.size()) - 1)];
        Interface interface;
        interface.switch_name = sw.name;
        interface.locked_lladdr = coin();
        interface.guard = coin();
        interface.isolated = coin();
        interface.up = coin();
        if (coin())
            interface.tap = fmt::format("tap{}-{}", vm, index);
        interface.lladdr = {{2, 0, 0, static_cast<std::uint8_t>(number(0, 255)),
                             static_cast<std::uint8_t>(vm), static_cast<std::uint8_t>(index)}};
        if (sw.ipv6)
            interface.ipv6 = Ipv6{sw.ipv6->address.high, 0x1'0000'0000U + vm * 100 + index};
        if (!sw.ipv4)
            return interface;
        interface.ipv4 = Ipv4{sw.ipv4->network().value + vm * 10 + index};
        if (interface.ipv4 == sw.ipv4->address)
            interface.ipv4 = Ipv4{sw.ipv4->network().value + 251 + index};
        return interface;
    }

    VmInstall make_install() {
        VmInstall install;
        install.hostname = name();
        install.user = coin() ? "alice_1" : "";
        install.sshkey = coin() ? text() : "";
        install.password = text();
        install.root_password = text();
        install.timezone = pick({"UTC", "Europe/Amsterdam", "Etc/GMT+1"});
        install.sets = text();
        for (unsigned i = number(0, 3); i > 0; --i)
            for (unsigned times = number(1, 2); times > 0; --times)
                install.answers.emplace_back(fmt::format("{}{}", coin() ? "q " : "Which, ", i),
                                             text());
        install.host_keys = coin();
        // What the checks allow together.
        install.system = static_cast<InstallSystem>(number(0, 4));
        const bool openbsd = install.system == InstallSystem::openbsd;
        install.disklabel = coin() && openbsd ? text() : "";
        if (install.system == InstallSystem::ipxe || coin())
            (coin() ? install.file : install.template_file) = text();
        install.host_keys &= openbsd || install.system == InstallSystem::cloud_init;
        if (!openbsd)
            install.answers.clear();
        return install;
    }

    Site make_site() {
        Site site;
        site.installurl = pick({"", "https://cdn.openbsd.org/pub/OpenBSD"});
        if (coin())
            site.sysctl = {{"kern.timecounter.hardware", "tsc"}, {"hw.smt", text()}};
        if (coin())
            site.rc_conf_local = {{"ntpd_flags", "-s"}};
        site.install_site = pick({"", "/root/install.site", "#!/bin/ksh\n\techo \"\\n\"\n"});
        site.files = {{{}, "etc/a b", "/srv/a", "", number(0, 9), number(0, 9), number(0, 07777)},
                      {{}, "root/.profile", "", "x\ny\n"}};
        return site;
    }

    unsigned number(unsigned min, std::size_t max) {
        return std::uniform_int_distribution<unsigned>(min, static_cast<unsigned>(max))(random_);
    }
    bool coin() { return number(0, 1) == 1; }
    IpAddress address() {
        if (coin())
            return Ipv4{number(1, 0xffffffff)};
        return Ipv6{std::uint64_t{0x20010db8'0000'0000} | number(0, 0xffff), number(1, 0xffffffff)};
    }
    std::string pick(std::initializer_list<const char*> from) {
        return from.begin()[number(0, static_cast<unsigned>(from.size()) - 1)];
    }
    std::string name() { return fmt::format("n{}", number(0, 99'999)); }
    // One line without outer blanks, with what needs care in TOML.
    std::string text() {
        std::string out = "x";
        for (unsigned i = number(0, 6); i > 0; --i)
            out += pick({"\"", "\\", "'", " ", "#", "=", "ü", "€", "[", "]", "a", "\\u0041"});
        return out + "y";
    }
    Accel accel() { return static_cast<Accel>(number(0, 2)); }
    Owner owner() {
        Owner out{coin() ? name() : "", ""};
        if (out.user.empty() || coin())
            out.group = name();
        return out;
    }
    std::chrono::milliseconds milliseconds() {
        return std::chrono::milliseconds(number(0, 2) * 1500 + number(0, 1) * 86'400'000);
    }
    std::vector<Ipv4> addresses() {
        std::vector<Ipv4> out;
        for (unsigned i = number(0, 3); i > 0; --i)
            out.push_back({0xc0000200 + i});
        return out;
    }

    std::mt19937 random_;
};

} // namespace

TEST_CASE("a printed model reads as the same model") {
    for (std::uint32_t seed = 0; seed < 500; ++seed) {
        INFO("seed " << seed);
        auto model = Maker(seed).model();
        auto text = print(model);
        auto again = good(text);
        if (!(again == model))
            FAIL("differs:\n" << text << "\n----\n" << print(again));
        CHECK(print(again) == text);
        CHECK(print_json(again) == print_json(model));
    }
}

TEST_CASE("models that differ in one value are different and print differently") {
    auto model = good("[switch.s]\n[vm.a]\ndisk = [{ path = \"x\" }]\ninterface = [{ switch = "
                      "\"s\" }]\ninstall = {}");
    auto changed = [&](auto change) {
        Model other = model;
        change(other);
        CHECK_FALSE(other == model);
        CHECK(print(other) != print(model));
        CHECK(print_json(other) != print_json(model));
    };
    changed([](Model& m) { m.host.user = "x"; });
    changed([](Model& m) { m.host.start_delay = std::chrono::milliseconds(1); });
    changed([](Model& m) { m.host.start_delay = until_answer; });
    changed([](Model& m) { m.vms[0].start_timeout = std::chrono::milliseconds(1); });
    changed([](Model& m) { m.switches[0].dhcp.filename = "x"; });
    changed([](Model& m) { m.vms[0].accel = Accel::soft; });
    changed([](Model& m) { m.vms[0].disks[0].read_only = true; });
    changed([](Model& m) { m.vms[0].interfaces[0].lladdr.octets[5] ^= 1; });
    changed([](Model& m) { m.vms[0].install.reset(); });
    // Moving a paragraph is no change.
    Model moved = model;
    moved.vms[0].place = Place{"t.toml", 99, 1};
    CHECK(moved == model);
}

TEST_CASE("JSON has the shape of the file") {
    auto model = good("[switch.lan]\nipv4 = \"10.9.8.1/24\"\n[vm.\"a.b\"]\nmemory = \"1G\"\n"
                      "interface = [{ switch = \"lan\", ipv4 = \"10.9.8.9\" }]");
    auto json = nlohmann::json::parse(print_json(model));
    CHECK(json["vm"]["a.b"]["memory"] == "1G");
    CHECK(json["vm"]["a.b"]["interface"][0]["ipv4"] == "10.9.8.9");
    CHECK(json["switch"]["lan"]["dhcp"]["enable"] == true);
    CHECK(json["host"]["start"]["parallel"] == 0);
}

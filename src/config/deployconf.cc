// A _deploy.conf to vmhost.toml(5): KEY="value" lines of the script that made the files of OpenBSD
// hosts from orders. Nearly all of it is an [allocate] table. What is not in it is this host's own
// address on the switch: it is made up, and a warning says so, as for dhcpd.conf(5).
#include <charconv>
#include <map>

#include "config/config.h"
#include "config/toml_text.h"

namespace vmhost::config {

namespace {

struct Setting {
    std::string value;
    std::uint32_t line = 0;
};

class DeployConf {
public:
    explicit DeployConf(std::string file) : file_(std::move(file)) {}

    Result<void> read(std::string_view text) {
        std::uint32_t number = 0;
        while (!text.empty()) {
            ++number;
            auto line = text.substr(0, text.find('\n'));
            text.remove_prefix(std::min(line.size() + 1, text.size()));
            line = trimmed(line, " \t\r");
            if (line.empty() || line.starts_with('#'))
                continue;
            TRY(read_line(line, number));
        }
        return {};
    }

    Result<Imported> write() {
        out_.toml = "# Made from a _deploy.conf by vmhost import: see vmhost.toml(5).\n";
        begin("host");
        add("name", "SERVER");
        add("domain", "DOMAIN");
        if (auto group = take("VMDUSERS"); !group.value.empty())
            out_.toml += fmt::format("\n[control]\nowner = {}\n", quoted_text(":" + group.value));
        auto name = TRY(write_switch());
        TRY(write_allocate(name));
        for (const auto& [key, setting] : settings_)
            warn(setting.line,
                 fmt::format("{} = \"{}\" has no counterpart", key, printable(setting.value, 100)));
        out_.toml += notes_.empty() ? "" : "\n# What has no counterpart here:\n" + notes_;
        return std::move(out_);
    }

private:
    Place place(std::uint32_t line) const { return {file_, line, 1}; }
    void warn(std::uint32_t line, std::string text) {
        notes_ += fmt::format("# line {}: {}\n", line, printable(text));
        out_.warnings.push_back(Error(ErrorKind::unsupported, std::move(text)).at(place(line)));
    }

    Result<void> read_line(std::string_view line, std::uint32_t number) {
        auto equals = line.find('=');
        auto key = trimmed(line.substr(0, equals));
        auto wrong = [&](std::string text) -> Result<void> {
            return std::unexpected(Error(ErrorKind::invalid, std::move(text)).at(place(number)));
        };
        if (equals == std::string_view::npos || key.empty() ||
            key.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") !=
                std::string_view::npos)
            return wrong("write it as KEY=\"value\"");
        auto value = trimmed(line.substr(equals + 1));
        if (value.starts_with('"')) {
            auto close = value.find('"', 1);
            auto rest = close == std::string_view::npos ? std::string_view("\"")
                                                        : trimmed(value.substr(close + 1));
            if (!rest.empty() && !rest.starts_with('#'))
                return wrong("the value has no closing quote at its end");
            value = value.substr(1, close - 1);
        }
        if (!settings_.emplace(key, Setting{std::string(value), number}).second)
            return wrong(fmt::format("{} is there twice", key));
        return {};
    }

    Setting take(std::string_view key) {
        auto found = settings_.find(std::string(key));
        if (found == settings_.end())
            return {};
        auto setting = std::move(found->second);
        settings_.erase(found);
        return setting;
    }
    void begin(std::string_view table) { out_.toml += fmt::format("\n[{}]\n", table); }
    void add(std::string_view key, std::string_view from) {
        if (auto setting = take(from); !setting.value.empty())
            out_.toml += fmt::format("{} = {}\n", key, quoted_text(setting.value));
    }

    // The name of the switch; empty: there is none.
    Result<std::string> write_switch() {
        auto name = take("SWITCH"), bridge = take("INTERFACE"), subnet = take("SUBNET"),
             mask = take("NETMASK"), router = take("ROUTER"), dns = take("DNS");
        auto network_six = settings_.find("IPV6_PREFIX");
        if (name.value.empty())
            return std::string();
        begin("switch." + key_text(name.value));
        if (!bridge.value.empty())
            out_.toml += fmt::format("interface = {}\n", quoted_text(bridge.value));
        if (!subnet.value.empty()) {
            auto address = parse_ipv4(subnet.value);
            auto bits = parse_ipv4(mask.value);
            std::uint8_t length = 0;
            while (length < 32 && bits && Ipv4Prefix{{}, length}.mask() != bits->value)
                ++length;
            if (!address || !bits || Ipv4Prefix{{}, length}.mask() != bits->value)
                return std::unexpected(
                    Error(ErrorKind::invalid, "SUBNET and NETMASK are no network")
                        .at(place(subnet.line)));
            Ipv4Prefix own{{address->value + 1}, length};
            if (own.address.text() == router.value)
                own.address.value = own.broadcast().value - 1;
            warn(subnet.line,
                 fmt::format("the address of this host on it is not told: {} is made up",
                             own.address.text()));
            out_.toml += fmt::format("ipv4 = \"{}\"\n", own.text());
        }
        // Each VM has a network of its own, and the host is the router of all of them.
        if (network_six != settings_.end())
            out_.toml +=
                fmt::format("ipv6 = {}\n", quoted_text(network_six->second.value + "::1/48"));
        if (router.value.empty() && dns.value.empty())
            return name.value;
        begin("switch." + key_text(name.value) + ".dhcp");
        if (!router.value.empty())
            out_.toml += fmt::format("routers = [{}]\n", quoted_text(router.value));
        if (!dns.value.empty())
            out_.toml += fmt::format("domain_name_servers = [{}]\n", quoted_text(dns.value));
        return name.value;
    }

    Result<void> write_allocate(const std::string& switch_name) {
        begin("allocate");
        if (!switch_name.empty())
            out_.toml += fmt::format("switch = {}\n", quoted_text(switch_name));
        add("mac_prefix", "MAC_PREFIX");
        auto prefix = take("IP_PREFIX"), start = take("IP_START");
        if (!prefix.value.empty())
            out_.toml += fmt::format(
                "ipv4_start = {}\n",
                quoted_text(prefix.value + "." + (start.value.empty() ? "0" : start.value)));
        auto six = take("IPV6_PREFIX"), six_start = take("IPV6_START");
        if (!six.value.empty()) {
            out_.toml += fmt::format("ipv6_prefix = {}\n", quoted_text(six.value + "::/48"));
            unsigned number = 0;
            auto [end, problem] = std::from_chars(
                six_start.value.data(), six_start.value.data() + six_start.value.size(), number);
            if (!six_start.value.empty() &&
                (problem != std::errc() || end != six_start.value.data() + six_start.value.size()))
                return std::unexpected(
                    Error(ErrorKind::invalid, "IPV6_START is no number").at(place(six_start.line)));
            if (!six_start.value.empty())
                out_.toml += fmt::format("ipv6_start = {}\n", number);
        }
        add("images", "IMAGES");
        add("memory", "MEMORY");
        add("disk", "DISKSIZE");
        add("format", "FORMAT");
        return {};
    }

    std::string file_;
    std::map<std::string, Setting> settings_;
    Imported out_;
    std::string notes_;
};

} // namespace

std::expected<Imported, Complaints> import_deployconf(const std::string& path,
                                                      const ImportOptions& options) {
    auto failed = [](Error error) {
        Complaints complaints;
        complaints.push_back(std::move(error));
        return std::unexpected(std::move(complaints));
    };
    auto text = options.read(path);
    if (!text)
        return failed(std::move(text).error());
    if (text->size() > limits::max_config_bytes)
        return failed(Error(ErrorKind::limit, path + ": is too long"));
    DeployConf conf(path);
    if (auto good = conf.read(*text); !good)
        return failed(std::move(good).error());
    auto written = conf.write();
    if (!written)
        return failed(std::move(written).error());
    auto model = parse(written->toml, path);
    if (!model) {
        // The places are those of the result: not of any use here.
        Complaints complaints;
        for (auto& complaint : model.error())
            complaints.emplace_back(complaint.kind(),
                                    fmt::format("{}: {}", path, complaint.text()));
        return std::unexpected(std::move(complaints));
    }
    return *std::move(written);
}

} // namespace vmhost::config

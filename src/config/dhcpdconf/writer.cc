// dhcpd.conf(5) to vmhost.toml(5). What differs between the two and is not a key for a key:
//   subnet      becomes a switch; the host's own address on it is not in a dhcpd.conf, so that it
//   is
//               taken from server-identifier or next-server, or else made up, and a warning says so
//   host        with a fixed address becomes a VM that is not started: to be merged with what an
//               import of vm.conf(5) makes of the same machine
//   scopes      settings of groups, shared networks and the file go into each switch and VM in them
//   classes     are those of the switches in their scope
// Everything else that has no counterpart is a comment and a warning.
#include <algorithm>
#include <cstdlib>
#include <map>

#include "config/dhcp_options.h"
#include "config/dhcpdconf/conf.h"
#include "config/toml_text.h"

namespace vmhost::config::dhcpdconf {

namespace {

// Settings of a scope; an inner one begins with a copy of the outer one's.
struct Scope {
    std::map<std::string, std::string> keys; // of a dhcp table, as TOML
    std::map<std::string, std::string> options;
    std::map<std::string, Statement> classes; // their statements
    std::optional<Ipv4> server;
    bool unknown_clients = true;
};

std::optional<std::uint8_t> length_of(Ipv4 mask) {
    for (std::uint8_t length = 0; length <= 32; ++length)
        if (Ipv4Prefix{{}, length}.mask() == mask.value)
            return length;
    return std::nullopt;
}

std::string name_from(std::string_view text) {
    std::string out;
    for (char c : text)
        out.push_back((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                              c == '-' || c == '_'
                          ? c
                          : '-');
    bool digits = std::ranges::all_of(out, [](char c) { return c >= '0' && c <= '9'; });
    return digits ? "h" + out : out;
}

class Writer {
public:
    Written run(const std::vector<Statement>& statements) {
        out_.toml = "# Made from a dhcpd.conf(5) by vmhost import: see vmhost.toml(5).\n";
        walk(statements, {}, nullptr);
        for (const auto& one : subnets_)
            write_subnet(one);
        for (const auto& one : hosts_)
            write_host(one);
        out_.toml += notes_.empty() ? "" : "\n# What has no counterpart here:\n" + notes_;
        return std::move(out_);
    }

private:
    struct Subnet {
        Place place;
        Ipv4Prefix network;
        Scope scope;
        std::vector<std::string> ranges;
        std::string name;
    };
    struct Host {
        Place place;
        std::string name;
        Mac mac;
        std::vector<Ipv4> addresses;
        Scope own;
    };

    void warn(const Place& place, std::string text) {
        notes_ += fmt::format("# line {}: {}\n", place.line, printable(text));
        out_.warnings.push_back(Error(ErrorKind::unsupported, std::move(text)).at(place));
    }

    // Statements first: what stands in a scope holds for all that is declared in it.
    void walk(const std::vector<Statement>& statements, Scope scope, Subnet* subnet) {
        for (const auto& one : statements)
            if (!one.has_block)
                setting(one, scope, subnet);
            else if (one.word(0) == "user-class" || one.word(0) == "vendor-class")
                scope.classes[one.word(0) + " " + (one.words.size() > 1 ? one.words[1].text : "")] =
                    one;
        if (subnet)
            subnet->scope = scope;
        for (const auto& one : statements) {
            auto what = one.word(0);
            if (!one.has_block || what == "user-class" || what == "vendor-class")
                continue;
            if (what == "group" || what == "shared-network") {
                auto before = subnets_.size();
                walk(one.block, scope, nullptr);
                if (what == "shared-network" && subnets_.size() > before + 1)
                    warn(one.place, "subnets of a shared network are switches of their own here");
            } else if (what == "subnet") {
                begin_subnet(one, scope);
            } else if (what == "host") {
                begin_host(one);
            } else {
                warn(one.place, fmt::format("\"{}\" is not known", printable(what, 40)));
            }
        }
    }

    void begin_subnet(const Statement& one, const Scope& scope) {
        auto network = parse_ipv4(one.word(1));
        auto mask = parse_ipv4(one.word(3));
        auto length = mask ? length_of(*mask) : std::nullopt;
        if (!network || one.word(2) != "netmask" || !length)
            return warn(one.place, "a subnet is written \"subnet ADDRESS netmask MASK\"");
        Subnet subnet;
        subnet.place = one.place;
        subnet.network = {*network, *length};
        subnet.name = "net-" + name_from(network->text());
        std::ranges::replace(subnet.name, '.', '-');
        walk(one.block, scope, &subnet);
        subnets_.push_back(std::move(subnet));
    }

    void begin_host(const Statement& one) {
        Host host;
        host.place = one.place;
        host.name = name_from(one.words.size() > 1 ? one.words[1].text : "host");
        for (const auto& each : one.block) {
            if (each.word(0) == "hardware") {
                if (auto mac = parse_mac(each.word(2)); mac && each.word(1) == "ethernet")
                    host.mac = *mac;
                else
                    warn(each.place, "only Ethernet addresses are known");
            } else if (each.word(0) == "fixed-address") {
                for (std::size_t i = 1; i < each.words.size(); ++i)
                    if (auto address = parse_ipv4(each.words[i].text))
                        host.addresses.push_back(*address);
                    else if (each.words[i].text != ",")
                        warn(each.place, fmt::format("\"{}\" has to be an address",
                                                     printable(each.words[i].text, 40)));
            } else {
                setting(each, host.own, nullptr);
            }
        }
        if (host.mac.is_zero())
            return warn(one.place, fmt::format("host {} has no Ethernet address", host.name));
        hosts_.push_back(std::move(host));
    }

    void setting(const Statement& one, Scope& scope, Subnet* subnet) {
        auto what = one.word(0);
        auto text = one.words.size() > 1 ? one.words[1].text : std::string();
        if (what == "option")
            return option(one, scope);
        if (what == "range")
            return range(one, subnet);
        if (what == "default-lease-time" || what == "max-lease-time")
            scope.keys[what == "max-lease-time" ? "max_lease_time" : "lease_time"] =
                quoted_text(fmt::format("{}s", std::strtoul(text.c_str(), nullptr, 0)));
        else if (what == "filename")
            scope.keys["filename"] = quoted_text(text);
        else if (what == "next-server" && parse_ipv4(text))
            scope.keys["next_server"] = quoted_text(text);
        else if (what == "server-identifier" && parse_ipv4(text))
            scope.server = *parse_ipv4(text);
        else if ((what == "allow" || what == "deny") && one.word(1) == "unknown-clients")
            scope.unknown_clients = what == "allow";
        else if (what != "authoritative" && !what.empty()) // as it is here
            warn(one.place,
                 fmt::format("\"{} {}\" is left out", printable(what, 40), printable(text, 40)));
    }

    void range(const Statement& one, Subnet* subnet) {
        std::size_t at = one.word(1) == "dynamic-bootp" ? 2 : 1;
        if (at == 2)
            warn(one.place, "BOOTP clients need a fixed address here");
        auto low = parse_ipv4(one.word(at));
        auto high = one.words.size() > at + 1 ? parse_ipv4(one.word(at + 1)) : low;
        if (!low || !high || !subnet)
            return warn(one.place, "a range is written \"range LOW HIGH\", in a subnet");
        subnet->ranges.push_back(quoted_text(
            dhcp_range(std::min(low->value, high->value), std::max(low->value, high->value))));
    }
    static std::string dhcp_range(std::uint32_t low, std::uint32_t high) {
        return low == high ? Ipv4{low}.text() : Ipv4{low}.text() + "-" + Ipv4{high}.text();
    }

    void option(const Statement& one, Scope& scope) {
        auto name = one.word(1);
        if (name == "subnet-mask" || name == "broadcast-address")
            return; // follow from the subnet
        auto kind = find_dhcp_option(name);
        if (!kind)
            return warn(one.place, kind.error().text());
        auto value = value_of(*kind, one);
        if (auto data = dhcp_option_data(kind->type, value); !data)
            return warn(one.place, fmt::format("option {}: {}", name, data.error().text()));
        auto text = value_text(value);
        if (name == "routers" || name == "domain-name-servers")
            scope.keys[name == "routers" ? "routers" : "domain_name_servers"] =
                value.is_array() ? text : "[" + text + "]";
        else if (name == "domain-name" && check_name_of_domain(value))
            scope.keys["domain_name"] = text;
        else
            scope.options[name] = text;
    }
    static bool check_name_of_domain(const Json& value) {
        return dhcp_option_data(DhcpType::domains, value).has_value();
    }

    // The words between commas, as TOML would have them.
    static Json value_of(const DhcpOptionKind& kind, const Statement& one) {
        std::vector<std::string> parts(1);
        for (std::size_t i = 2; i < one.words.size(); ++i) {
            if (one.words[i].text == "," && !one.words[i].quoted)
                parts.emplace_back();
            else
                parts.back() += (parts.back().empty() ? "" : " ") + one.words[i].text;
        }
        Json out = Json::array();
        for (const auto& part : parts)
            out.push_back(scalar_of(kind.type, part));
        return out.size() == 1 ? Json(out.front()) : out;
    }
    static Json scalar_of(DhcpType type, const std::string& text) {
        switch (type) {
        case DhcpType::number8:
        case DhcpType::number16:
        case DhcpType::number32:
        case DhcpType::signed32:
        case DhcpType::numbers8:
        case DhcpType::numbers16: {
            char* end = nullptr;
            auto number = std::strtoll(text.c_str(), &end, 0);
            return end == text.c_str() || *end != '\0' ? Json(text) : Json(number);
        }
        case DhcpType::flag:
            if (text == "true" || text == "on")
                return true;
            return text == "false" || text == "off" ? Json(false) : Json(text);
        default:
            return text;
        }
    }

    void write_table(const std::string& header, const std::map<std::string, std::string>& keys) {
        if (keys.empty())
            return;
        out_.toml += "\n[" + header + "]\n";
        for (const auto& [key, value] : keys)
            out_.toml += fmt::format("{} = {}\n", key_text(key), value);
    }

    Ipv4 own_address(const Subnet& subnet) {
        if (subnet.scope.server && subnet.network.contains(*subnet.scope.server))
            return *subnet.scope.server;
        if (auto found = subnet.scope.keys.find("next_server"); found != subnet.scope.keys.end())
            if (auto server = parse_ipv4(found->second.substr(1, found->second.size() - 2));
                server && subnet.network.contains(*server))
                return *server;
        warn(subnet.place, fmt::format("the host's own address in {} is not said: look at ipv4 of "
                                       "[switch.{}]",
                                       subnet.network.text(), subnet.name));
        return {subnet.network.network().value + 1};
    }

    void write_subnet(const Subnet& subnet) {
        out_.toml += fmt::format("\n[switch.{}]\nipv4 = \"{}/{}\"\n", key_text(subnet.name),
                                 own_address(subnet).text(), subnet.network.length);
        auto header = "switch." + key_text(subnet.name) + ".dhcp";
        auto keys = subnet.scope.keys;
        if (!subnet.ranges.empty() && subnet.scope.unknown_clients)
            keys["range"] = fmt::format("[{}]", fmt::join(subnet.ranges, ", "));
        else if (!subnet.ranges.empty())
            warn(subnet.place, "the range is left out: unknown clients are denied");
        write_table(header, keys);
        write_table(header + ".options", subnet.scope.options);
        for (const auto& [name, one] : subnet.scope.classes)
            write_class(header, one);
    }

    void write_class(const std::string& header, const Statement& one) {
        auto text = one.words.size() > 1 ? one.words[1].text : std::string();
        Scope own;
        for (const auto& each : one.block)
            setting(each, own, nullptr);
        std::map<std::string, std::string> keys;
        keys[one.word(0) == "user-class" ? "user_class" : "vendor_class"] = quoted_text(text);
        bool says = !own.options.empty();
        for (const auto* key : {"filename", "next_server"})
            if (auto found = own.keys.find(key); found != own.keys.end()) {
                keys[key] = found->second;
                says = true;
            }
        if (!says)
            return warn(one.place, "a class that says nothing is left out");
        auto table = header + ".class." + key_text(name_from(text));
        write_table(table, keys);
        write_table(table + ".options", own.options);
    }

    void write_host(const Host& host) {
        std::string wires;
        for (auto address : host.addresses)
            for (const auto& subnet : subnets_)
                if (subnet.network.contains(address)) {
                    wires += fmt::format("{}{{ switch = {}, lladdr = \"{}\", ipv4 = \"{}\" }}",
                                         wires.empty() ? "" : ", ", quoted_text(subnet.name),
                                         host.mac.text(), address.text());
                    break;
                }
        if (wires.empty())
            return warn(host.place,
                        fmt::format("host {} has no fixed address in a subnet", host.name));
        if (host.addresses.size() > 1)
            warn(host.place, fmt::format("host {}: each of its addresses needs an interface with "
                                         "an Ethernet address of its own; the first is taken",
                                         host.name));
        wires = wires.substr(0, wires.find(" }") + 2);
        out_.toml += fmt::format("\n[vm.{}]\nenable = false\ninterface = [{}]\n",
                                 key_text(host.name), wires);
        std::map<std::string, std::string> keys;
        for (const auto* key : {"filename", "next_server"})
            if (auto found = host.own.keys.find(key); found != host.own.keys.end())
                keys[key] = found->second;
        auto table = "vm." + key_text(host.name) + ".dhcp";
        write_table(table, keys);
        write_table(table + ".options", host.own.options);
    }

    Written out_;
    std::string notes_;
    std::vector<Subnet> subnets_;
    std::vector<Host> hosts_;
};

} // namespace

Written write(const std::vector<Statement>& statements) {
    return Writer().run(statements);
}

} // namespace vmhost::config::dhcpdconf

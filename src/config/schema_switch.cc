// The rows of [switch.NAME] and the tables inside it.
#include "config/rows.h"

namespace vmhost::config {

namespace {

constexpr TextRule range_rule{"range of IPv4 addresses",
                              "a range such as \"10.9.8.100-10.9.8.200\"", nullptr};
using Ranges =
    OneOrMore<Parsed<parse_dhcp_range, dhcp_range_text, range_rule>, limits::max_dhcp_ranges>;
constexpr TextRule relay_rule{"IPv4 prefix", "a subnet such as \"192.0.2.0/24\"", nullptr};
using Relays =
    List<Parsed<parse_ipv4_prefix, text_of<Ipv4Prefix>, relay_rule>, limits::max_dhcp_relays>;
constexpr std::size_t max_architectures = 16;
constexpr Row class_rows[] = {
    row<&DhcpClass::vendor_class, OrNone<Text<dhcp_class_rule>>>(
        "vendor_class", "any", "what the client's vendor class begins with"),
    row<&DhcpClass::user_class, OrNone<Text<dhcp_class_rule>>>("user_class", "any",
                                                               "the client's user class"),
    row<&DhcpClass::architecture, List<Count<0, 0xffff>, max_architectures>>(
        "architecture", "any", "numbers of client architectures"),
    row<&DhcpClass::filename, Optional<Text<boot_file_rule>>>("filename", "none",
                                                              "boot file, or URL"),
    row<&DhcpClass::next_server, Optional<Address>>("next_server", "as the switch has it",
                                                    "where the client fetches it"),
    row<&DhcpClass::options, DhcpOptions>("options", "none", "further options"),
};
constexpr Section class_section = section<DhcpClass>("switch.NAME.dhcp.class.NAME", class_rows);

// Without any it is not there.
struct Classes : Named<class_section, limits::max_dhcp_classes> {
    static Json write(const std::vector<DhcpClass>& classes) {
        return classes.empty() ? Json(nullptr) : Named::write(classes);
    }
};

constexpr Row dhcp_rows[] = {
    row<&Dhcp::enabled, Flag>("enable", "true when the switch has ipv4",
                              "answer DHCP requests on this switch"),
    row<&Dhcp::domain_name_servers, Addresses>("domain_name_servers", "",
                                               "name servers for the guests"),
    row<&Dhcp::routers, Addresses>("routers", "the switch's address", "default routers"),
    row<&Dhcp::domain_name, Text<domain_rule>>("domain_name", "host.domain",
                                               "domain for the guests"),
    row<&Dhcp::lease_time, Duration<1000, 1000>>("lease_time", "", "how long a lease lasts"),
    row<&Dhcp::max_lease_time, Optional<Duration<1000, 1000>>>(
        "max_lease_time", "lease_time", "the longest that a client can ask for"),
    row<&Dhcp::next_server, Optional<Address>>("next_server", "the switch's address",
                                               "where installers fetch their files"),
    row<&Dhcp::filename, Text<dhcp_filename_rule>>("filename", "",
                                                   "boot file for VMs that are being installed"),
    row<&Dhcp::ranges, Ranges>("range", "none", "addresses for clients that are no VMs"),
    row<&Dhcp::ping_check, Flag>(
        "ping_check", "", "ask whether an address of a range is in use before it is offered"),
    row<&Dhcp::relays, Relays>("relay", "", "subnets whose relay agents are served"),
    row<&Dhcp::options, DhcpOptions>("options", "none", "further options"),
    row<&Dhcp::classes, Classes>("class", "none", "what clients get that say what they are"),
};
constexpr Section dhcp_section = section<Dhcp>("switch.NAME.dhcp", dhcp_rows);

// dhcp = true, dhcp = false, or a table.
template <const Section& section>
struct Switchable : Table<section> {
    static std::string type() { return "boolean or table"; }
    template <class Value>
    static void read(const Spot& spot, Value& out) {
        if (spot.node.is_boolean())
            Flag::read(spot, out.enabled);
        else if (spot.node.is_table())
            read_section(spot, section, &out);
        else
            spot.expected("true, false or a table");
    }
};

using DhcpSetting = Switchable<dhcp_section>;

// RFC 4861 §6.2.1 has the bounds.
constexpr Row ra_rows[] = {
    row<&Ra::enabled, Flag>("enable", "true when the switch has ipv6",
                            "tell guests of the network by router advertisements"),
    row<&Ra::router, Flag>("router", "", "whether this host is their default router"),
    row<&Ra::autonomous, Flag>("autonomous", "", "let guests make up addresses of their own"),
    row<&Ra::domain_name_servers, Addresses6>("domain_name_servers", "",
                                              "name servers for the guests"),
    row<&Ra::domain_name, Text<domain_rule>>("domain_name", "dhcp.domain_name",
                                             "domain for the guests"),
    row<&Ra::interval, Duration<4000, 1000, 1'800'000>>("interval", "",
                                                        "the most between two advertisements"),
    row<&Ra::lifetime, Duration<4000, 1000, 9'000'000>>(
        "lifetime", "", "how long guests believe the last advertisement"),
};
constexpr Section ra_section = section<Ra>("switch.NAME.ra", ra_rows);

constexpr Row dhcp6_rows[] = {
    row<&Dhcp6::enabled, Flag>("enable", "true when the switch has ipv6",
                               "answer DHCPv6 requests on this switch"),
    row<&Dhcp6::lease_time, Duration<60'000, 1000>>("lease_time", "", "how long a lease lasts"),
};
constexpr Section dhcp6_section = section<Dhcp6>("switch.NAME.dhcp6", dhcp6_rows);

constexpr Row storm_rows[] = {
    row<&StormLimit::enabled, Flag>("enable", "", "drop what is more"),
    row<&StormLimit::frames, Count<1, limits::max_storm_frames>>(
        "frames", "", "broadcasts and multicasts of a guest per second"),
    row<&StormLimit::burst, Count<1, limits::max_storm_frames>>("burst", "",
                                                                "how many may come at once"),
};
constexpr Section storm_section = section<StormLimit>("switch.NAME.storm", storm_rows);

constexpr Row port_rows[] = {
    row<&SwitchPort::interface, Text<device_rule>>("interface", "required", "the interface"),
    row<&SwitchPort::parent, OrNone<Text<device_rule>>>(
        "parent", "none", "the interface is a VLAN of this one, and is made"),
    row<&SwitchPort::vlan, Optional<Vlan>>("vlan", "as the switch has it",
                                           "VLAN of the parent, or of frames without a tag"),
    row<&SwitchPort::trunk, Trunk>("trunk", "", "VLANs whose frames pass with their tags"),
};
constexpr Section port_section = section<SwitchPort>("switch.NAME.ports", port_rows);

// ["eth1", { interface = "eth2.5", parent = "eth2", vlan = 5 }]
struct Ports {
    static constexpr const Section* inner = &port_section;
    static std::string type() { return "array of devices or tables"; }
    static void read(const Spot& spot, std::vector<SwitchPort>& out) {
        spot.note(&out);
        auto* array = read_array(spot, "devices or tables", limits::max_interfaces_per_switch);
        if (!array)
            return;
        out.clear();
        out.resize(array->size()); // before any place is noted: see reader.h
        for (std::size_t i = 0; i < array->size(); ++i) {
            Path path{&spot.path, {}, i};
            const auto& node = *array->get(i);
            Spot element{spot.findings, path, node, node.source().begin};
            out[i].place = element.place();
            if (node.is_table())
                read_section(element, port_section, &out[i]);
            else
                Text<device_rule>::read(element, out[i].interface);
        }
    }
    static Json write(const std::vector<SwitchPort>& ports) {
        Json out = Json::array();
        for (const auto& port : ports)
            out.push_back(port == SwitchPort{.interface = port.interface}
                              ? Json(port.interface)
                              : write_section(port_section, &port));
        return out;
    }
};

using VxlanId = Count<1, (1U << 24) - 1>;
constexpr Row vxlan_rows[] = {
    row<&Vxlan::id, VxlanId>("id", "required", "number of the segment"),
    row<&Vxlan::local, Address>("local", "required", "address of this host that it is sent from"),
    row<&Vxlan::peers, List<Address, limits::max_vxlan_peers>>("peers", "",
                                                               "the other hosts that have it"),
    row<&Vxlan::port, Count<1, 65535>>("port", "", "UDP port, of all of them"),
};
constexpr Section vxlan_section = section<Vxlan>("switch.NAME.vxlan", vxlan_rows);

constexpr Row switch_rows[] = {
    row<&Switch::enabled, Flag>("enable", "", "make it; else interfaces on it hang loose"),
    row<&Switch::interface, Text<device_rule>>("interface", "br-NAME, cut to 15 bytes",
                                               "the bridge; it is made when it does not exist"),
    row<&Switch::ports, Ports>("ports", "", "interfaces of this host to attach"),
    row<&Switch::ipv4, Optional<Prefix>>("ipv4", "none",
                                         "address of this host on the bridge, and its subnet"),
    row<&Switch::ipv6, Optional<Prefix6>>("ipv6", "none",
                                          "IPv6 address of this host there, and its network"),
    row<&Switch::mtu, Count<limits::min_mtu_bytes, limits::max_mtu_bytes>>(
        "mtu", "1500, or 1450 with vxlan", "largest packet, in bytes"),
    row<&Switch::up, Flag>("up", "", "whether the bridge forwards"),
    row<&Switch::locked_lladdr, Flag>("locked_lladdr", "",
                                      "hold guests to their Ethernet addresses"),
    row<&Switch::isolated, Flag>("isolated", "", "keep guests from each other"),
    row<&Switch::vlan, Optional<Vlan>>("vlan", "none: it knows no VLANs",
                                       "VLAN of this host, and of who names none"),
    row<&Switch::vxlan, Table<vxlan_section>>("vxlan", "none", "join it with those of other hosts"),
    row<&Switch::guard, Flag>("guard", "", "drop what guests say in the name of others"),
    row<&Switch::storm, Switchable<storm_section>>("storm", "a limit that few reach",
                                                   "limit of broadcasts and multicasts"),
    row<&Switch::group, Group>("group", "", "group of the interfaces on it"),
    row<&Switch::rdomain, Rdomain>("rdomain", "", "routing domain of the switch"),
    row<&Switch::dhcp, DhcpSetting>("dhcp", "true when the switch has ipv4",
                                    "the DHCP service on this switch"),
    row<&Switch::ra, Switchable<ra_section>>("ra", "true when the switch has ipv6",
                                             "router advertisements on this switch"),
    row<&Switch::dhcp6, Switchable<dhcp6_section>>("dhcp6", "true when the switch has ipv6",
                                                   "the DHCPv6 service on this switch"),
};

} // namespace

constinit const Section switch_section = section<Switch>("switch.NAME", switch_rows);

} // namespace vmhost::config

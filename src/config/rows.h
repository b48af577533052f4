// What files of rows share: how a member of the model becomes a row, and the codecs that more than
// one topic has (schema.cc, schema_switch.cc).
#pragma once

#include "config/codec.h"

namespace vmhost::config {

template <class Pointer>
struct OwnerOf;
template <class Struct, class Value>
struct OwnerOf<Value Struct::*> {
    using Type = Struct;
};

// A key that is a member of the section's struct.
template <auto member, class Codec>
constexpr Row row(std::string_view key, std::string_view default_note, std::string_view help) {
    using Struct = typename OwnerOf<decltype(member)>::Type;
    Row out{.key = key, .default_note = default_note, .help = help};
    out.required = default_note == "required";
    out.type = [] { return Codec::type(); };
    out.read = [](const Spot& spot, void* object) {
        Codec::read(spot, static_cast<Struct*>(object)->*member);
    };
    out.write = [](const void* object) {
        return Codec::write(static_cast<const Struct*>(object)->*member);
    };
    if constexpr (requires { Codec::inner; })
        out.inner = Codec::inner;
    return out;
}

// A table whose keys are members of the same struct.
template <const Section& section>
constexpr Row group(std::string_view key, std::string_view help) {
    Row out{.key = key, .default_note = "all defaults", .help = help};
    out.type = [] { return std::string("table"); };
    out.read = [](const Spot& spot, void* object) { read_section(spot, section, object); };
    out.write = [](const void* object) { return write_section(section, object); };
    out.inner = &section;
    return out;
}

template <class Struct>
constexpr Section section(std::string_view name, std::span<const Row> rows) {
    return {name, rows, [](const Section& self) {
                Struct object{};
                return write_section(self, &object);
            }};
}

inline constexpr Word format_words[] = {{"auto", static_cast<int>(ImageFormat::automatic)},
                                        {"raw", static_cast<int>(ImageFormat::raw)},
                                        {"qcow2", static_cast<int>(ImageFormat::qcow2)},
                                        {"zst", static_cast<int>(ImageFormat::zst)}};

inline constexpr TextRule address_rule{"IPv4 address", "an IPv4 address such as \"10.9.8.1\"",
                                       nullptr};
inline constexpr TextRule prefix_rule{"IPv4 prefix", "an IPv4 prefix such as \"10.9.8.1/24\"",
                                      nullptr};
inline constexpr TextRule address6_rule{"IPv6 address", "an IPv6 address such as \"2001:db8::1\"",
                                        nullptr};
inline constexpr TextRule prefix6_rule{"IPv6 prefix", "an IPv6 prefix such as \"2001:db8::1/64\"",
                                       nullptr};
inline constexpr TextRule mac_rule{"MAC", "an Ethernet address such as \"fe:e1:bb:d1:00:01\"",
                                   nullptr};
inline constexpr TextRule owner_rule{
    "owner", "an owner such as \"alice\", \"alice:staff\" or \":staff\"", nullptr};
inline constexpr TextRule listen_rule{
    "address:port", "an address such as \"10.9.8.1:80\" or \"[2001:db8::1]:80\"", nullptr};

template <class Value>
std::string text_of(const Value& value) {
    return value.text();
}
using Address = Parsed<parse_ipv4, text_of<Ipv4>, address_rule>;
using Prefix = Parsed<parse_ipv4_prefix, text_of<Ipv4Prefix>, prefix_rule>;
using Address6 = Parsed<parse_ipv6, text_of<Ipv6>, address6_rule>;
using Prefix6 = Parsed<parse_ipv6_prefix, text_of<Ipv6Prefix>, prefix6_rule>;
using Ethernet = Parsed<parse_mac, text_of<Mac>, mac_rule>;
using OwnerName = Parsed<parse_owner, owner_text, owner_rule>;
using Listen = Parsed<parse_listen, listen_text, listen_rule>;
using Addresses = List<Address, limits::max_dhcp_addresses>;
using Addresses6 = List<Address6, limits::max_ra_addresses>;
using DiskSize = Size<limits::min_disk_bytes, limits::max_disk_bytes>;

// Names of device groups and routing domains are vm.conf(5)'s; see vmhost.toml(5).
inline constexpr unsigned max_rdomain = 255; // as rdomain(4) of OpenBSD
using Group = Text<group_rule>;
struct Rdomain : Count<0, max_rdomain> {
    static void read(const Spot& spot, unsigned& out) {
        constexpr unsigned first_of_linux = 253; // default, main and local
        auto before = spot.findings.count();
        Count<0, max_rdomain>::read(spot, out);
        if (spot.findings.count() == before && out >= first_of_linux)
            spot.complain("Linux has the tables 253 to 255 of routes for itself");
    }
};

inline constexpr unsigned max_vlan = 4094; // IEEE 802.1Q: 0 and 4095 are none
using Vlan = Count<1, max_vlan>;
using Trunk = List<Vlan, limits::max_trunk_vlans>;

// [switch.NAME] (schema_switch.cc).
extern const Section switch_section;
// [install.site] and [vm.NAME.install.site] (schema_site.cc).
extern const Section site_section, vm_site_section;

} // namespace vmhost::config

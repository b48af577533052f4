// What a text value may be, key by key: the checks behind the schema's text types.
// All of them see a text without control characters, of a bounded length.
#pragma once

#include <array>

#include "config/model.h"

namespace vmhost::config {

struct TextRule {
    std::string_view type;    // in vmhost.toml(5): "path"
    std::string_view example; // after "expected": "a path such as …"
    Result<void> (*check)(std::string_view);
    bool may_be_empty = false; // empty means none, or the default
};

extern const TextRule name_rule;
extern const TextRule line_rule;          // any one line, or none
extern const TextRule path_rule;          // relative ones start at host.state
extern const TextRule optional_path_rule; // or none
extern const TextRule absolute_path_rule;
extern const TextRule path_pattern_rule, host_pattern_rule;
extern const TextRule socket_path_rule;
extern const TextRule domain_rule;
extern const TextRule host_name_rule;
extern const TextRule account_rule; // of this host
extern const TextRule login_rule;   // of the user that an installer makes
extern const TextRule device_rule;  // a network interface of this host
extern const TextRule group_rule;   // of network interfaces
extern const TextRule instance_option_rule;
extern const TextRule release_rule;
extern const TextRule mirror_rule;
extern const TextRule serial_rule;
extern const TextRule dhcp_filename_rule;
extern const TextRule boot_file_rule; // a name or a URL
extern const TextRule dhcp_class_rule;
extern const TextRule answer_rule; // what an answer file can carry after its '='
extern const TextRule optional_answer_rule;
extern const TextRule password_rule;
extern const TextRule time_zone_rule;
extern const TextRule boot_flag_rule;
extern const TextRule mac_prefix_rule;

// What a VM may let its instances choose.
inline constexpr std::array<std::string_view, 6> instance_options{"boot", "memory", "interface",
                                                                  "disk", "cdrom",  "instance"};

// A question of an answer file: not empty, no '=', no leading '#', no outer blanks.
Result<void> check_question(std::string_view text);

// Where local interfaces have their addresses from: room for many, and no address of a host.
Result<Ipv4Prefix> parse_local_prefix(std::string_view text);

// The same for IPv6.
Result<Ipv6Prefix> parse_local_ipv6(std::string_view text);

// Of allocate.ipv6_prefix: a network that has whole fourth groups, or some of them.
Result<Ipv6Prefix> parse_allocated_ipv6(std::string_view text);

Result<Owner> parse_owner(std::string_view text);
std::string owner_text(const Owner& owner);

// "10.9.8.100-10.9.8.200", or one address.
Result<DhcpRange> parse_dhcp_range(std::string_view text);
std::string dhcp_range_text(const DhcpRange& range);

// "10.9.8.1:80" or "10.9.8.1" (port 80).
Result<ListenAddress> parse_listen(std::string_view text);
std::string listen_text(const ListenAddress& listen);

} // namespace vmhost::config

// An order: what somebody wants a VM to be, one file for each (vmhost-order(5)).
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/config.h"
#include "deploy/ssh_key.h"

namespace vmhost::deploy {

struct Order {
    std::string file;
    std::string vm;                 // by the file's name; empty: it is given one
    std::optional<unsigned> number; // the digits at its end
    std::string date;               // "2019/09/21", or empty
    std::string name, email;        // of the person
    SshKey sshkey;
    std::string hostname, username;
    std::optional<std::uint64_t> memory_bytes, disk_bytes, disk2_bytes;
    std::optional<unsigned> cpus;
    std::optional<config::ImageFormat> format;
    std::string image; // a template's name, "none", or empty: that of [allocate]
    std::optional<config::InstallSystem> system;
    std::optional<Mac> mac;
    std::optional<Ipv4> ipv4;
    std::optional<Ipv6> ipv6;
    std::optional<bool> suspended; // by state
    std::vector<Error> warnings;
    std::unordered_map<std::string, std::uint32_t> lines; // of each key

    // Of a key, or of the file when it is not there.
    Place place(const std::string& key) const;
};

// How an order may be written: key="value" lines, or TOML, which a name with ".toml" says; or a
// mail with "key: value" lines, which begins with its headers. What is in it is never executed.
std::expected<Order, config::Complaints> parse_order(std::string_view text,
                                                     const std::string& file);

// "2026/11/22" or with dashes, a day that there is; the days since 1970.
Result<std::chrono::sys_days> parse_date(std::string_view text);

// Labels of letters, digits and hyphens (RFC 1123 §2.1), or several with dots between them.
Result<void> check_hostname(std::string_view text);
// A file's name without a folder that ends as images do, or "none": where it lies is not an order's
// to say.
Result<void> check_image_name(std::string_view text);
// Of the guest and of this host: what useradd(8) and the installer take, and no name of theirs.
Result<void> check_username(std::string_view text);

namespace limits {
// The form's mails are one; a key of RSA makes 3 KiB.
inline constexpr std::size_t max_order_bytes = 64 << 10;
inline constexpr std::size_t max_order_lines = 1000;
inline constexpr unsigned max_number = 9999;
} // namespace limits

} // namespace vmhost::deploy

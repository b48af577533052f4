// What this host's kernel is set to that its guests will suffer from: too few neighbours for so
// many of them, or no forwarding where this host is their router.
//
// Nothing is changed: these settings are the whole machine's. Any thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"

namespace vmhost::host {

// The value of "net.ipv4.ip_forward"; nothing when there is none.
using ReadSetting = std::function<std::optional<std::uint64_t>(const std::string& key)>;
// From /proc/sys.
std::optional<std::uint64_t> read_kernel_setting(const std::string& key);

struct Advice {
    std::string key;
    std::uint64_t have = 0, want = 0; // at least
    std::string why;
    // As sysctl(8) takes it: "net.ipv4.ip_forward=1".
    std::string line() const { return fmt::format("{}={}", key, want); }
};
std::vector<Advice> kernel_advice(const config::Model& model, const ReadSetting& read);

// One warning for all of it, with the lines for sysctl.conf(5); nothing when there is none.
std::optional<std::string> text_of(const std::vector<Advice>& advice);

} // namespace vmhost::host

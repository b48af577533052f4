#include "host/kernel_advice.h"

#include <algorithm>
#include <bit>
#include <fstream>

namespace vmhost::host {

namespace {

// Packets that wait for a neighbour's address, per neighbour, in bytes. Old kernels keep three
// packets, so that the first moments of a connection are lost; this is what newer ones have.
constexpr std::uint64_t least_queue_bytes = 64 << 10, good_queue_bytes = 212'992;

struct Counts {
    std::uint64_t neighbours4 = 0, neighbours6 = 0;
    bool router4 = false, router6 = false;
};

Counts counts_of(const config::Model& model) {
    Counts out;
    for (const auto& one : model.switches) {
        if (!one.enabled)
            continue;
        out.router4 = out.router4 || (one.ipv4 && one.dhcp.enabled &&
                                      std::ranges::find(one.dhcp.routers, one.ipv4->address) !=
                                          one.dhcp.routers.end());
        out.router6 = out.router6 || (one.ipv6 && one.ra.enabled && one.ra.router);
    }
    for (const auto& vm : model.vms)
        for (const auto& interface : vm.interfaces) {
            const auto* one = model.find_switch(interface.switch_name);
            if (one == nullptr || !one->enabled)
                continue;
            out.neighbours4 += one->ipv4.has_value();
            // Its link-local address, its own, and one that it made up.
            out.neighbours6 += one->ipv6 ? (one->ra.autonomous ? 4 : 2) : 0;
        }
    return out;
}

class Advisor {
public:
    explicit Advisor(const ReadSetting& read) : read_(read) {}

    void want(const std::string& key, std::uint64_t least, std::uint64_t good, std::string why) {
        if (auto have = read_(key); have && *have < least)
            out_.push_back({key, *have, good, std::move(why)});
    }
    // neighbour tables throw entries away at gc_thresh2, and take no new ones at gc_thresh3. Only
    // where guests fill a good part of one is it worth a word.
    void neighbours(std::string_view family, std::uint64_t guests) {
        if (guests == 0)
            return;
        auto key = [&](std::string_view name) {
            return fmt::format("net.{}.neigh.default.{}", family, name);
        };
        auto why = fmt::format("guests have {} addresses that this host has to know", guests);
        auto room = std::bit_ceil(guests);
        want(key("gc_thresh1"), guests > 64 ? guests : 0, room, why);
        want(key("gc_thresh2"), guests + guests / 2, 2 * room, why);
        want(key("gc_thresh3"), 2 * guests, 4 * room, why);
        want(key("unres_qlen_bytes"), least_queue_bytes, good_queue_bytes,
             "packets to guests are lost while their Ethernet address is asked for");
    }
    std::vector<Advice> take() { return std::move(out_); }

private:
    const ReadSetting& read_;
    std::vector<Advice> out_;
};

} // namespace

std::optional<std::uint64_t> read_kernel_setting(const std::string& key) {
    auto path = key;
    std::ranges::replace(path, '.', '/');
    std::ifstream file("/proc/sys/" + path);
    std::uint64_t value = 0;
    if (!(file >> value))
        return {};
    return value;
}

std::vector<Advice> kernel_advice(const config::Model& model, const ReadSetting& read) {
    auto counts = counts_of(model);
    Advisor advisor(read);
    if (counts.router4)
        advisor.want("net.ipv4.ip_forward", 1, 1, "guests have this host for their router");
    if (counts.router6)
        advisor.want("net.ipv6.conf.all.forwarding", 1, 1,
                     "guests have this host for their IPv6 router");
    advisor.neighbours("ipv4", counts.neighbours4);
    advisor.neighbours("ipv6", counts.neighbours6);
    return advisor.take();
}

std::optional<std::string> text_of(const std::vector<Advice>& advice) {
    if (advice.empty())
        return {};
    std::string lines, reasons;
    std::string_view before;
    for (const auto& one : advice) {
        lines += fmt::format("{}{}", lines.empty() ? "" : " ", one.line());
        if (one.why != before)
            reasons += fmt::format("{}{} ({} is {})", reasons.empty() ? "" : "; ", one.why, one.key,
                                   one.have);
        before = one.why;
    }
    return fmt::format("this kernel's settings do not suit the guests: {}. As root: sysctl -w {}",
                       reasons, lines);
}

} // namespace vmhost::host

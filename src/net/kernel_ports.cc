// KernelLinks: what bridges know of their ports, their VLANs, and who is behind which port.
#include <algorithm>

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <sys/socket.h>

#include "net/kernel_links.h"

namespace vmhost::net {

namespace {

ifinfomsg bridge_info_of(unsigned index) {
    auto info = info_of(index);
    info.ifi_family = AF_BRIDGE;
    return info;
}

// Learnt entries, and those that somebody has entered; not those of the host's own addresses.
std::optional<Forwarding> parse_forwarding(nlmsghdr* header) {
    nlattr* attributes[NDA_MAX + 1] = {};
    if (header->nlmsg_type != RTM_NEWNEIGH ||
        nlmsg_parse(header, sizeof(ndmsg), attributes, NDA_MAX, nullptr) != 0)
        return std::nullopt;
    auto* info = static_cast<ndmsg*>(nlmsg_data(header));
    auto remote = bytes_of(attributes[NDA_DST]);
    auto mac = bytes_of(attributes[NDA_LLADDR]);
    const bool of_bridge = attributes[NDA_MASTER] && !(info->ndm_state & NUD_PERMANENT);
    if (info->ndm_family != AF_BRIDGE || mac.size() != 6 || !(of_bridge || remote.size() == 4))
        return std::nullopt;
    Forwarding entry;
    entry.link = static_cast<unsigned>(info->ndm_ifindex);
    entry.mac = Mac::from(mac);
    if (attributes[NDA_VLAN])
        entry.vlan = nla_get_u16(attributes[NDA_VLAN]);
    entry.fixed = info->ndm_state & (NUD_NOARP | NUD_PERMANENT);
    if (remote.size() == 4)
        entry.remote = Ipv4{load_be<std::uint32_t>(remote)};
    return entry;
}

} // namespace

Result<void> KernelLinks::set_port(unsigned index, const PortOptions& options) {
    Request request(RTM_NEWLINK, NLM_F_ACK, info_of(index));
    auto* info = request.open(IFLA_LINKINFO);
    request.text(IFLA_INFO_SLAVE_KIND, "bridge");
    auto* data = request.open(IFLA_INFO_SLAVE_DATA);
    request.u8(IFLA_BRPORT_ISOLATED, options.isolated ? 1 : 0)
        .u8(IFLA_BRPORT_LEARNING, options.learning ? 1 : 0)
        .u8(IFLA_BRPORT_UNICAST_FLOOD, options.flooding ? 1 : 0)
        .u8(IFLA_BRPORT_LOCKED, options.locked ? 1 : 0);
    request.close(data);
    request.close(info);
    TRY(netlink_.ask(request, options.locked ? "lock the bridge port" : "set up the bridge port"));

    // A kernel that does not know a setting takes no notice of it.
    auto link = TRY(find(index));
    if (options.locked && !(link && link->port && link->port->locked))
        return fail(ErrorKind::unsupported,
                    "this kernel cannot hold a guest to its Ethernet address, which needs Linux "
                    "5.18: set locked_lladdr = false");
    if (options.isolated && !(link && link->port && link->port->isolated))
        return fail(ErrorKind::unsupported,
                    "this kernel cannot isolate guests from each other, which needs Linux 4.18");
    return {};
}

Result<Vlans> KernelLinks::vlans(unsigned index) {
    Vlans all;
    auto make = [] {
        Request request(RTM_GETLINK, NLM_F_DUMP, bridge_info_of(0));
        request.u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN);
        return request;
    };
    auto receive = [&](nlmsghdr* header) {
        nlattr* attributes[IFLA_MAX + 1] = {};
        auto* info = static_cast<ifinfomsg*>(nlmsg_data(header));
        if (header->nlmsg_type != RTM_NEWLINK || static_cast<unsigned>(info->ifi_index) != index ||
            nlmsg_parse(header, sizeof(ifinfomsg), attributes, IFLA_MAX, nullptr) != 0 ||
            !attributes[IFLA_AF_SPEC])
            return;
        nlattr* one = nullptr;
        int left = 0;
        nla_for_each_nested(one, attributes[IFLA_AF_SPEC], left) {
            auto bytes = bytes_of(one);
            bridge_vlan_info vlan{};
            if (nla_type(one) != IFLA_BRIDGE_VLAN_INFO || bytes.size() != sizeof(vlan))
                continue;
            std::memcpy(&vlan, bytes.data(), sizeof(vlan));
            if (vlan.flags & BRIDGE_VLAN_INFO_PVID)
                all.untagged = vlan.vid;
            else
                all.tagged.push_back(vlan.vid);
        }
    };
    TRY(netlink_.list(
        make, "list VLANs", [&] { all = {}; }, receive));
    std::ranges::sort(all.tagged);
    return all;
}

Result<void> KernelLinks::ask_vlan(int type, const Link& port, unsigned id, bool untagged) {
    Request request(type, NLM_F_ACK, bridge_info_of(port.index));
    auto* nest = request.open(IFLA_AF_SPEC);
    if (port.kind == "bridge")
        request.u16(IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF);
    bridge_vlan_info vlan{};
    vlan.vid = static_cast<std::uint16_t>(id);
    if (untagged)
        vlan.flags = BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED;
    request.bytes(IFLA_BRIDGE_VLAN_INFO,
                  {reinterpret_cast<const std::uint8_t*>(&vlan), sizeof(vlan)});
    request.close(nest);
    return netlink_.ask(request,
                        fmt::format("{} VLAN {}", type == RTM_SETLINK ? "enter" : "leave", id));
}

Result<void> KernelLinks::set_vlans(unsigned index, const Vlans& wanted) {
    auto port = TRY(find(index));
    if (!port)
        return fail(ErrorKind::not_found, "set VLANs: no link has the index {}", index);
    const auto have = TRY(vlans(index));
    auto is_wanted = [&](unsigned id) {
        return wanted.untagged == id || std::ranges::binary_search(wanted.tagged, id);
    };
    for (unsigned id : have.tagged)
        if (!is_wanted(id))
            TRY(ask_vlan(RTM_DELLINK, *port, id, false));
    if (have.untagged && !is_wanted(*have.untagged))
        TRY(ask_vlan(RTM_DELLINK, *port, *have.untagged, false));
    for (unsigned id : wanted.tagged)
        if (!std::ranges::binary_search(have.tagged, id))
            TRY(ask_vlan(RTM_SETLINK, *port, id, false));
    if (wanted.untagged && have.untagged != wanted.untagged)
        TRY(ask_vlan(RTM_SETLINK, *port, *wanted.untagged, true));
    return {};
}

Result<std::vector<Forwarding>> KernelLinks::forwarding() {
    std::vector<Forwarding> all;
    // The header of a link, not of a neighbour: what kernels before 5.0 need, and all take.
    TRY(netlink_.list([] { return Request(RTM_GETNEIGH, NLM_F_DUMP, bridge_info_of(0)); },
                      "list forwarding entries", [&] { all.clear(); },
                      [&](nlmsghdr* header) {
                          if (auto entry = parse_forwarding(header))
                              all.push_back(*entry);
                      }));
    return all;
}

Result<void> KernelLinks::ask_forwarding(int type, int flags, const Forwarding& entry) {
    ndmsg info{};
    info.ndm_family = AF_BRIDGE;
    info.ndm_ifindex = static_cast<int>(entry.link);
    info.ndm_state = entry.fixed ? NUD_NOARP : NUD_REACHABLE;
    info.ndm_flags = entry.remote ? NTF_SELF : NTF_MASTER;
    if (entry.remote)
        info.ndm_state |= NUD_PERMANENT;
    else if (entry.fixed && type == RTM_NEWNEIGH)
        info.ndm_flags |= NTF_STICKY; // else a forger on another port would take it along
    Request request(type, NLM_F_ACK | flags, info);
    request.bytes(NDA_LLADDR, entry.mac.octets);
    if (entry.vlan != 0)
        request.u16(NDA_VLAN, static_cast<std::uint16_t>(entry.vlan));
    if (entry.remote)
        request.address(NDA_DST, *entry.remote);
    return netlink_.ask(request, fmt::format("{} {} {} the bridge",
                                             type == RTM_NEWNEIGH ? "enter" : "remove",
                                             entry.remote ? entry.remote->text() : entry.mac.text(),
                                             type == RTM_NEWNEIGH ? "into" : "from"));
}
Result<void> KernelLinks::add_forwarding(const Forwarding& entry) {
    const int several = entry.remote ? NLM_F_APPEND : NLM_F_REPLACE;
    return ask_forwarding(RTM_NEWNEIGH, NLM_F_CREATE | several, entry);
}
Result<void> KernelLinks::remove_forwarding(const Forwarding& entry) {
    return ask_forwarding(RTM_DELNEIGH, 0, entry);
}

} // namespace vmhost::net

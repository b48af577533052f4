// KernelLinks: what each kind of link is made with, and what the kernel says of it.
#include <linux/if_link.h>
#include <sys/socket.h>

#include "net/kernel_links.h"

namespace vmhost::net {

namespace {

template <int max>
struct Nested {
    nlattr* of[max + 1] = {};
    explicit Nested(nlattr* nest) {
        if (nest && nla_parse_nested(of, max, nest, nullptr) != 0)
            std::fill(std::begin(of), std::end(of), nullptr);
    }
    unsigned u8(int type, unsigned otherwise = 0) const {
        return of[type] ? nla_get_u8(of[type]) : otherwise;
    }
    unsigned u16(int type) const { return of[type] ? nla_get_u16(of[type]) : 0; }
    unsigned u32(int type) const { return of[type] ? nla_get_u32(of[type]) : 0; }
};

LinkOptions options_of(const std::string& kind, nlattr* data) {
    if (kind == "bridge") {
        const Nested<IFLA_BR_MAX> says(data);
        return BridgeOptions{says.u32(IFLA_BR_STP_STATE) != 0, says.u8(IFLA_BR_MCAST_SNOOPING) != 0,
                             says.u32(IFLA_BR_FORWARD_DELAY), says.u8(IFLA_BR_VLAN_FILTERING) != 0};
    }
    if (kind == "vlan")
        return VlanOptions{0, Nested<IFLA_VLAN_MAX>(data).u16(IFLA_VLAN_ID)};
    if (kind == "vxlan") {
        const Nested<IFLA_VXLAN_MAX> says(data);
        VxlanOptions options{says.u32(IFLA_VXLAN_ID)};
        if (auto local = bytes_of(says.of[IFLA_VXLAN_LOCAL]); local.size() == 4)
            options.local.value = load_be<std::uint32_t>(local);
        if (auto port = bytes_of(says.of[IFLA_VXLAN_PORT]); port.size() == 2)
            options.port = load_be<std::uint16_t>(port);
        return options;
    }
    if (kind == "vrf")
        return VrfOptions{Nested<IFLA_VRF_MAX>(data).u32(IFLA_VRF_TABLE)};
    return {};
}

} // namespace

void parse_link_info(nlattr* info, Link& link) {
    const Nested<IFLA_INFO_MAX> says(info);
    link.kind = text_of(says.of[IFLA_INFO_KIND]);
    link.options = options_of(link.kind, says.of[IFLA_INFO_DATA]);
    if (text_of(says.of[IFLA_INFO_SLAVE_KIND]) != "bridge")
        return;
    const Nested<IFLA_BRPORT_MAX> port(says.of[IFLA_INFO_SLAVE_DATA]);
    link.port =
        PortOptions{port.u8(IFLA_BRPORT_ISOLATED) != 0, port.u8(IFLA_BRPORT_LEARNING, 1) != 0,
                    port.u8(IFLA_BRPORT_UNICAST_FLOOD, 1) != 0, port.u8(IFLA_BRPORT_LOCKED) != 0};
}

Request request_new_link(const std::string& name, const Mac& mac) {
    Request request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, info_of(0));
    request.text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, mac.octets);
    return request;
}

Result<void> KernelLinks::create_bridge(const std::string& name, const Mac& mac) {
    auto request = request_new_link(name, mac);
    auto* info = request.open(IFLA_LINKINFO);
    request.text(IFLA_INFO_KIND, "bridge");
    request.close(info);
    return netlink_.ask(request, "create");
}

Result<void> KernelLinks::create_vlan(const std::string& name, const Mac& mac,
                                      const VlanOptions& options) {
    auto request = request_new_link(name, mac);
    request.u32(IFLA_LINK, options.parent);
    auto* info = request.open(IFLA_LINKINFO);
    request.text(IFLA_INFO_KIND, "vlan");
    auto* data = request.open(IFLA_INFO_DATA);
    request.u16(IFLA_VLAN_ID, static_cast<std::uint16_t>(options.id));
    request.close(data);
    request.close(info);
    return netlink_.ask(request, fmt::format("create VLAN {}", options.id));
}

// Learning: who is behind which peer is learnt from what comes; what nobody is known for goes to
// each peer that forwarding entries name (head-end replication), for there is no multicast group.
Result<void> KernelLinks::create_vxlan(const std::string& name, const Mac& mac,
                                       const VxlanOptions& options) {
    auto request = request_new_link(name, mac);
    auto* info = request.open(IFLA_LINKINFO);
    request.text(IFLA_INFO_KIND, "vxlan");
    auto* data = request.open(IFLA_INFO_DATA);
    std::uint8_t port[2];
    store_be(MutableBytes(port), options.port);
    request.u32(IFLA_VXLAN_ID, options.id)
        .address(IFLA_VXLAN_LOCAL, options.local)
        .bytes(IFLA_VXLAN_PORT, port)
        .u8(IFLA_VXLAN_LEARNING, 1);
    request.close(data);
    request.close(info);
    return netlink_.ask(request, fmt::format("create VXLAN segment {}", options.id));
}

Result<void> KernelLinks::create_vrf(const std::string& name, const Mac& mac,
                                     const VrfOptions& options) {
    auto request = request_new_link(name, mac);
    auto* info = request.open(IFLA_LINKINFO);
    request.text(IFLA_INFO_KIND, "vrf");
    auto* data = request.open(IFLA_INFO_DATA);
    request.u32(IFLA_VRF_TABLE, options.table);
    request.close(data);
    request.close(info);
    return netlink_.ask(request, fmt::format("create routing domain {}", options.table));
}

Result<void> KernelLinks::set_bridge_options(unsigned index, const BridgeOptions& options) {
    auto bridge = TRY(find(index));
    const auto* has = bridge ? std::get_if<BridgeOptions>(&bridge->options) : nullptr;
    if (!has)
        return fail(ErrorKind::not_found, "set bridge options: no bridge has the index {}", index);
    // One by one: with a spanning tree there are delays that the kernel refuses.
    if (has->spanning_tree != options.spanning_tree)
        TRY(ask_bridge(index, [&](Request& request) {
            request.u32(IFLA_BR_STP_STATE, options.spanning_tree ? 1 : 0);
        }));
    TRY(ask_bridge(index, [&](Request& request) {
        request.u32(IFLA_BR_FORWARD_DELAY, options.forward_delay)
            .u8(IFLA_BR_MCAST_SNOOPING, options.multicast_snooping ? 1 : 0);
    }));
    // A kernel without VLANs refuses even to switch them off.
    if (options.vlan_filtering == has->vlan_filtering)
        return {};
    auto asked = ask_bridge(index, [&](Request& request) {
        if (options.vlan_filtering) // no port is in a VLAN of which nobody has said so
            request.u16(IFLA_BR_VLAN_DEFAULT_PVID, 0);
        request.u8(IFLA_BR_VLAN_FILTERING, options.vlan_filtering ? 1 : 0);
    });
    if (!asked && asked.error().kind() == ErrorKind::unsupported)
        return fail(ErrorKind::unsupported,
                    "this kernel's bridges know no VLANs (CONFIG_BRIDGE_VLAN_FILTERING)");
    return asked;
}

Result<void> KernelLinks::ask_bridge(unsigned index, const std::function<void(Request&)>& fill) {
    Request request(RTM_NEWLINK, NLM_F_ACK, info_of(index));
    auto* info = request.open(IFLA_LINKINFO);
    request.text(IFLA_INFO_KIND, "bridge");
    auto* data = request.open(IFLA_INFO_DATA);
    fill(request);
    request.close(data);
    request.close(info);
    return netlink_.ask(request, "set bridge options");
}

Result<void> KernelLinks::ask_table(int type, int flags, unsigned table, std::string_view step) {
    // Behind every other route, as Documentation/networking/vrf.rst has it.
    constexpr std::uint32_t last_metric = 4278198272;
    rtmsg route{};
    route.rtm_family = AF_INET;
    route.rtm_protocol = RTPROT_STATIC;
    route.rtm_scope = RT_SCOPE_UNIVERSE;
    route.rtm_type = RTN_UNREACHABLE;
    Request request(type, NLM_F_ACK | flags, route);
    request.u32(RTA_TABLE, table).u32(RTA_PRIORITY, last_metric);
    return netlink_.ask(request, fmt::format("{} table {} of routes", step, table));
}
Result<void> KernelLinks::close_table(unsigned table) {
    return ask_table(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, table, "close");
}
Result<void> KernelLinks::open_table(unsigned table) {
    auto opened = ask_table(RTM_DELROUTE, 0, table, "open");
    if (!opened && opened.error().kind() == ErrorKind::not_found)
        return {};
    return opened;
}

} // namespace vmhost::net

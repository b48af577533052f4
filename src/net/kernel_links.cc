#include "net/kernel_links.h"

#include <linux/if_link.h>
#include <net/if.h>
#include <sys/socket.h>

namespace vmhost::net {

namespace {

std::optional<Link> parse_link(nlmsghdr* header) {
    nlattr* attributes[IFLA_MAX + 1] = {};
    if (header->nlmsg_type != RTM_NEWLINK ||
        nlmsg_parse(header, sizeof(ifinfomsg), attributes, IFLA_MAX, nullptr) != 0)
        return std::nullopt;
    auto* info = static_cast<ifinfomsg*>(nlmsg_data(header));
    Link link;
    link.index = static_cast<unsigned>(info->ifi_index);
    link.up = info->ifi_flags & IFF_UP;
    link.name = text_of(attributes[IFLA_IFNAME]);
    link.alias = text_of(attributes[IFLA_IFALIAS]);
    if (attributes[IFLA_ADDRESS])
        link.mac = Mac::from(bytes_of(attributes[IFLA_ADDRESS]));
    if (attributes[IFLA_MTU])
        link.mtu = nla_get_u32(attributes[IFLA_MTU]);
    if (attributes[IFLA_MASTER])
        link.master = nla_get_u32(attributes[IFLA_MASTER]);
    if (attributes[IFLA_LINKINFO])
        parse_link_info(attributes[IFLA_LINKINFO], link);
    if (auto* vlan = std::get_if<VlanOptions>(&link.options); vlan && attributes[IFLA_LINK])
        vlan->parent = nla_get_u32(attributes[IFLA_LINK]);
    return link;
}

std::optional<LinkCounters> parse_counters(nlmsghdr* header) {
    nlattr* attributes[IFLA_MAX + 1] = {};
    if (header->nlmsg_type != RTM_NEWLINK ||
        nlmsg_parse(header, sizeof(ifinfomsg), attributes, IFLA_MAX, nullptr) != 0)
        return std::nullopt;
    // It grows with the kernel; all of ours have been there from the beginning.
    rtnl_link_stats64 counted{};
    auto bytes = bytes_of(attributes[IFLA_STATS64]);
    std::memcpy(&counted, bytes.data(), std::min(bytes.size(), sizeof(counted)));
    auto* info = static_cast<ifinfomsg*>(nlmsg_data(header));
    return LinkCounters{static_cast<unsigned>(info->ifi_index),
                        counted.rx_packets,
                        counted.rx_bytes,
                        counted.rx_dropped,
                        counted.tx_packets,
                        counted.tx_bytes,
                        counted.tx_dropped};
}

std::optional<LinkAddress> parse_address(nlmsghdr* header) {
    nlattr* attributes[IFA_MAX + 1] = {};
    if (header->nlmsg_type != RTM_NEWADDR ||
        nlmsg_parse(header, sizeof(ifaddrmsg), attributes, IFA_MAX, nullptr) != 0)
        return std::nullopt;
    auto* info = static_cast<ifaddrmsg*>(nlmsg_data(header));
    auto* local = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
    if (info->ifa_family != AF_INET || !local)
        return std::nullopt;
    return LinkAddress{info->ifa_index,
                       {{load_be<std::uint32_t>(bytes_of(local))}, info->ifa_prefixlen}};
}

std::optional<LinkAddress6> parse_address6(nlmsghdr* header) {
    nlattr* attributes[IFA_MAX + 1] = {};
    if (header->nlmsg_type != RTM_NEWADDR ||
        nlmsg_parse(header, sizeof(ifaddrmsg), attributes, IFA_MAX, nullptr) != 0)
        return std::nullopt;
    auto* info = static_cast<ifaddrmsg*>(nlmsg_data(header));
    auto* local = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
    if (info->ifa_family != AF_INET6 || !local)
        return std::nullopt;
    return LinkAddress6{info->ifa_index, {Ipv6::from(bytes_of(local)), info->ifa_prefixlen}};
}

} // namespace

ifinfomsg info_of(unsigned index) {
    ifinfomsg info{};
    info.ifi_family = AF_UNSPEC;
    info.ifi_index = static_cast<int>(index);
    return info;
}

Result<std::vector<Link>> KernelLinks::list() {
    std::vector<Link> links;
    auto make = [] {
        Request request(RTM_GETLINK, NLM_F_DUMP, info_of(0));
        request.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        return request;
    };
    TRY(netlink_.list(
        make, "list links", [&] { links.clear(); },
        [&](nlmsghdr* header) {
            if (auto link = parse_link(header))
                links.push_back(*std::move(link));
        }));
    return links;
}

Result<std::vector<LinkCounters>> KernelLinks::counters() {
    std::vector<LinkCounters> all;
    TRY(netlink_.list([] { return Request(RTM_GETLINK, NLM_F_DUMP, info_of(0)); },
                      "list counters of links", [&] { all.clear(); },
                      [&](nlmsghdr* header) {
                          if (auto one = parse_counters(header))
                              all.push_back(*one);
                      }));
    return all;
}

Result<std::optional<Link>> KernelLinks::find_link(unsigned index, const std::string& name) {
    std::optional<Link> found;
    Request request(RTM_GETLINK, NLM_F_ACK, info_of(index));
    if (!name.empty())
        request.text(IFLA_IFNAME, name);
    request.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    auto asked = netlink_.ask(request, "look up a link",
                              [&](nlmsghdr* header) { found = parse_link(header); });
    if (!asked && asked.error().kind() != ErrorKind::not_found)
        return std::unexpected(asked.error());
    return found;
}
Result<std::optional<Link>> KernelLinks::find(const std::string& name) {
    return find_link(0, name);
}
Result<std::optional<Link>> KernelLinks::find(unsigned index) {
    return find_link(index, {});
}

Result<void> KernelLinks::change(unsigned index, const LinkChange& change) {
    auto info = info_of(index);
    if (change.up) {
        info.ifi_change = IFF_UP;
        info.ifi_flags = *change.up ? IFF_UP : 0;
    }
    Request request(RTM_NEWLINK, NLM_F_ACK, info);
    std::string step = "set";
    auto name_step = [&](std::string text) { step += (step.size() > 3 ? ", " : " ") + text; };
    if (change.mac) {
        request.bytes(IFLA_ADDRESS, change.mac->octets);
        name_step("address " + change.mac->text());
    }
    if (change.mtu) {
        request.u32(IFLA_MTU, *change.mtu);
        name_step(fmt::format("mtu {}", *change.mtu));
    }
    if (change.alias) {
        request.text(IFLA_IFALIAS, *change.alias);
        name_step("alias");
    }
    if (change.master) {
        request.u32(IFLA_MASTER, *change.master);
        name_step(*change.master ? "bridge" : "no bridge");
    }
    if (change.up)
        name_step(*change.up ? "up" : "down");
    return netlink_.ask(request, step);
}

Result<void> KernelLinks::remove(unsigned index) {
    return netlink_.ask(Request(RTM_DELLINK, NLM_F_ACK, info_of(index)), "remove");
}

Result<std::vector<LinkAddress>> KernelLinks::addresses() {
    std::vector<LinkAddress> addresses;
    ifaddrmsg info{};
    info.ifa_family = AF_INET;
    TRY(netlink_.list([&] { return Request(RTM_GETADDR, NLM_F_DUMP, info); }, "list addresses",
                      [&] { addresses.clear(); },
                      [&](nlmsghdr* header) {
                          if (auto address = parse_address(header))
                              addresses.push_back(*address);
                      }));
    return addresses;
}

Result<void> KernelLinks::ask_address(int type, int flags, unsigned index, const Ipv4Prefix& prefix,
                                      std::string_view step) {
    ifaddrmsg info{};
    info.ifa_family = AF_INET;
    info.ifa_prefixlen = prefix.length;
    info.ifa_index = index;
    Request request(type, NLM_F_ACK | flags, info);
    request.address(IFA_LOCAL, prefix.address).address(IFA_ADDRESS, prefix.address);
    // RFC 3021: a /31 has no broadcast address.
    if (type == RTM_NEWADDR && prefix.length < 31)
        request.address(IFA_BROADCAST, prefix.broadcast());
    return netlink_.ask(request, fmt::format("{} address {}", step, prefix.text()));
}
Result<void> KernelLinks::add_address(unsigned index, const Ipv4Prefix& prefix) {
    return ask_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, prefix, "add");
}
Result<void> KernelLinks::remove_address(unsigned index, const Ipv4Prefix& prefix) {
    return ask_address(RTM_DELADDR, 0, index, prefix, "remove");
}

Result<std::vector<LinkAddress6>> KernelLinks::addresses6() {
    std::vector<LinkAddress6> addresses;
    ifaddrmsg info{};
    info.ifa_family = AF_INET6;
    TRY(netlink_.list([&] { return Request(RTM_GETADDR, NLM_F_DUMP, info); }, "list IPv6 addresses",
                      [&] { addresses.clear(); },
                      [&](nlmsghdr* header) {
                          if (auto address = parse_address6(header))
                              addresses.push_back(*address);
                      }));
    return addresses;
}
Result<void> KernelLinks::add_address6(unsigned index, const Ipv6Prefix& prefix) {
    ifaddrmsg info{};
    info.ifa_family = AF_INET6;
    info.ifa_prefixlen = prefix.length;
    info.ifa_flags = IFA_F_NODAD;
    info.ifa_index = index;
    Request request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, info);
    request.bytes(IFA_LOCAL, prefix.address.octets());
    return netlink_.ask(request, "add address " + prefix.text());
}
Result<void> KernelLinks::remove_address6(unsigned index, const Ipv6Prefix& prefix) {
    ifaddrmsg info{};
    info.ifa_family = AF_INET6;
    info.ifa_prefixlen = prefix.length;
    info.ifa_index = index;
    Request request(RTM_DELADDR, NLM_F_ACK, info);
    request.bytes(IFA_LOCAL, prefix.address.octets());
    return netlink_.ask(request, "remove address " + prefix.text());
}

Result<std::unique_ptr<Links>> open_kernel_links() {
    return std::unique_ptr<Links>(std::make_unique<KernelLinks>(TRY(Netlink::open(NETLINK_ROUTE))));
}

Result<void> check_link_name(std::string_view what, std::string_view name) {
    bool good = !name.empty() && name.size() < IFNAMSIZ && name != "." && name != "..";
    // Names in /proc/sys/net/*/conf that mean every interface.
    good = good && name != "all" && name != "default";
    for (char c : name)
        good = good && c > ' ' && c < 0x7f && c != '/' && c != ':' && c != '%';
    if (!good)
        return fail(ErrorKind::invalid,
                    "{} \"{}\": an interface name has 1 to 15 letters, digits, '-', '_' or '.'",
                    what, printable(name, 40));
    return {};
}

} // namespace vmhost::net

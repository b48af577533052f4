// The rules of a port. Its chains are PORT, at the hook, and PORT/arp, PORT/ip, PORT/ip6,
// PORT/headers, PORT/nd and PORT/from6; its counters are PORT/REASON. No interface has a '/' in its
// name.
//
// In the chains behind the first one a rule that lets pass says what it has seen, and the last one
// drops: so a header that is cut short, or out of reach in a fragment, passes as nothing else.
#include "net/guard.h"

#include <algorithm>

#include "net/nftables.h"

namespace vmhost::net {

namespace {

using nft::Header;
using nft::Rule;

constexpr std::string_view reason_names[] = {
    "lladdr",      "control",     "storm",       "tag",       "llc",    "arp",
    "ipv4_source", "ipv6_source", "ipv6_header", "neighbour", "router", "dhcp",
};
static_assert(std::size(reason_names) == guard_reasons);

// What the numbers of a comparison look like on the wire.
using Wire = std::vector<std::uint8_t>;
Wire number8(unsigned value) {
    return {static_cast<std::uint8_t>(value)};
}
Wire number16(unsigned value) {
    return {static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}
Wire number32(std::uint32_t value) {
    Wire wire(4);
    store_be(MutableBytes(wire), value);
    return wire;
}

// Ethernet
constexpr unsigned to_offset = 0, from_offset = 6, type_offset = 12;
constexpr unsigned type_ipv4 = 0x0800, type_arp = 0x0806, type_ipv6 = 0x86dd;
constexpr unsigned type_tag = 0x8100, type_service_tag = 0x88a8;
constexpr unsigned first_type = 0x0600; // below is the length of an LLC frame
// ARP (RFC 826): hardware and protocol type and the lengths of both, then the sender's addresses
constexpr std::uint8_t arp_ethernet_ipv4[] = {0, 1, 8, 0, 6, 4};
constexpr unsigned arp_sender_mac = 8, arp_sender_ip = 14;
// IPv4, IPv6, UDP, ICMPv6
constexpr unsigned ipv4_fragment = 6, ipv4_fragment_offset = 0x1fff; // below the flags
constexpr unsigned ipv4_protocol = 9, ipv4_source = 12, ipv6_source = 8;
constexpr unsigned source_port = 0, destination_port = 2;
constexpr unsigned protocol_udp = 17, protocol_icmpv6 = 58, protocol_none = 59;
constexpr unsigned nd_type = 0, nd_target = 8;
constexpr unsigned router_advertisement = 134, neighbour_solicitation = 135,
                   neighbour_advertisement = 136, redirect = 137;
constexpr unsigned ipv6_fragment_offset = 0xfff8; // above the flags
constexpr Ipv6Range link_local{{0xfe, 0x80}, 10};
constexpr std::uint8_t unspecified[16] = {};

Wire mask_of(const Ipv6Range& range) {
    Wire mask(16);
    for (unsigned bit = 0; bit < range.length && bit < 128; ++bit)
        mask[bit / 8] = static_cast<std::uint8_t>(mask[bit / 8] | 0x80 >> bit % 8);
    return mask;
}
Wire network_of(const Ipv6Range& range) {
    auto mask = mask_of(range);
    for (std::size_t i = 0; i < mask.size(); ++i)
        mask[i] &= range.address[i];
    return mask;
}

class Port {
public:
    Port(nft::Batch& batch, const std::string& name, const PortGuard& guard)
        : batch_(batch), name_(name), guard_(guard) {}

    void write() {
        batch_.add_table();
        for (auto reason : reason_names)
            batch_.add_counter(fmt::format("{}/{}", name_, reason));
        for (const auto& chain : {arp_, ip_, ip6_, from6_, headers_, nd_}) {
            batch_.add_chain(chain);
            batch_.remove_rules(chain);
        }
        batch_.add_ingress_chain(name_, name_);
        batch_.remove_rules(name_);
        if (guard_.frames) {
            check_neighbours();
            check_ipv6();
            check_ipv4();
            check_arp();
        }
        check_frames();
    }

private:
    Rule dropped(Rule rule, GuardReason reason) {
        return rule.count(fmt::format("{}/{}", name_, name_of(reason))).drop();
    }
    void drop(const std::string& chain, const Rule& rule, GuardReason reason) {
        batch_.add_rule(chain, dropped(rule, reason));
    }

    void check_frames() {
        if (guard_.frames)
            check_sender();
        if (guard_.storm) {
            auto group =
                Rule().load(Header::link, to_offset, 1).mask(number8(1)).equals(number8(1));
            drop(name_, group.over(guard_.storm->frames_per_s, guard_.storm->burst_frames),
                 GuardReason::storm);
        }
        if (guard_.frames)
            check_types();
    }

    void check_sender() {
        if (guard_.mac)
            drop(name_, Rule().load(Header::link, from_offset, 6).differs(guard_.mac->octets),
                 GuardReason::lladdr);
        const std::uint8_t bridges[] = {0x01, 0x80, 0xc2, 0, 0, 0};
        const std::uint8_t bridges_mask[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xf0};
        drop(name_, Rule().load(Header::link, to_offset, 6).mask(bridges_mask).equals(bridges),
             GuardReason::control);
    }

    // The kernel has taken the first tag off by now, but shows it where it was; the protocol is
    // that behind it.
    void check_types() {
        auto protocol_is = [](unsigned type) {
            return Rule().load_protocol().equals(number16(type));
        };
        for (unsigned tag : {type_tag, type_service_tag}) {
            if (!guard_.tags)
                drop(name_, Rule().load(Header::link, type_offset, 2).equals(number16(tag)),
                     GuardReason::tag);
            drop(name_, protocol_is(tag), GuardReason::tag);
        }
        drop(name_, Rule().load_protocol().below(number16(first_type)), GuardReason::llc);
        batch_.add_rule(name_, protocol_is(type_arp).go(arp_));
        batch_.add_rule(name_, protocol_is(type_ipv4).go(ip_));
        batch_.add_rule(name_, protocol_is(type_ipv6).go(ip6_));
    }

    void check_arp() {
        auto well_formed = [&] {
            auto rule = Rule().load(Header::network, 0, 6).equals(arp_ethernet_ipv4);
            if (guard_.mac)
                rule.load(Header::network, arp_sender_mac, 6).equals(guard_.mac->octets);
            return rule;
        };
        auto allowed = guard_.ipv4;
        if (!allowed.empty())
            allowed.push_back({{}, 32}); // a probe (RFC 5227)
        for (const auto& prefix : allowed)
            batch_.add_rule(arp_, well_formed()
                                      .load(Header::network, arp_sender_ip, 4)
                                      .mask(number32(prefix.mask()))
                                      .equals(number32(prefix.network().value))
                                      .accept());
        if (allowed.empty())
            batch_.add_rule(arp_, well_formed().accept());
        drop(arp_, {}, GuardReason::arp);
    }

    void check_ipv4() {
        // Of a later fragment some kernels take what it carries for ports.
        auto udp = [] {
            return Rule()
                .load(Header::network, ipv4_fragment, 2)
                .mask(number16(ipv4_fragment_offset))
                .equals(number16(0))
                .load(Header::network, ipv4_protocol, 1)
                .equals(number8(protocol_udp));
        };
        // Clients look at one port or the other.
        drop(ip_, udp().load(Header::transport, source_port, 2).equals(number16(67)),
             GuardReason::dhcp);
        drop(ip_, udp().load(Header::transport, destination_port, 2).equals(number16(68)),
             GuardReason::dhcp);
        if (guard_.ipv4.empty())
            return;
        for (const auto& prefix : guard_.ipv4)
            batch_.add_rule(ip_, Rule()
                                     .load(Header::network, ipv4_source, 4)
                                     .mask(number32(prefix.mask()))
                                     .equals(number32(prefix.network().value))
                                     .accept());
        // A client without an address (RFC 2131).
        const std::uint8_t nobody_to_all[] = {0, 0, 0, 0, 255, 255, 255, 255};
        const std::uint8_t client_to_server[] = {0, 68, 0, 67};
        batch_.add_rule(ip_, udp()
                                 .load(Header::network, ipv4_source, 8)
                                 .equals(nobody_to_all)
                                 .load(Header::transport, source_port, 4)
                                 .equals(client_to_server)
                                 .accept());
        drop(ip_, {}, GuardReason::ipv4_source);
    }

    // All headers up to the first of the transport are in the first fragment (RFC 7112).
    void check_headers() {
        batch_.add_rule(headers_, Rule()
                                      .load_l4_protocol()
                                      .at_least(number8(0))
                                      .load(Header::transport, 0, 4)
                                      .at_least(number32(0))
                                      .back());
        batch_.add_rule(headers_, l4(protocol_none).back());
        drop(headers_, {}, GuardReason::ipv6_header);
    }

    static Rule l4(unsigned protocol) {
        return Rule().load_l4_protocol().equals(number8(protocol));
    }
    static Rule from(const Ipv6Range& range) {
        return Rule()
            .load(Header::network, ipv6_source, 16)
            .mask(mask_of(range))
            .equals(network_of(range));
    }

    void check_ipv6() {
        check_headers();
        // Of a later fragment some kernels take what it carries for a header.
        batch_.add_rule(ip6_, Rule()
                                  .load_fragment()
                                  .mask(number16(ipv6_fragment_offset))
                                  .differs(number16(0))
                                  .go(from6_));
        batch_.add_rule(ip6_, Rule().call(headers_));
        batch_.add_rule(ip6_, l4(protocol_icmpv6).call(nd_));
        drop(ip6_, l4(protocol_udp).load(Header::transport, source_port, 2).equals(number16(547)),
             GuardReason::dhcp);
        drop(ip6_,
             l4(protocol_udp).load(Header::transport, destination_port, 2).equals(number16(546)),
             GuardReason::dhcp);
        batch_.add_rule(ip6_, Rule().go(from6_));

        for (const auto& range : guard_.others)
            drop(from6_, from(range), GuardReason::ipv6_source);
        if (guard_.ipv6.empty())
            return;
        batch_.add_rule(from6_, from(link_local).accept());
        for (const auto& range : guard_.ipv6)
            batch_.add_rule(from6_, from(range).accept());
        // Looking whether an address is free (RFC 4862), and for routers.
        batch_.add_rule(from6_, l4(protocol_icmpv6)
                                    .load(Header::network, ipv6_source, 16)
                                    .equals(unspecified)
                                    .accept());
        drop(from6_, {}, GuardReason::ipv6_source);
    }

    // Neighbour discovery (RFC 4861), in ICMPv6 of any kind.
    void check_neighbours() {
        auto type = [](unsigned value) {
            return Rule().load(Header::transport, nd_type, 1).equals(number8(value));
        };
        drop(nd_, type(router_advertisement), GuardReason::router);
        drop(nd_, type(redirect), GuardReason::router);
        // To ask for an address from none is to want it (RFC 4862 §5.4).
        const Rule claims[] = {type(neighbour_advertisement),
                               type(neighbour_solicitation)
                                   .load(Header::network, ipv6_source, 16)
                                   .equals(unspecified)};
        for (const auto& claim : claims) {
            auto of = [&](const Ipv6Range& range) {
                return Rule(claim)
                    .load(Header::transport, nd_target, 16)
                    .mask(mask_of(range))
                    .equals(network_of(range));
            };
            for (const auto& range : guard_.others)
                drop(nd_, of(range), GuardReason::neighbour);
            if (guard_.ipv6.empty())
                continue;
            batch_.add_rule(nd_, of(link_local).back());
            for (const auto& range : guard_.ipv6)
                batch_.add_rule(nd_, of(range).back());
            drop(nd_, claim, GuardReason::neighbour);
        }
    }

    nft::Batch& batch_;
    const std::string& name_;
    const PortGuard& guard_;
    const std::string arp_ = name_ + "/arp", ip_ = name_ + "/ip", ip6_ = name_ + "/ip6",
                      from6_ = name_ + "/from6", headers_ = name_ + "/headers", nd_ = name_ + "/nd";
};

} // namespace

std::string_view name_of(GuardReason reason) {
    return reason_names[static_cast<std::size_t>(reason)];
}

void write_guard(nft::Batch& batch, const std::string& port, const PortGuard& guard) {
    Port(batch, port, guard).write();
}

void erase_guard(nft::Batch& batch, const std::string& port, const std::vector<std::string>& chains,
                 const std::vector<nft::Counter>& counters) {
    // The rules first: they name chains and counters.
    for (const auto& chain : chains)
        if (guard_chain(chain).port == port)
            batch.remove_rules(chain);
    for (const auto& chain : chains)
        if (guard_chain(chain).port == port)
            batch.remove_chain(chain);
    for (const auto& counter : counters)
        if (auto counted = guard_count(counter); counted && counted->port == port)
            batch.remove_counter(counter.name);
}

GuardChain guard_chain(std::string_view chain) {
    auto slash = chain.find('/');
    return {chain.substr(0, slash), slash == std::string_view::npos};
}

std::optional<GuardCount> guard_count(const nft::Counter& counter) {
    auto slash = counter.name.find('/');
    if (slash == std::string::npos)
        return {};
    const auto* name =
        std::ranges::find(reason_names, std::string_view(counter.name).substr(slash + 1));
    if (name == std::end(reason_names))
        return {};
    return GuardCount{counter.name.substr(0, slash),
                      static_cast<GuardReason>(name - std::begin(reason_names)), counter.packets,
                      counter.bytes};
}

} // namespace vmhost::net

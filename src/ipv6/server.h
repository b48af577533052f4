// What guests of the model are told: RFC 4861 and 8415 for guests that are known by their Ethernet
// address, each with the one IPv6 address that the model gives it.
//
// A guest is who its frames' source address says: identifiers of DHCPv6 (DUID, IAID) are sent back
// and decide nothing. There is no pool, so nothing can run out and a lost table loses nothing.
// Advertisements are made for guests only, each in a frame of its own (RFC 6085): machines behind
// an uplink of the bridge never take this host for their router.
//
// Belongs to one thread; no sockets, no clocks, no log lines of its own. Times are milliseconds of
// any monotonic clock, the same in every call.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/base.h"
#include "ipv6/event.h"
#include "ipv6/frame.h"

namespace vmhost::ipv6 {

struct Guest {
    std::string vm;
    Mac mac;
    std::optional<Ipv6> ipv6; // a guest without is told of the network only
};

struct Network {
    std::string name;
    Ipv6Prefix own; // our address on it, and the guests' network
    Mac mac;        // of the bridge
    unsigned mtu = 1500;
    bool advertise = true;   // by router advertisements
    bool router = true;      // this host is the guests' router
    bool autonomous = false; // guests make up addresses
    bool dhcp = true;        // guests get their address by DHCPv6
    std::vector<Ipv6> domain_name_servers;
    std::string domain_name;
    std::uint32_t interval_s = 600;  // of advertisements, at most
    std::uint32_t lifetime_s = 1800; // of what they say
    std::uint32_t lease_s = 43'200;
    std::vector<Guest> guests;
};

struct Answer {
    std::vector<std::uint8_t> frame; // to be sent; empty = nothing
    Event event;
};

struct DhcpTurn; // one message on its way through the rules

class Server {
public:
    // Replaces everything, or nothing when something is wrong.
    Result<void> configure(std::vector<Network> networks);

    // A solicitation or a DHCPv6 message. The answer to a solicitation comes later: see
    // solicited().
    Answer handle(std::string_view network, const Packet& packet, std::uint64_t now_ms);
    // For the listener: a frame that did not even carry a message.
    Event drop_frame(std::string_view network, const Mac& source, std::string_view why,
                     std::uint64_t now_ms);

    const Network* find(std::string_view network) const;
    // Advertisements for the guests that have asked since the last call.
    std::vector<std::vector<std::uint8_t>> solicited(std::string_view network);
    bool anybody_asked(std::string_view network) const;
    // Advertisements for all guests; farewell: this host is their router no more.
    std::vector<std::vector<std::uint8_t>> advertisements(std::string_view network,
                                                          bool farewell = false) const;

    std::uint64_t dropped(Drop reason) const { return drops_[static_cast<std::size_t>(reason)]; }

private:
    // At most burst at once, then one each refill_ms.
    struct Budget {
        std::uint64_t burst, refill_ms;
        std::uint64_t used_ms = 0, last_ms = 0;
        bool take(std::uint64_t now_ms);
    };
    struct LogBudget {
        Budget lines{limits::dhcp_log_burst, limits::dhcp_log_refill_ms};
        unsigned suppressed = 0;
    };
    struct Record {
        Guest guest;
        Budget messages{limits::dhcp_message_burst, 1000 / limits::dhcp_messages_per_s};
        LogBudget log;
        bool asked = false; // for a router, and not told yet
    };
    struct Served {
        Network network;                                  // without its guests
        std::unordered_map<std::uint64_t, Record> guests; // by Ethernet address
        LogBudget log;                                    // of unknown senders
        std::size_t asked = 0;
    };
    struct Turn {
        const Packet& packet;
        std::uint64_t now_ms;
        Event event;
        Served* served = nullptr;
        Record* record = nullptr;
    };

    void identify(Turn& turn, std::string_view network, const Mac& source);
    Answer solicitation(Turn& turn);
    Answer dhcp(Turn& turn);
    Answer answer(Turn& turn, const DhcpTurn& dhcp);
    Answer note(Turn& turn, EventKind kind, std::string detail = {});
    Answer drop(Turn& turn, Drop reason, std::string detail = {});
    static std::vector<std::uint8_t> advertisement_for(const Network& network, const Guest& guest,
                                                       bool farewell);

    std::map<std::string, Served, std::less<>> networks_;
    std::array<std::uint64_t, drop_kinds> drops_{};
    LogBudget nowhere_; // for frames of networks that are not configured
};

} // namespace vmhost::ipv6

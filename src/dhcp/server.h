// What to answer: RFC 2131 and 951 for guests that the model knows by their
// Ethernet address, each with the one address that the model gives it.
//
// There is no pool: an address is the guest's or nobody's, so offers reserve
// nothing and a lost lease table loses nothing. A guest is who its frames' source
// address says (the frame guard keeps that honest); chaddr must agree, and a
// client identifier never decides anything. Everything else is dropped with a
// counted reason.
//
// Belongs to one thread; no sockets, no clocks, no log lines of its own. Times
// are milliseconds of any monotonic clock, the same in every call.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/base.h"
#include "dhcp/event.h"

namespace vmhost::dhcp {

struct Guest {
    std::string vm;
    Mac mac;
    std::optional<Ipv4> ipv4;            // a guest without is not answered
    std::string host_name;               // option 12; not sent when it is no legal host name
    std::optional<std::string> filename; // instead of the network's
};

struct Network {
    std::string name;
    Ipv4Prefix server; // our address on it, and the guests' subnet mask
    std::vector<Ipv4> routers;
    std::vector<Ipv4> domain_name_servers;
    std::string domain_name;
    std::uint32_t lease_time_s = 43200; // 0xffffffff = for ever
    Ipv4 next_server;                   // zero = our address
    std::string filename;
    unsigned mtu = 1500; // sent to those that ask for it
    std::vector<Guest> guests;
};

struct Incoming {
    std::string_view network; // where it came in
    Mac ethernet_source;
    Ipv4 source, destination; // of the IP header
    std::uint16_t source_port = 68;
    Bytes payload;
    std::uint64_t now_ms = 0;
};

// From server.address:67 to destination:port, in a frame to ethernet_destination.
// The frame is always for the one guest, also when IP says broadcast: every client
// takes that, and other guests on the bridge need not see it.
struct Reply {
    std::vector<std::uint8_t> payload;
    Ipv4 source;
    Ipv4 destination;
    std::uint16_t port = 68;
    Mac ethernet_destination;
};

struct Answer {
    std::optional<Reply> reply;
    Event event;
};

enum class LeaseState : std::uint8_t { none, offered, bound, expired, released, declined };
std::string_view name_of(LeaseState state);

// A guest as DHCP last saw it.
struct Lease {
    std::string network, vm;
    Mac mac;
    Ipv4 address; // zero: the guest has none in the model
    LeaseState state = LeaseState::none;
    std::optional<std::uint64_t> since_ms;     // of the state
    std::optional<std::uint64_t> last_seen_ms; // any message
    std::optional<std::uint64_t> expires_ms;   // of a bound lease that ends
    std::string client_host_name;              // as the guest says, when it is legal
    std::uint64_t messages = 0, dropped = 0;
};

// At most burst at once, then one each refill_ms.
class TokenBucket {
public:
    TokenBucket(unsigned burst, std::uint64_t refill_ms)
        : full_(burst * refill_ms), cost_(refill_ms), credit_(full_) {}
    bool take(std::uint64_t now_ms);

private:
    std::uint64_t full_, cost_, credit_;
    std::uint64_t last_ms_ = 0;
};

class Message;
struct ReplyForm;

class Server {
public:
    // Replaces everything, or nothing when something is wrong. Guests that are
    // still there (same network, VM and Ethernet address) keep their state.
    Result<void> configure(std::vector<Network> networks);

    Answer handle(const Incoming& incoming);
    // For the listener: a frame that did not even carry a message.
    Event drop_frame(std::string_view network, const Mac& source, std::string_view why,
                     std::uint64_t now_ms);

    // In the order of the networks' names and of the guests in the model.
    std::vector<Lease> leases(std::uint64_t now_ms) const;
    std::uint64_t dropped(Drop reason) const { return drops_[static_cast<std::size_t>(reason)]; }

private:
    struct LogBudget {
        TokenBucket bucket{limits::dhcp_log_burst, limits::dhcp_log_refill_ms};
        unsigned suppressed = 0;
    };
    struct Record {
        Guest guest;
        std::size_t position = 0; // in the model
        TokenBucket messages{limits::dhcp_message_burst, 1000 / limits::dhcp_messages_per_s};
        LogBudget log;
        LeaseState state = LeaseState::none;
        std::optional<std::uint64_t> since_ms, last_seen_ms, expires_ms;
        std::string client_host_name;
        std::string client_id; // the last one it sent
        std::uint64_t received = 0, dropped = 0;
    };
    struct Served {
        Network network;                                  // without its guests
        std::unordered_map<std::uint64_t, Record> guests; // by Ethernet address
        LogBudget log;                                    // of unknown senders
    };
    struct Turn; // one message on its way through the rules

    Answer decide(Turn& turn);
    Answer discover(Turn& turn);
    Answer request(Turn& turn);
    Answer inform(Turn& turn);
    Answer bootp(Turn& turn);
    Answer release(Turn& turn);
    Answer decline(Turn& turn);
    Answer drop(Turn& turn, Drop reason, std::string detail = {});
    Answer reply(Turn& turn, EventKind kind, const ReplyForm& form, Ipv4 destination);
    Answer note(Turn& turn, EventKind kind, std::string detail = {});
    void remember_client(Turn& turn);
    void set_state(Turn& turn, LeaseState state);
    static void spend_log_line(LogBudget& budget, Event& event, std::uint64_t now_ms);

    std::map<std::string, Served, std::less<>> networks_;
    std::array<std::uint64_t, drop_kinds> drops_{};
    LogBudget nowhere_; // for frames of networks that are not configured
};

// RFC 1123 as far as DHCP clients need it: letters, digits, '-' and '.', labels of 1 to 63.
bool legal_host_name(std::string_view name);

} // namespace vmhost::dhcp

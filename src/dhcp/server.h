// What to answer: RFC 2131 and 951.
//
// Guests that the model knows by their Ethernet address have the one address that the model gives
// them; it is theirs or nobody's. Others, behind a port of the switch or behind a relay agent, get
// one of the ranges, if there are any. A client is who its frames' source address says (the frame
// guard keeps guests honest), and chaddr must agree; behind a relay agent it is chaddr. A client
// identifier never decides anything. Everything else is dropped with a counted reason.
//
// Belongs to one thread; no sockets, no clocks, no files, no log lines of its own. Times are
// milliseconds of any monotonic clock, the same in every call, and seconds of the system's for what
// is written down.
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
#include "dhcp/network.h"
#include "dhcp/pool.h"

namespace vmhost::dhcp {

struct Incoming {
    std::string_view network; // where it came in
    Mac ethernet_source;
    Ipv4 source, destination; // of the IP header
    std::uint16_t source_port = 68;
    Bytes payload;
    std::uint64_t now_ms = 0;
    std::int64_t time_s = 0; // of the system's clock
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
    // To be on the disk before the reply goes out. When that fails, the reply does not.
    std::optional<store::LeaseRow> row;
    // The reply waits until it is known that nobody has this address.
    std::optional<Ipv4> check;
};

// A guest as DHCP last saw it, or a client that has or had an address of a range.
struct Lease {
    std::string network, vm; // no vm: an address of a range
    Mac mac;
    Ipv4 address; // zero: the guest has none in the model
    LeaseState state = LeaseState::none;
    std::int64_t since_s = 0;                // of the state
    std::int64_t last_seen_s = 0;            // any message; 0 = none
    std::optional<std::uint64_t> expires_ms; // of a state that ends
    std::string client_host_name;            // as the client says, when it is legal
    std::string client_id;
    std::uint64_t messages = 0, dropped = 0;
};

class Message;
struct ReplyForm;

class Server {
public:
    // Replaces everything, or nothing when something is wrong. Guests that are
    // still there (same network, VM and Ethernet address) keep their state, clients their addresses
    // as long as these are in a range.
    Result<void> configure(std::vector<Network> networks);
    // What was written down in an earlier life; rows that fit nothing any more are left out.
    void restore(const std::vector<store::LeaseRow>& rows, std::uint64_t now_ms,
                 std::int64_t time_s);

    Answer handle(const Incoming& incoming);
    // For the listener: a frame that did not even carry a message.
    Event drop_frame(std::string_view network, const Mac& source, std::string_view why,
                     std::uint64_t now_ms);
    // A lease could not be written down: counts the reply that is not sent.
    void drop_unwritten() { ++drops_[static_cast<std::size_t>(Drop::not_stored)]; }
    // Somebody answers on an address that was to be offered. What is to be written down.
    std::optional<store::LeaseRow> found_in_use(std::string_view network, Ipv4 address,
                                                std::uint64_t now_ms, std::int64_t time_s);
    // An operator takes an address back. What is to be written down; nothing: nobody has it.
    std::optional<store::LeaseRow> forget(Ipv4 address);

    // In the order of the networks' names, of the guests in the model, then by address.
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
        LogBudget log;
        Holding held;
    };
    struct Subnet {
        Ipv4Prefix prefix;
        bool relayed = false; // relay agents in it are served
        bool own = false;     // the network's own
        Pool pool;
    };
    struct Served {
        Network network;                                  // without its guests
        std::unordered_map<std::uint64_t, Record> guests; // by Ethernet address
        std::vector<Subnet> subnets;                      // our own first
        TokenBucket declines{limits::dhcp_declines, limits::dhcp_decline_refill_ms}; // of clients
        LogBudget log;         // of everybody else
        LogBudget clients_log; // of those with an address of a range
    };
    struct Turn; // one message on its way through the rules

    static Result<Served> served_of(Network network);
    void keep_what_is_known(Served& fresh, Served& old);
    Answer from_guest(Turn& turn, Record& record);
    Answer from_client(Turn& turn);
    Answer from_stranger(Turn& turn);
    Answer decide(Turn& turn);
    Answer check_form(Turn& turn);
    Answer discover(Turn& turn);
    Answer request(Turn& turn);
    Answer bind(Turn& turn);
    Answer inform(Turn& turn);
    Answer bootp(Turn& turn);
    Answer release(Turn& turn);
    Answer decline(Turn& turn);
    Answer drop(Turn& turn, Drop reason, std::string detail = {});
    Answer refuse(Turn& turn, Ipv4 wanted, std::string detail);
    Answer reply(Turn& turn, EventKind kind, const ReplyForm& form, Ipv4 destination);
    Answer note(Turn& turn, EventKind kind, std::string detail = {});
    void remember_client(Turn& turn);
    void set_state(Turn& turn, LeaseState state, std::uint64_t until_ms);
    static store::LeaseRow row_of(const Turn& turn);
    static void spend_log_line(LogBudget& budget, Event& event, std::uint64_t now_ms);

    std::map<std::string, Served, std::less<>> networks_;
    std::array<std::uint64_t, drop_kinds> drops_{};
    LogBudget nowhere_; // for frames of networks that are not configured
};

// RFC 1123 as far as DHCP clients need it: letters, digits, '-' and '.', labels of 1 to 63.
bool legal_host_name(std::string_view name);

} // namespace vmhost::dhcp

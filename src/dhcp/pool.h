// The addresses of one subnet's ranges and the clients that have or had them: RFC 2131 §4.3.1.
//
// A client is its hardware address. Its identifier (option 61) decides nothing: copies of one disk
// image have equal ones, and one machine has others in its ROM, its installer and its system.
//
// A new client gets, in this order: the address it has or had, while nobody else got it; the one it
// asks for, when it is free; one that nobody had yet; the one that has been free for longest; one
// that was found in use by a stranger, and is the longest in quarantine.
//
// Memory grows with the addresses that were given out, never with what clients say. Belongs to the
// server's thread. Times are milliseconds of its clock.
#pragma once

#include <set>
#include <unordered_map>
#include <unordered_set>

#include "dhcp/network.h"
#include "dhcp/token_bucket.h"
#include "store/store.h"

namespace vmhost::dhcp {

using store::LeaseState;

inline constexpr std::uint64_t never_ms = UINT64_MAX;

// How somebody has an address.
struct Holding {
    LeaseState state = LeaseState::none;
    std::uint64_t until_ms = never_ms; // of a state that ends
    std::int64_t since_s = 0;          // of the state; of the system's clock, as the next
    std::int64_t seen_s = 0;           // last message; 0 = none
    std::string host_name;             // as the client says, when it is legal
    std::string client_id;             // the last one it sent
    TokenBucket messages{limits::dhcp_message_burst, 1000 / limits::dhcp_messages_per_s};
    std::uint64_t received = 0, dropped = 0;
};

struct Binding {
    Ipv4 address;
    Mac mac; // zero: abandoned, it is nobody's
    Holding held;
    std::uint64_t checked_ms = 0; // when it was last known to be in nobody else's use
};

class Pool {
public:
    // Addresses that are in a range but not to be given out: ours, the guests', routers'.
    void configure(std::vector<Range> ranges, std::unordered_set<std::uint32_t> reserved);

    bool empty() const { return ranges_.empty(); }
    // Whether it may be given out at all.
    bool serves(Ipv4 address) const;
    // What the client has or had, when nobody else got it; null when nothing.
    Binding* of(const Mac& mac);
    Binding* at(Ipv4 address);
    // For a client that has none; null when nothing is left. Belongs to it from here on, in the
    // state none, until another call of this class.
    Binding* choose(const Mac& mac, std::optional<Ipv4> wanted, std::uint64_t now_ms);
    // This very address, when it is free or the client's.
    Binding* take(const Mac& mac, Ipv4 address, std::uint64_t now_ms);
    void set(Binding& binding, LeaseState state, std::uint64_t until_ms);
    // Somebody else uses it: nobody gets it before that, unless there is nothing else. The binding
    // is another afterwards.
    Binding* abandon(Ipv4 address, std::uint64_t until_ms);
    // Frees it for anybody.
    void remove(Ipv4 address);
    // As another server, or this one in an earlier life, has given it.
    Binding* restore(const Mac& mac, Ipv4 address);

    template <class Visit>
    void each(Visit visit) const {
        for (const auto& [address, binding] : bindings_)
            visit(binding);
    }
    std::size_t size() const { return bindings_.size(); }

private:
    using Order = std::set<std::pair<std::uint64_t, std::uint32_t>>; // until_ms, address
    Order& order_of(const Binding& binding) { return binding.mac.is_zero() ? abandoned_ : ends_; }
    Binding* give(Binding& binding, const Mac& mac);
    Binding* fresh(const Mac& mac, Ipv4 address);
    std::optional<Ipv4> unused();
    static bool is_free(const Binding& binding, std::uint64_t now_ms);

    std::vector<Range> ranges_;
    std::unordered_set<std::uint32_t> reserved_;
    std::unordered_map<std::uint32_t, Binding> bindings_;      // by address
    std::unordered_map<std::uint64_t, std::uint32_t> clients_; // by hardware address
    Order ends_, abandoned_;
    std::unordered_set<std::uint32_t> returned_; // nobody's again
    std::size_t range_ = 0;                      // where to look for an address that nobody had
    std::uint64_t next_ = 0;                     // and from which offset in it
};

// A hardware address as a number.
std::uint64_t key_of(const Mac& mac);

} // namespace vmhost::dhcp

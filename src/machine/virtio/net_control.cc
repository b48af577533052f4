// The control queue (5.1.6.5): {u8 class, u8 command, …} readable, then one writable byte for the
// answer. What a driver asks for in the way of receive filters is accepted without effect; a
// command of a feature that was not negotiated is an error, and so is one that is cut short.
#include "machine/virtio/net_pair.h"

namespace vmhost::machine::virtio {

namespace {

enum Class : std::uint8_t {
    receive_mode = 0,
    address = 1,
    queues = 4,
    offloads = 5,
};
constexpr std::uint8_t promiscuous = 0, all_multicast = 1; // of receive_mode
constexpr std::uint8_t table_set = 0;                      // of address; 1 would set the address
constexpr std::uint8_t pairs_set = 0;                      // of queues
constexpr std::uint8_t offloads_set = 0;                   // of offloads
constexpr std::uint8_t answer_ok = 0, answer_error = 1;
constexpr std::uint64_t command_bytes = 2, address_bytes = 6;
constexpr std::uint64_t settable_offloads =
    net_guest_csum | net_guest_tso4 | net_guest_tso6 | net_guest_ecn;
// Commands are rare; a guest that sends nothing else must not keep the loop.
constexpr unsigned max_commands_per_turn = 16;

template <WireInteger T>
std::optional<T> parameter(const Chain& chain) {
    std::uint8_t raw[sizeof(T)];
    if (chain.readable_bytes() != command_bytes + sizeof(T) ||
        chain.read(command_bytes, raw) != sizeof(T))
        return std::nullopt;
    return load_le<T>(raw);
}

} // namespace

bool Net::serve_control() {
    control_->want_notifications(false);
    bool more = true;
    for (unsigned served = 0; more && served < max_commands_per_turn; ++served) {
        auto chain = control_->pop_or_wait();
        more = chain.has_value();
        if (chain)
            run_command(std::move(*chain));
    }
    control_->signal_used();
    return more;
}

void Net::run_command(Chain chain) {
    std::uint8_t head[command_bytes];
    if (chain.read(0, head) != sizeof(head) || chain.writable_bytes() == 0) {
        ++malformed_;
        return chain.complete(0);
    }
    std::uint8_t answer = obey(head[0], head[1], chain) ? answer_ok : answer_error;
    chain.write(0, Bytes(&answer, 1));
    chain.complete(1);
}

bool Net::obey(std::uint8_t group, std::uint8_t command, const Chain& chain) {
    switch (group) {
    case receive_mode:
        return (driver_features_ & net_control_receive) &&
               (command == promiscuous || command == all_multicast) &&
               parameter<std::uint8_t>(chain).value_or(2) <= 1;
    case address:
        return (driver_features_ & net_control_receive) && command == table_set &&
               accept_filters(chain);
    case queues: {
        auto count = parameter<std::uint16_t>(chain);
        return (driver_features_ & net_multi_queue) && command == pairs_set && count &&
               use_pairs(*count);
    }
    case offloads: {
        auto wanted = parameter<std::uint64_t>(chain);
        return (driver_features_ & net_guest_offloads) && command == offloads_set && wanted &&
               (*wanted & ~(driver_features_ & settable_offloads)) == 0 &&
               set_offloads(*wanted).has_value();
    }
    default:
        return false;
    }
}

// Two tables {u32 count, count × address}, unicast and multicast. Only their form matters.
bool Net::accept_filters(const Chain& chain) const {
    std::uint64_t at = command_bytes;
    for (unsigned table = 0; table < 2; ++table) {
        std::uint8_t raw[4];
        if (chain.read(at, raw) != sizeof(raw))
            return false;
        auto length = address_bytes * load_le<std::uint32_t>(raw);
        if (!range_fits(at + sizeof(raw), length, chain.readable_bytes()))
            return false;
        at += sizeof(raw) + length;
    }
    return at == chain.readable_bytes();
}

} // namespace vmhost::machine::virtio

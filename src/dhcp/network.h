// What the server is told: networks, the guests that the model knows on each, and what it may give
// to everybody else. Values only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"

namespace vmhost::dhcp {

// An option as it goes out; longer than 255 bytes is split (RFC 3396).
struct Option {
    std::uint8_t code = 0;
    std::vector<std::uint8_t> data;
    bool operator==(const Option&) const = default;
};

struct Guest {
    std::string vm;
    Mac mac;
    std::optional<Ipv4> ipv4;            // a guest without is not answered
    std::string host_name;               // option 12; not sent when it is no legal host name
    std::optional<std::string> filename; // instead of the network's and of classes'
    bool installed = false;              // no boot file is for it but its own
    std::optional<Ipv4> next_server;
    std::vector<Option> options;
};

// Clients that say what they are: everything that is given must hold.
struct Class {
    std::string name;
    std::string vendor;                       // option 60 begins with it
    std::string user;                         // option 77 is it, or has it among its parts
    std::vector<std::uint16_t> architectures; // option 93 has one of them
    std::optional<std::string> filename;
    std::optional<Ipv4> next_server;
    std::vector<Option> options;
};

// From first to last, both included.
struct Range {
    Ipv4 first, last;
    bool contains(Ipv4 address) const { return address >= first && address <= last; }
    bool operator==(const Range&) const = default;
};

struct Network {
    std::string name;
    Ipv4Prefix server; // our address on it, and the guests' subnet mask
    std::vector<Ipv4> routers;
    std::vector<Ipv4> domain_name_servers;
    std::string domain_name;
    std::uint32_t lease_time_s = 43200; // 0xffffffff = for ever
    std::uint32_t max_lease_time_s = 0; // of clients that ask for more; less than lease_time_s = it
    Ipv4 next_server;                   // zero = our address
    std::string filename;
    unsigned mtu = 1500; // sent to those that ask for it
    std::vector<Guest> guests;
    std::vector<Range> ranges;      // for clients that are no guests; on it, or behind a relay
    std::vector<Ipv4Prefix> relays; // subnets whose relay agents are served
    bool ping_check = true;         // before an address of a range is offered
    std::vector<Option> options;
    std::vector<Class> classes; // the first that fits counts, for each thing that it says
};

} // namespace vmhost::dhcp

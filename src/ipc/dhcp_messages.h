// The messages between the parent and the dhcp role; part of ipc/messages.h.
#pragma once

#include "ipc/codec.h"

namespace vmhost::ipc {

struct DhcpOption {
    std::uint8_t code = 0;
    std::string data;
    template <class A>
    void fields(A& a) {
        a(code, data);
    }
};

struct DhcpGuest {
    std::string vm;
    Mac mac;
    Ipv4 address;
    std::string host_name;
    bool installing = false; // is told the boot file
    bool installed = false;  // has been: is told its own alone
    std::optional<std::string> filename;
    std::optional<Ipv4> next_server;
    std::vector<DhcpOption> options;
    template <class A>
    void fields(A& a) {
        a(vm, mac, address, host_name, installing, installed, filename, next_server, options);
    }
};

struct DhcpClass {
    std::string name, vendor, user;
    std::vector<std::uint16_t> architectures;
    std::optional<std::string> filename;
    std::optional<Ipv4> next_server;
    std::vector<DhcpOption> options;
    template <class A>
    void fields(A& a) {
        a(name, vendor, user, architectures, filename, next_server, options);
    }
};

struct DhcpRange {
    Ipv4 first, last;
    template <class A>
    void fields(A& a) {
        a(first, last);
    }
};

// parent → dhcp, before the networks: the files of leases.db, locked. Without it leases live as
// long as the process.
struct DhcpStore {
    static constexpr std::uint16_t type = 160;
    Fd database, wal, journal;
    template <class A>
    void fields(A& a) {
        a(database, wal, journal);
    }
};

struct DhcpSockets {
    Fd packet, udp;
    std::optional<Fd> icmp; // none: addresses are offered unchecked
    Mac mac;                // of the bridge
    template <class A>
    void fields(A& a) {
        a(packet, udp, icmp, mac);
    }
};

// Once the role works, Begin after these takes the place of what it was told before.
struct DhcpNetwork {
    static constexpr std::uint16_t type = 64;
    std::string name;                   // of the switch
    Ipv4Prefix address;                 // ours on it
    std::optional<DhcpSockets> sockets; // none: it has those of the network of this name
    std::vector<Ipv4> routers;
    std::vector<Ipv4> domain_name_servers;
    std::string domain_name;
    std::uint32_t lease_seconds = 0, max_lease_seconds = 0;
    Ipv4 next_server;
    std::string filename;
    std::uint32_t mtu = 1500;
    std::vector<DhcpGuest> guests;
    std::vector<DhcpRange> ranges;
    std::vector<Ipv4Prefix> relays;
    bool ping_check = true;
    std::vector<DhcpOption> options;
    std::vector<DhcpClass> classes;
    template <class A>
    void fields(A& a) {
        a(name, address, sockets, routers, domain_name_servers, domain_name, lease_seconds,
          max_lease_seconds, next_server, filename, mtu, guests, ranges, relays, ping_check,
          options, classes);
    }
};

// dhcp → parent: an address was acknowledged.
struct DhcpLease {
    static constexpr std::uint16_t type = 65;
    std::string vm;
    Ipv4 address;
    template <class A>
    void fields(A& a) {
        a(vm, address);
    }
};

// parent → dhcp: who has which address? DhcpLeases answers with the same number, in as many parts
// as it takes.
struct DhcpLeasesWanted {
    static constexpr std::uint16_t type = 161;
    std::uint32_t question = 0;
    template <class A>
    void fields(A& a) {
        a(question);
    }
};

// As dhcp::Lease; times are seconds since 1970, 0 = none.
struct DhcpLeaseRow {
    std::string network, vm;
    Mac mac;
    Ipv4 address;
    std::uint8_t state = 0; // store::LeaseState
    std::int64_t since_s = 0, seen_s = 0;
    std::optional<std::int64_t> until_s;
    std::string host_name, client_id;
    std::uint64_t messages = 0, dropped = 0;
    template <class A>
    void fields(A& a) {
        a(network, vm, mac, address, state, since_s, seen_s, until_s, host_name, client_id,
          messages, dropped);
    }
};
struct DhcpLeases {
    static constexpr std::uint16_t type = 162;
    std::uint32_t question = 0;
    std::vector<DhcpLeaseRow> rows;
    bool last = true;
    template <class A>
    void fields(A& a) {
        a(question, rows, last);
    }
};

// parent → dhcp: an operator takes an address back; DhcpForgotten answers with the same
// number.
struct DhcpForget {
    static constexpr std::uint16_t type = 163;
    std::uint32_t question = 0;
    Ipv4 address;
    template <class A>
    void fields(A& a) {
        a(question, address);
    }
};
struct DhcpForgotten {
    static constexpr std::uint16_t type = 164;
    std::uint32_t question = 0;
    bool found = false;
    template <class A>
    void fields(A& a) {
        a(question, found);
    }
};

} // namespace vmhost::ipc

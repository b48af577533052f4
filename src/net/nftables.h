// nf_tables (nft(8)) as far as net/ needs it: tables, chains, rules and named counters, written as
// netlink messages. Libraries for it cannot be linked statically, and the attributes are few and
// simple, so they are put together here, byte by byte.
//
// A Batch is one transaction: the kernel takes all of it or nothing, and no frame ever meets half
// of it. Each message has a name, so that a refusal says which one was refused.
//
// Values and one socket; the privileged parent's thread. Formats: linux/netfilter/nf_tables.h and
// nfnetlink.h of Linux.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::net::nft {

enum class Family : std::uint8_t { ipv4 = 2, netdev = 5 }; // NFPROTO_*
struct Table {
    Family family;
    std::string name;
};

// Attributes of netlink: a length, a type, a value, and padding up to a multiple of four.
class Attributes {
public:
    Attributes& bytes(unsigned type, Bytes value);
    Attributes& text(unsigned type, std::string_view value); // and the zero at its end
    Attributes& u32(unsigned type, std::uint32_t value);     // in network byte order, as all here
    Attributes& u64(unsigned type, std::uint64_t value);
    Attributes& nest(unsigned type, const Attributes& inside);
    Bytes data() const { return data_; }

private:
    std::vector<std::uint8_t> data_;
};

// What a rule looks at. Offsets are from the start of that header.
enum class Header : std::uint8_t { link = 0, network = 1, transport = 2 }; // NFT_PAYLOAD_*_HEADER

// One rule: expressions from left to right. A comparison that does not hold, or a header that the
// frame has not, ends it, and the next rule has its turn: so a rule that lets pass must say what it
// has seen, and one that drops must not rely on having seen it.
class Rule {
public:
    Rule& load(Header header, unsigned offset, unsigned length); // at most 16 bytes
    Rule& load_protocol();    // EtherType behind one VLAN tag; 2 bytes
    Rule& load_l4_protocol(); // behind the extension headers of IPv6; 1 byte; there is one
    Rule& load_fragment();    // offset and flags of IPv6's fragment header; 2 bytes
    Rule& load_connection();  // state bits of conntrack; 4 bytes
    Rule& mask(Bytes bits);   // of what was loaded
    Rule& equals(Bytes value);
    Rule& differs(Bytes value);
    Rule& below(Bytes value);
    Rule& at_least(Bytes value);
    // Holds for what comes faster than that.
    Rule& over(std::uint64_t per_s, std::uint32_t burst);
    Rule& count(std::string_view counter); // named, of the same table
    Rule& drop();
    Rule& accept();
    Rule& go(std::string_view chain); // and do not come back
    Rule& call(std::string_view chain);
    Rule& back(); // to the chain that called
    Rule& masquerade();
    const Attributes& expressions() const { return expressions_; }

private:
    Rule& add(std::string_view name, const Attributes& data);
    Rule& compare(unsigned operation, Bytes value);
    Rule& verdict(std::uint32_t code, std::string_view chain = {});
    Attributes expressions_;
};

class Batch {
public:
    explicit Batch(Table table) : table_(std::move(table)) {}
    // What is there already stays as it is.
    void add_table();
    void add_counter(const std::string& name);
    void add_chain(const std::string& name);
    // Of the netdev family: sees every frame that comes in on the device, before anything else.
    void add_ingress_chain(const std::string& name, const std::string& device);
    // hook: NF_INET_*; type: "filter", "nat".
    void add_base_chain(const std::string& name, std::string_view type, unsigned hook,
                        std::int32_t priority);
    // At the end of its chain.
    void add_rule(const std::string& chain, const Rule& rule);
    // What is not there fails all.
    void remove_table();
    void remove_rules(const std::string& chain);
    void remove_chain(const std::string& name);
    void remove_counter(const std::string& name);

private:
    friend class Socket;
    struct Message {
        std::uint16_t type;
        std::uint16_t flags;
        std::string what; // "rule 3 of chain a"
        Attributes attributes;
    };
    void add(std::uint16_t type, std::uint16_t flags, std::string what, Attributes attributes);
    Table table_;
    std::vector<Message> messages_;
    std::string last_chain_;
    unsigned rules_ = 0; // so far in it
};

struct Counter {
    std::string name;
    std::uint64_t packets = 0, bytes = 0;
};

class Socket {
public:
    // unsupported: a kernel without nf_tables.
    static Result<Socket> open();
    // Readable when anybody has changed anything.
    static Result<Fd> open_events();
    Result<void> commit(const Batch& batch);
    // Empty when there is no such table.
    Result<std::vector<std::string>> chains(const Table& table);
    Result<std::vector<Counter>> counters(const Table& table);

private:
    explicit Socket(Fd fd) : fd_(std::move(fd)) {}
    Result<void> send(Bytes data, std::string_view step);
    template <class Take>
    Result<void> dump(unsigned type, const Table& table, Take take);
    Fd fd_;
    std::uint32_t sequence_ = 0;
};

} // namespace vmhost::net::nft

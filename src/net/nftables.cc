// Messages of nf_tables and what the kernel answers.
//
// A batch goes out as one datagram and is done when the call returns: the answers wait in the
// socket already, one for each message (NLM_F_ACK). So nothing here ever waits.
#include "net/nftables.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <netinet/in.h> // before the kernel's words for the same, which then leave them out

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include "net/tap.h"

namespace vmhost::net::nft {

namespace {

constexpr std::uint32_t accept_code = NF_ACCEPT, drop_code = NF_DROP;
constexpr int attempts = 10; // at a list that changes while it is read

constexpr std::size_t padded(std::size_t bytes) {
    return (bytes + NLA_ALIGNTO - 1) & ~std::size_t{NLA_ALIGNTO - 1};
}

void append(std::vector<std::uint8_t>& out, const void* data, std::size_t bytes) {
    const auto* first = static_cast<const std::uint8_t*>(data);
    out.insert(out.end(), first, first + bytes);
    out.resize(padded(out.size()));
}

// A message with the header of nfnetlink; its length is the sum of its parts.
void append_message(std::vector<std::uint8_t>& out, std::uint16_t type, std::uint16_t flags,
                    std::uint32_t sequence, std::uint8_t family, std::uint16_t resource,
                    Bytes attributes) {
    nlmsghdr header{};
    header.nlmsg_len = static_cast<std::uint32_t>(sizeof(header) + sizeof(nfgenmsg)) +
                       static_cast<std::uint32_t>(attributes.size());
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    header.nlmsg_seq = sequence;
    nfgenmsg message{};
    message.nfgen_family = family;
    message.version = NFNETLINK_V0;
    message.res_id = from_big(resource);
    append(out, &header, sizeof(header));
    append(out, &message, sizeof(message));
    append(out, attributes.data(), attributes.size());
}

constexpr std::uint16_t nft_type(unsigned message) {
    return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
}

// Calls take(type, value) for each attribute.
template <class Take>
void each_attribute(Bytes data, Take take) {
    while (data.size() >= sizeof(nlattr)) {
        nlattr attribute;
        std::memcpy(&attribute, data.data(), sizeof(attribute));
        if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > data.size())
            return;
        take(attribute.nla_type & NLA_TYPE_MASK,
             data.subspan(sizeof(attribute), attribute.nla_len - sizeof(attribute)));
        data = data.subspan(std::min(padded(attribute.nla_len), data.size()));
    }
}

std::string text_of(Bytes value) {
    const auto* first = reinterpret_cast<const char*>(value.data());
    return {first, ::strnlen(first, value.size())};
}

Counter counter_of(Bytes attributes) {
    Counter counter;
    each_attribute(attributes, [&](unsigned type, Bytes value) {
        if (type == NFTA_OBJ_NAME)
            counter.name = text_of(value);
        if (type == NFTA_OBJ_DATA)
            each_attribute(value, [&](unsigned inner, Bytes number) {
                if (inner == NFTA_COUNTER_PACKETS)
                    counter.packets = load_be<std::uint64_t>(number);
                if (inner == NFTA_COUNTER_BYTES)
                    counter.bytes = load_be<std::uint64_t>(number);
            });
    });
    return counter;
}

std::unexpected<Error> refused(int error_number, std::string_view step) {
    auto error = Error::system(error_number, fmt::format("nf_tables: {}", step));
    std::string more;
    if (error_number == EPERM || error_number == EACCES)
        more = needs_rights;
    // An expression that it does not know is "not found".
    if (error_number == EOPNOTSUPP || error_number == EPROTONOSUPPORT ||
        (error_number == ENOENT && step.starts_with("add rule")))
        return std::unexpected(
            Error(ErrorKind::unsupported,
                  error.text() + "; this kernel has no nf_tables, or not all of it: load its "
                                 "modules, or set guard = false and storm = false"));
    return std::unexpected(Error(error.kind(), error.text() + more));
}

// The messages of one datagram.
struct Answer {
    std::uint32_t sequence;
    std::uint16_t type;
    bool interrupted;
    Bytes body;
};
template <class Take>
void each_message(Bytes data, Take take) {
    while (data.size() >= sizeof(nlmsghdr)) {
        nlmsghdr header;
        std::memcpy(&header, data.data(), sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > data.size())
            return;
        take(Answer{header.nlmsg_seq, header.nlmsg_type,
                    (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0,
                    data.subspan(sizeof(header), header.nlmsg_len - sizeof(header))});
        data = data.subspan(std::min(padded(header.nlmsg_len), data.size()));
    }
}

int error_of(Bytes body) {
    std::int32_t error = -EBADMSG;
    if (body.size() >= sizeof(error))
        std::memcpy(&error, body.data(), sizeof(error));
    return -error;
}

} // namespace

Attributes& Attributes::bytes(unsigned type, Bytes value) {
    nlattr header{};
    header.nla_len = static_cast<std::uint16_t>(sizeof(header) + value.size());
    header.nla_type = static_cast<std::uint16_t>(type);
    append(data_, &header, sizeof(header));
    append(data_, value.data(), value.size());
    return *this;
}
Attributes& Attributes::text(unsigned type, std::string_view value) {
    std::string ended(value);
    return bytes(type, {reinterpret_cast<const std::uint8_t*>(ended.c_str()), ended.size() + 1});
}
Attributes& Attributes::u32(unsigned type, std::uint32_t value) {
    std::uint8_t wire[4];
    store_be(MutableBytes(wire), value);
    return bytes(type, wire);
}
Attributes& Attributes::u64(unsigned type, std::uint64_t value) {
    std::uint8_t wire[8];
    store_be(MutableBytes(wire), value);
    return bytes(type, wire);
}
Attributes& Attributes::nest(unsigned type, const Attributes& inside) {
    return bytes(type | NLA_F_NESTED, inside.data_);
}

Rule& Rule::add(std::string_view name, const Attributes& data) {
    expressions_.nest(NFTA_LIST_ELEM,
                      Attributes().text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, data));
    return *this;
}
Rule& Rule::load(Header header, unsigned offset, unsigned length) {
    return add("payload", Attributes()
                              .u32(NFTA_PAYLOAD_DREG, NFT_REG_1)
                              .u32(NFTA_PAYLOAD_BASE, static_cast<std::uint32_t>(header))
                              .u32(NFTA_PAYLOAD_OFFSET, offset)
                              .u32(NFTA_PAYLOAD_LEN, length));
}
Rule& Rule::load_protocol() {
    return add("meta",
               Attributes().u32(NFTA_META_DREG, NFT_REG_1).u32(NFTA_META_KEY, NFT_META_PROTOCOL));
}
Rule& Rule::load_l4_protocol() {
    return add("meta",
               Attributes().u32(NFTA_META_DREG, NFT_REG_1).u32(NFTA_META_KEY, NFT_META_L4PROTO));
}
Rule& Rule::load_fragment() {
    const std::uint8_t fragment_header[] = {44};
    return add("exthdr", Attributes()
                             .u32(NFTA_EXTHDR_DREG, NFT_REG_1)
                             .bytes(NFTA_EXTHDR_TYPE, fragment_header)
                             .u32(NFTA_EXTHDR_OFFSET, 2)
                             .u32(NFTA_EXTHDR_LEN, 2)
                             .u32(NFTA_EXTHDR_OP, NFT_EXTHDR_OP_IPV6));
}
Rule& Rule::load_connection() {
    return add("ct", Attributes().u32(NFTA_CT_DREG, NFT_REG_1).u32(NFTA_CT_KEY, NFT_CT_STATE));
}
Rule& Rule::mask(Bytes bits) {
    const std::vector<std::uint8_t> zero(bits.size());
    return add("bitwise", Attributes()
                              .u32(NFTA_BITWISE_SREG, NFT_REG_1)
                              .u32(NFTA_BITWISE_DREG, NFT_REG_1)
                              .u32(NFTA_BITWISE_LEN, static_cast<std::uint32_t>(bits.size()))
                              .nest(NFTA_BITWISE_MASK, Attributes().bytes(NFTA_DATA_VALUE, bits))
                              .nest(NFTA_BITWISE_XOR, Attributes().bytes(NFTA_DATA_VALUE, zero)));
}
Rule& Rule::compare(unsigned operation, Bytes value) {
    return add("cmp", Attributes()
                          .u32(NFTA_CMP_SREG, NFT_REG_1)
                          .u32(NFTA_CMP_OP, operation)
                          .nest(NFTA_CMP_DATA, Attributes().bytes(NFTA_DATA_VALUE, value)));
}
Rule& Rule::equals(Bytes value) {
    return compare(NFT_CMP_EQ, value);
}
Rule& Rule::differs(Bytes value) {
    return compare(NFT_CMP_NEQ, value);
}
Rule& Rule::below(Bytes value) {
    return compare(NFT_CMP_LT, value);
}
Rule& Rule::at_least(Bytes value) {
    return compare(NFT_CMP_GTE, value);
}
Rule& Rule::over(std::uint64_t per_s, std::uint32_t burst) {
    return add("limit", Attributes()
                            .u64(NFTA_LIMIT_RATE, per_s)
                            .u64(NFTA_LIMIT_UNIT, 1) // second
                            .u32(NFTA_LIMIT_BURST, burst)
                            .u32(NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS)
                            .u32(NFTA_LIMIT_FLAGS, NFT_LIMIT_F_INV));
}
Rule& Rule::count(std::string_view counter) {
    return add("objref", Attributes()
                             .u32(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER)
                             .text(NFTA_OBJREF_IMM_NAME, counter));
}
Rule& Rule::verdict(std::uint32_t code, std::string_view chain) {
    Attributes verdict;
    verdict.u32(NFTA_VERDICT_CODE, code);
    if (!chain.empty())
        verdict.text(NFTA_VERDICT_CHAIN, chain);
    return add("immediate",
               Attributes()
                   .u32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
                   .nest(NFTA_IMMEDIATE_DATA, Attributes().nest(NFTA_DATA_VERDICT, verdict)));
}
Rule& Rule::drop() {
    return verdict(drop_code);
}
Rule& Rule::accept() {
    return verdict(accept_code);
}
Rule& Rule::go(std::string_view chain) {
    return verdict(static_cast<std::uint32_t>(NFT_GOTO), chain);
}
Rule& Rule::call(std::string_view chain) {
    return verdict(static_cast<std::uint32_t>(NFT_JUMP), chain);
}
Rule& Rule::back() {
    return verdict(static_cast<std::uint32_t>(NFT_RETURN));
}
Rule& Rule::masquerade() {
    return add("masq", {});
}

void Batch::add(std::uint16_t type, std::uint16_t flags, std::string what, Attributes attributes) {
    messages_.push_back({type, flags, std::move(what), std::move(attributes)});
}
void Batch::add_table() {
    add(NFT_MSG_NEWTABLE, NLM_F_CREATE, "add table " + table_.name,
        Attributes().text(NFTA_TABLE_NAME, table_.name));
}
void Batch::remove_table() {
    add(NFT_MSG_DELTABLE, 0, "remove table " + table_.name,
        Attributes().text(NFTA_TABLE_NAME, table_.name));
}
void Batch::add_counter(const std::string& name) {
    add(NFT_MSG_NEWOBJ, NLM_F_CREATE, "add counter " + name,
        Attributes()
            .text(NFTA_OBJ_TABLE, table_.name)
            .text(NFTA_OBJ_NAME, name)
            .u32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER)
            .nest(NFTA_OBJ_DATA, {}));
}
void Batch::remove_counter(const std::string& name) {
    add(NFT_MSG_DELOBJ, 0, "remove counter " + name,
        Attributes()
            .text(NFTA_OBJ_TABLE, table_.name)
            .text(NFTA_OBJ_NAME, name)
            .u32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER));
}
void Batch::add_chain(const std::string& name) {
    add(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "add chain " + name,
        Attributes().text(NFTA_CHAIN_TABLE, table_.name).text(NFTA_CHAIN_NAME, name));
}
void Batch::add_ingress_chain(const std::string& name, const std::string& device) {
    add(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "add chain " + name,
        Attributes()
            .text(NFTA_CHAIN_TABLE, table_.name)
            .text(NFTA_CHAIN_NAME, name)
            .text(NFTA_CHAIN_TYPE, "filter")
            .u32(NFTA_CHAIN_POLICY, accept_code)
            .nest(NFTA_CHAIN_HOOK, Attributes()
                                       .u32(NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS)
                                       .u32(NFTA_HOOK_PRIORITY, 0)
                                       .text(NFTA_HOOK_DEV, device)));
}
void Batch::add_base_chain(const std::string& name, std::string_view type, unsigned hook,
                           std::int32_t priority) {
    add(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "add chain " + name,
        Attributes()
            .text(NFTA_CHAIN_TABLE, table_.name)
            .text(NFTA_CHAIN_NAME, name)
            .text(NFTA_CHAIN_TYPE, type)
            .u32(NFTA_CHAIN_POLICY, accept_code)
            .nest(NFTA_CHAIN_HOOK,
                  Attributes()
                      .u32(NFTA_HOOK_HOOKNUM, hook)
                      .u32(NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(priority))));
}
void Batch::add_rule(const std::string& chain, const Rule& rule) {
    rules_ = chain == last_chain_ ? rules_ + 1 : 1;
    last_chain_ = chain;
    add(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND,
        fmt::format("add rule {} of chain {}", rules_, chain),
        Attributes()
            .text(NFTA_RULE_TABLE, table_.name)
            .text(NFTA_RULE_CHAIN, chain)
            .nest(NFTA_RULE_EXPRESSIONS, rule.expressions()));
}
void Batch::remove_rules(const std::string& chain) {
    add(NFT_MSG_DELRULE, 0, "remove the rules of chain " + chain,
        Attributes().text(NFTA_RULE_TABLE, table_.name).text(NFTA_RULE_CHAIN, chain));
}
void Batch::remove_chain(const std::string& name) {
    add(NFT_MSG_DELCHAIN, 0, "remove chain " + name,
        Attributes().text(NFTA_CHAIN_TABLE, table_.name).text(NFTA_CHAIN_NAME, name));
}

Result<Socket> Socket::open() {
    Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
    if (!fd)
        return refused(errno, "open a netlink socket");
    int on = 1;
    // Answers without a copy of what they answer.
    if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)) < 0)
        return refused(errno, "set a socket option");
    return Socket(std::move(fd));
}

Result<Fd> Socket::open_events() {
    Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER));
    sockaddr_nl changes{};
    changes.nl_family = AF_NETLINK;
    changes.nl_groups = 1U << (NFNLGRP_NFTABLES - 1);
    if (!fd || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&changes), sizeof(changes)) < 0)
        return refused(errno, "listen to changes");
    return fd;
}

Result<void> Socket::send(Bytes data, std::string_view step) {
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    auto sent = ::sendto(fd_.get(), data.data(), data.size(), 0,
                         reinterpret_cast<const sockaddr*>(&kernel), sizeof(kernel));
    if (sent < 0)
        return refused(errno, step);
    return {};
}

Result<void> Socket::commit(const Batch& batch) {
    std::vector<std::uint8_t> out;
    const auto begin = ++sequence_;
    auto family = static_cast<std::uint8_t>(batch.table_.family);
    append_message(out, NFNL_MSG_BATCH_BEGIN, 0, begin, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, {});
    for (const auto& message : batch.messages_)
        append_message(out, nft_type(message.type),
                       static_cast<std::uint16_t>(message.flags | NLM_F_ACK), ++sequence_, family,
                       0, message.attributes.data());
    const auto end = ++sequence_;
    append_message(out, NFNL_MSG_BATCH_END, 0, end, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, {});
    TRY(send(out, "send a change"));

    std::array<std::uint8_t, 64 * KiB> buffer;
    std::size_t answered = 0;
    std::optional<std::pair<int, std::string>> failed; // the first that was refused
    while (answered < batch.messages_.size()) {
        auto got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            break; // of a batch that was refused as a whole there is but one answer
        each_message(Bytes(buffer.data(), static_cast<std::size_t>(got)), [&](Answer answer) {
            if (answer.type != NLMSG_ERROR || answer.sequence < begin || answer.sequence > end)
                return; // of an earlier batch
            auto index = answer.sequence - begin - 1;
            const bool whole = answer.sequence == begin || answer.sequence == end;
            answered += whole ? 0 : 1;
            if (int error = error_of(answer.body); error != 0 && !failed)
                failed = {error, whole ? "change the rules" : batch.messages_[index].what};
        });
    }
    if (failed)
        return refused(failed->first, failed->second);
    if (answered < batch.messages_.size())
        return fail(ErrorKind::io, "nf_tables: the kernel did not answer");
    return {};
}

template <class Take>
Result<void> Socket::dump(unsigned type, const Table& table, Take take) {
    Attributes of_table;
    of_table.text(type == NFT_MSG_GETOBJ ? static_cast<unsigned>(NFTA_OBJ_TABLE)
                                         : static_cast<unsigned>(NFTA_CHAIN_TABLE),
                  table.name);
    std::vector<std::uint8_t> out;
    const auto sequence = ++sequence_;
    append_message(out, nft_type(type), NLM_F_DUMP, sequence,
                   static_cast<std::uint8_t>(table.family), 0, of_table.data());
    TRY(send(out, "list"));
    std::array<std::uint8_t, 64 * KiB> buffer;
    bool done = false, interrupted = false;
    int error = 0;
    while (!done) {
        auto got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return refused(errno, "list");
        each_message(Bytes(buffer.data(), static_cast<std::size_t>(got)), [&](Answer answer) {
            if (answer.sequence != sequence)
                return;
            interrupted = interrupted || answer.interrupted;
            if (answer.type == NLMSG_ERROR || answer.type == NLMSG_DONE) {
                done = true;
                error = error_of(answer.body);
            } else if (answer.body.size() >= sizeof(nfgenmsg)) {
                take(answer.body.subspan(sizeof(nfgenmsg)));
            }
        });
    }
    if (error == ENOENT)
        return {}; // no such table
    if (error != 0)
        return refused(error, "list");
    if (interrupted)
        return fail(ErrorKind::busy, "nf_tables: the rules change all the time");
    return {};
}

Result<std::vector<std::string>> Socket::chains(const Table& table) {
    std::vector<std::string> names;
    Result<void> listed;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        names.clear();
        // Kernels of Debian 12 list the chains of all tables, whatever they were asked for.
        listed = dump(NFT_MSG_GETCHAIN, table, [&](Bytes attributes) {
            std::string name, of;
            each_attribute(attributes, [&](unsigned type, Bytes value) {
                if (type == NFTA_CHAIN_NAME)
                    name = text_of(value);
                if (type == NFTA_CHAIN_TABLE)
                    of = text_of(value);
            });
            if (of == table.name)
                names.push_back(std::move(name));
        });
        if (listed || listed.error().kind() != ErrorKind::busy)
            break;
    }
    TRY(std::move(listed));
    return names;
}

Result<std::vector<Counter>> Socket::counters(const Table& table) {
    std::vector<Counter> counters;
    Result<void> listed;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        counters.clear();
        listed = dump(NFT_MSG_GETOBJ, table,
                      [&](Bytes attributes) { counters.push_back(counter_of(attributes)); });
        if (listed || listed.error().kind() != ErrorKind::busy)
            break;
    }
    TRY(std::move(listed));
    return counters;
}

} // namespace vmhost::net::nft

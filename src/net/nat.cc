#include "net/nat.h"

#include <fcntl.h>
#include <unistd.h>

#include "net/nftables.h"

namespace vmhost::net {

namespace {

using nft::Header;
using nft::Rule;

constexpr unsigned forward_hook = 2, postrouting_hook = 4;      // NF_INET_*
constexpr std::int32_t filter_priority = 0, nat_priority = 100; // NF_IP_PRI_*
constexpr unsigned source = 12, destination = 16;               // in IPv4
// Bits of a connection's state as conntrack has them, in the byte order of this machine.
constexpr std::uint32_t established = 1 << 1, related = 1 << 2;

struct Wire {
    std::uint8_t bytes[4];
    explicit Wire(std::uint32_t value) { store_be(MutableBytes(bytes), value); }
};

Rule address(Rule rule, unsigned offset, const Ipv4Prefix& prefix, bool inside) {
    const Wire mask(prefix.mask()), network(prefix.network().value);
    rule.load(Header::network, offset, 4).mask(mask.bytes);
    return inside ? rule.equals(network.bytes) : rule.differs(network.bytes);
}

} // namespace

void write_nat(nft::Batch& batch, const Ipv4Prefix& locals) {
    erase_nat(batch);
    batch.add_table();
    batch.add_base_chain("local-nat", "nat", postrouting_hook, nat_priority);
    batch.add_rule(
        "local-nat",
        address(address({}, source, locals, true), destination, locals, false).masquerade());
    batch.add_base_chain("local-forward", "filter", forward_hook, filter_priority);
    const std::uint32_t answers = established | related, none = 0;
    auto bits = [](const std::uint32_t& value) {
        return Bytes(reinterpret_cast<const std::uint8_t*>(&value), sizeof(value));
    };
    auto inwards = address(address({}, destination, locals, true), source, locals, false);
    batch.add_rule(
        "local-forward",
        Rule(inwards).load_connection().mask(bits(answers)).differs(bits(none)).accept());
    batch.add_rule("local-forward", Rule(inwards).drop());
}

// What is there now is there to be removed.
void erase_nat(nft::Batch& batch) {
    batch.add_table();
    batch.remove_table();
}

Result<void> check_forwarding() {
    constexpr const char* path = "/proc/sys/net/ipv4/ip_forward";
    Fd file(::open(path, O_RDONLY | O_CLOEXEC));
    char value = 0;
    if (!file || ::read(file.get(), &value, 1) != 1)
        return fail_errno(errno, "{}", path);
    if (value == '0')
        return fail(ErrorKind::invalid,
                    "host.local.nat: this host forwards no packets: set net.ipv4.ip_forward = 1 "
                    "(sysctl -w, and a file in /etc/sysctl.d for the next boot)");
    return {};
}

} // namespace vmhost::net

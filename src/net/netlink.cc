// KernelLinks: rtnetlink(7) through libnl. Messages are put together here
// attribute by attribute: libnl's object layer has no bridge options, and its
// error numbers lose the kernel's. The kernel's own words for a refusal (extended
// acknowledgement) go into the error text.
//
// No other file of the tree includes netlink headers.
#include <cerrno>
#include <cstring>
#include <functional>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include "net/links.h"
#include "net/tap.h"

namespace vmhost::net {

namespace {

struct FreeSocket {
    void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};
struct FreeMessage {
    void operator()(nl_msg* message) const { nlmsg_free(message); }
};
struct FreeCallbacks {
    void operator()(nl_cb* callbacks) const { nl_cb_put(callbacks); }
};
using Message = std::unique_ptr<nl_msg, FreeMessage>;
using Receive = std::function<void(nlmsghdr*)>;

// Attribute calls fail only when the message's page is full, which none of ours can do.
class Request {
public:
    template <class Header>
    Request(int type, int flags, const Header& header) : message_(nlmsg_alloc_simple(type, flags)) {
        if (message_)
            good_ = nlmsg_append(message_.get(), const_cast<Header*>(&header), sizeof(header),
                                 NLMSG_ALIGNTO) == 0;
    }
    Request& text(int type, const std::string& value) {
        return check(message_ && nla_put_string(message_.get(), type, value.c_str()) == 0);
    }
    Request& bytes(int type, Bytes value) {
        return check(message_ && nla_put(message_.get(), type, static_cast<int>(value.size()),
                                         value.data()) == 0);
    }
    Request& u32(int type, std::uint32_t value) {
        return check(message_ && nla_put_u32(message_.get(), type, value) == 0);
    }
    Request& u8(int type, std::uint8_t value) {
        return check(message_ && nla_put_u8(message_.get(), type, value) == 0);
    }
    Request& address(int type, Ipv4 value) {
        std::uint8_t wire[4];
        store_be(MutableBytes(wire), value.value);
        return bytes(type, wire);
    }
    nlattr* open(int type) {
        auto* nest = message_ ? nla_nest_start(message_.get(), type) : nullptr;
        check(nest != nullptr);
        return nest;
    }
    void close(nlattr* nest) {
        if (nest)
            nla_nest_end(message_.get(), nest);
    }
    nl_msg* get() const { return good_ ? message_.get() : nullptr; }

private:
    Request& check(bool good) {
        good_ = good_ && good;
        return *this;
    }
    Message message_;
    bool good_ = false;
};

// What came back for one request.
struct Answer {
    bool done = false;
    int error_number = 0;
    std::string words; // the kernel's
    const Receive* receive = nullptr;
};

int on_message(nl_msg* message, void* context) {
    auto* answer = static_cast<Answer*>(context);
    if (answer->receive && *answer->receive)
        (*answer->receive)(nlmsg_hdr(message));
    return NL_OK;
}
int on_end(nl_msg*, void* context) {
    static_cast<Answer*>(context)->done = true;
    return NL_STOP;
}
int on_error(sockaddr_nl*, nlmsgerr* error, void* context) {
    auto* answer = static_cast<Answer*>(context);
    answer->done = true;
    answer->error_number = -error->error;
    // NETLINK_CAP_ACK is set: the attributes follow the header of our request directly.
    auto* header = reinterpret_cast<nlmsghdr*>(reinterpret_cast<char*>(error) - NLMSG_HDRLEN);
    if (header->nlmsg_flags & NLM_F_ACK_TLVS) {
        nlattr* attributes[NLMSGERR_ATTR_MAX + 1] = {};
        if (nlmsg_parse(header, sizeof(nlmsgerr), attributes, NLMSGERR_ATTR_MAX, nullptr) == 0 &&
            attributes[NLMSGERR_ATTR_MSG])
            answer->words = printable(nla_get_string(attributes[NLMSGERR_ATTR_MSG]));
    }
    return NL_STOP;
}

std::string text_of(nlattr* attribute) {
    if (!attribute)
        return {};
    auto* data = static_cast<const char*>(nla_data(attribute));
    return {data, ::strnlen(data, static_cast<std::size_t>(nla_len(attribute)))};
}

Bytes bytes_of(nlattr* attribute) {
    return {static_cast<const std::uint8_t*>(nla_data(attribute)),
            static_cast<std::size_t>(nla_len(attribute))};
}

std::optional<Link> parse_link(nlmsghdr* header) {
    nlattr* attributes[IFLA_MAX + 1] = {};
    if (header->nlmsg_type != RTM_NEWLINK ||
        nlmsg_parse(header, sizeof(ifinfomsg), attributes, IFLA_MAX, nullptr) != 0)
        return std::nullopt;
    auto* info = static_cast<ifinfomsg*>(nlmsg_data(header));
    Link link;
    link.index = static_cast<unsigned>(info->ifi_index);
    link.up = info->ifi_flags & IFF_UP;
    link.name = text_of(attributes[IFLA_IFNAME]);
    link.alias = text_of(attributes[IFLA_IFALIAS]);
    if (attributes[IFLA_ADDRESS])
        link.mac = Mac::from(bytes_of(attributes[IFLA_ADDRESS]));
    if (attributes[IFLA_MTU])
        link.mtu = nla_get_u32(attributes[IFLA_MTU]);
    if (attributes[IFLA_MASTER])
        link.master = nla_get_u32(attributes[IFLA_MASTER]);
    if (attributes[IFLA_LINKINFO]) {
        nlattr* nested[IFLA_INFO_MAX + 1] = {};
        if (nla_parse_nested(nested, IFLA_INFO_MAX, attributes[IFLA_LINKINFO], nullptr) == 0)
            link.kind = text_of(nested[IFLA_INFO_KIND]);
    }
    return link;
}

bool is_locked(nlmsghdr* header) {
    nlattr* attributes[IFLA_MAX + 1] = {};
    nlattr* info[IFLA_INFO_MAX + 1] = {};
    nlattr* port[IFLA_BRPORT_MAX + 1] = {};
    return header->nlmsg_type == RTM_NEWLINK &&
           nlmsg_parse(header, sizeof(ifinfomsg), attributes, IFLA_MAX, nullptr) == 0 &&
           attributes[IFLA_LINKINFO] &&
           nla_parse_nested(info, IFLA_INFO_MAX, attributes[IFLA_LINKINFO], nullptr) == 0 &&
           info[IFLA_INFO_SLAVE_DATA] &&
           nla_parse_nested(port, IFLA_BRPORT_MAX, info[IFLA_INFO_SLAVE_DATA], nullptr) == 0 &&
           port[IFLA_BRPORT_LOCKED] && nla_get_u8(port[IFLA_BRPORT_LOCKED]) == 1;
}

std::optional<LinkAddress> parse_address(nlmsghdr* header) {
    nlattr* attributes[IFA_MAX + 1] = {};
    if (header->nlmsg_type != RTM_NEWADDR ||
        nlmsg_parse(header, sizeof(ifaddrmsg), attributes, IFA_MAX, nullptr) != 0)
        return std::nullopt;
    auto* info = static_cast<ifaddrmsg*>(nlmsg_data(header));
    auto* local = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
    if (info->ifa_family != AF_INET || !local)
        return std::nullopt;
    return LinkAddress{info->ifa_index,
                       {{load_be<std::uint32_t>(bytes_of(local))}, info->ifa_prefixlen}};
}

ifinfomsg info_of(unsigned index) {
    ifinfomsg info{};
    info.ifi_family = AF_UNSPEC;
    info.ifi_index = static_cast<int>(index);
    return info;
}

class KernelLinks final : public Links {
public:
    explicit KernelLinks(nl_sock* socket) : socket_(socket) {}

    Result<std::vector<Link>> list() override;
    Result<std::optional<Link>> find(const std::string& name) override;
    Result<std::optional<Link>> find(unsigned index) override;
    Result<void> create_bridge(const std::string& name, const Mac& mac) override;
    Result<void> set_bridge_options(unsigned index) override;
    Result<void> change(unsigned index, const LinkChange& change) override;
    Result<void> lock_port(unsigned index, const Mac& mac) override;
    Result<void> remove(unsigned index) override;
    Result<std::vector<LinkAddress>> addresses() override;
    Result<void> add_address(unsigned index, const Ipv4Prefix& prefix) override;
    Result<void> remove_address(unsigned index, const Ipv4Prefix& prefix) override;
    Result<Fd> open_tap(const std::string& name, uid_t owner, bool several_queues) override {
        return open_tap_device(name, owner, several_queues);
    }
    Result<Fd> open_tap_queue(const std::string& name) override {
        return open_tap_device_queue(name);
    }
    Result<bool> reap_tap(const std::string& name) override { return reap_tap_device(name); }
    Result<void> disable_ipv6(const std::string& name) override { return disable_ipv6_on(name); }

private:
    Result<void> ask(const Request& request, std::string_view step, const Receive& receive = {});
    Result<std::optional<Link>> find_link(unsigned index, const std::string& name);
    Result<void> ask_address(int type, int flags, unsigned index, const Ipv4Prefix& prefix,
                             std::string_view step);

    std::unique_ptr<nl_sock, FreeSocket> socket_;
};

Result<std::unique_ptr<nl_sock, FreeSocket>> connect() {
    std::unique_ptr<nl_sock, FreeSocket> socket(nl_socket_alloc());
    if (!socket)
        return fail(ErrorKind::limit, "netlink: out of memory");
    if (int error = nl_connect(socket.get(), NETLINK_ROUTE); error < 0)
        return fail(ErrorKind::io, "netlink: connect: {}", nl_geterror(error));
    int on = 1;
    // Both are for better error texts only; every kernel since 4.12 has them.
    for (int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK})
        if (::setsockopt(nl_socket_get_fd(socket.get()), SOL_NETLINK, option, &on, sizeof(on)) < 0)
            return fail_errno(errno, "netlink: set socket option {}", option);
    return socket;
}

// Sends and waits for the end of the answer. The socket carries one request at a time.
Result<void> KernelLinks::ask(const Request& request, std::string_view step,
                              const Receive& receive) {
    std::unique_ptr<nl_cb, FreeCallbacks> callbacks(nl_cb_alloc(NL_CB_DEFAULT));
    if (!request.get() || !callbacks)
        return fail(ErrorKind::internal, "{}: cannot build the netlink message", step);
    Answer answer;
    answer.receive = &receive;
    nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &answer);
    nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_message, &answer);
    nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_end, &answer);
    nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_end, &answer);
    if (int error = nl_send_auto(socket_.get(), request.get()); error < 0)
        return fail(ErrorKind::io, "{}: send to netlink: {}", step, nl_geterror(error));
    int result = 0;
    while (!answer.done && result >= 0)
        result = nl_recvmsgs(socket_.get(), callbacks.get());
    if (!answer.done) {
        // The rest of the answer would be taken for that of the next request.
        if (auto fresh = connect())
            socket_ = std::move(*fresh);
        return fail(ErrorKind::io, "{}: receive from netlink: {}", step, nl_geterror(result));
    }
    if (result == -NLE_DUMP_INTR)
        return fail(ErrorKind::busy, "{}: links change all the time", step);
    if (answer.error_number == 0)
        return {};
    auto error = Error::system(answer.error_number, std::string(step));
    std::string more = answer.words.empty() ? "" : " (" + answer.words + ")";
    if (answer.error_number == EPERM || answer.error_number == EACCES)
        more += needs_rights;
    return std::unexpected(Error(error.kind(), error.text() + more));
}

Result<std::vector<Link>> KernelLinks::list() {
    std::vector<Link> links;
    // A list during which links changed may lack some: ask again.
    Result<void> asked;
    for (int attempt = 0; attempt < 10; ++attempt) {
        links.clear();
        Request request(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, info_of(0));
        request.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        asked = ask(request, "list links", [&](nlmsghdr* header) {
            if (auto link = parse_link(header))
                links.push_back(*std::move(link));
        });
        if (asked || asked.error().kind() != ErrorKind::busy)
            break;
    }
    TRY(std::move(asked));
    return links;
}

Result<std::optional<Link>> KernelLinks::find_link(unsigned index, const std::string& name) {
    std::optional<Link> found;
    Request request(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, info_of(index));
    if (!name.empty())
        request.text(IFLA_IFNAME, name);
    request.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    auto asked =
        ask(request, "look up a link", [&](nlmsghdr* header) { found = parse_link(header); });
    if (!asked && asked.error().kind() != ErrorKind::not_found)
        return std::unexpected(asked.error());
    return found;
}
Result<std::optional<Link>> KernelLinks::find(const std::string& name) {
    return find_link(0, name);
}
Result<std::optional<Link>> KernelLinks::find(unsigned index) {
    return find_link(index, {});
}

Result<void> KernelLinks::create_bridge(const std::string& name, const Mac& mac) {
    Request request(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, info_of(0));
    request.text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, mac.octets);
    auto* info = request.open(IFLA_LINKINFO);
    request.text(IFLA_INFO_KIND, "bridge");
    request.close(info);
    return ask(request, "create");
}

Result<void> KernelLinks::set_bridge_options(unsigned index) {
    Request request(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, info_of(index));
    auto* info = request.open(IFLA_LINKINFO);
    request.text(IFLA_INFO_KIND, "bridge");
    auto* data = request.open(IFLA_INFO_DATA);
    request.u32(IFLA_BR_STP_STATE, 0).u32(IFLA_BR_FORWARD_DELAY, 0).u8(IFLA_BR_MCAST_SNOOPING, 0);
    request.close(data);
    request.close(info);
    return ask(request, "set bridge options");
}

Result<void> KernelLinks::change(unsigned index, const LinkChange& change) {
    auto info = info_of(index);
    if (change.up) {
        info.ifi_change = IFF_UP;
        info.ifi_flags = *change.up ? IFF_UP : 0;
    }
    Request request(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, info);
    std::string step = "set";
    auto name_step = [&](std::string text) { step += (step.size() > 3 ? ", " : " ") + text; };
    if (change.mac) {
        request.bytes(IFLA_ADDRESS, change.mac->octets);
        name_step("address " + change.mac->text());
    }
    if (change.mtu) {
        request.u32(IFLA_MTU, *change.mtu);
        name_step(fmt::format("mtu {}", *change.mtu));
    }
    if (change.alias) {
        request.text(IFLA_IFALIAS, *change.alias);
        name_step("alias");
    }
    if (change.master) {
        request.u32(IFLA_MASTER, *change.master);
        name_step(*change.master ? "bridge" : "no bridge");
    }
    if (change.up)
        name_step(*change.up ? "up" : "down");
    return ask(request, step);
}

// The bridge learns nothing on a locked port and knows the one address by a static entry; with
// nothing flooded to it, unicast for others does not reach it either.
Result<void> KernelLinks::lock_port(unsigned index, const Mac& mac) {
    Request port(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, info_of(index));
    auto* info = port.open(IFLA_LINKINFO);
    port.text(IFLA_INFO_SLAVE_KIND, "bridge");
    auto* data = port.open(IFLA_INFO_SLAVE_DATA);
    port.u8(IFLA_BRPORT_LEARNING, 0).u8(IFLA_BRPORT_UNICAST_FLOOD, 0).u8(IFLA_BRPORT_LOCKED, 1);
    port.close(data);
    port.close(info);
    TRY(ask(port, "lock the bridge port"));

    // A kernel that does not know the setting takes no notice of it.
    bool locked = false;
    Request look(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, info_of(index));
    look.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    TRY(ask(look, "look up a bridge port",
            [&](nlmsghdr* header) { locked = locked || is_locked(header); }));
    if (!locked)
        return fail(ErrorKind::unsupported,
                    "this kernel cannot hold a guest to its Ethernet address, which needs Linux "
                    "5.18: set locked_lladdr = false");

    ndmsg entry{};
    entry.ndm_family = AF_BRIDGE;
    entry.ndm_ifindex = static_cast<int>(index);
    entry.ndm_state = NUD_NOARP; // static
    entry.ndm_flags = NTF_MASTER;
    Request known(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, entry);
    known.bytes(NDA_LLADDR, mac.octets);
    return ask(known, "enter " + mac.text() + " into the bridge");
}

Result<void> KernelLinks::remove(unsigned index) {
    return ask(Request(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, info_of(index)), "remove");
}

Result<std::vector<LinkAddress>> KernelLinks::addresses() {
    std::vector<LinkAddress> addresses;
    ifaddrmsg info{};
    info.ifa_family = AF_INET;
    TRY(ask(Request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, info), "list addresses",
            [&](nlmsghdr* header) {
                if (auto address = parse_address(header))
                    addresses.push_back(*address);
            }));
    return addresses;
}

Result<void> KernelLinks::ask_address(int type, int flags, unsigned index, const Ipv4Prefix& prefix,
                                      std::string_view step) {
    ifaddrmsg info{};
    info.ifa_family = AF_INET;
    info.ifa_prefixlen = prefix.length;
    info.ifa_index = index;
    Request request(type, NLM_F_REQUEST | NLM_F_ACK | flags, info);
    request.address(IFA_LOCAL, prefix.address).address(IFA_ADDRESS, prefix.address);
    // RFC 3021: a /31 has no broadcast address.
    if (type == RTM_NEWADDR && prefix.length < 31)
        request.address(IFA_BROADCAST, prefix.broadcast());
    return ask(request, fmt::format("{} address {}", step, prefix.text()));
}
Result<void> KernelLinks::add_address(unsigned index, const Ipv4Prefix& prefix) {
    return ask_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, prefix, "add");
}
Result<void> KernelLinks::remove_address(unsigned index, const Ipv4Prefix& prefix) {
    return ask_address(RTM_DELADDR, 0, index, prefix, "remove");
}

} // namespace

Result<std::unique_ptr<Links>> open_kernel_links() {
    return std::unique_ptr<Links>(std::make_unique<KernelLinks>(TRY(connect()).release()));
}

Result<void> check_link_name(std::string_view what, std::string_view name) {
    bool good = !name.empty() && name.size() < IFNAMSIZ && name != "." && name != "..";
    // Names in /proc/sys/net/*/conf that mean every interface.
    good = good && name != "all" && name != "default";
    for (char c : name)
        good = good && c > ' ' && c < 0x7f && c != '/' && c != ':' && c != '%';
    if (!good)
        return fail(ErrorKind::invalid,
                    "{} \"{}\": an interface name has 1 to 15 letters, digits, '-', '_' or '.'",
                    what, printable(name, 40));
    return {};
}

} // namespace vmhost::net

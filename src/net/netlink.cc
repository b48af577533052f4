#include "net/netlink.h"

#include <cerrno>
#include <cstring>
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <sys/socket.h>

#include "net/tap.h"

namespace vmhost::net {

namespace {

struct FreeCallbacks {
    void operator()(nl_cb* callbacks) const { nl_cb_put(callbacks); }
};

// What came back for one request.
struct Answer {
    bool done = false;
    int error_number = 0;
    std::string words; // the kernel's
    const Netlink::Receive* receive = nullptr;
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

} // namespace

std::string text_of(nlattr* attribute) {
    if (!attribute)
        return {};
    auto* data = static_cast<const char*>(nla_data(attribute));
    return {data, ::strnlen(data, static_cast<std::size_t>(nla_len(attribute)))};
}

Bytes bytes_of(nlattr* attribute) {
    if (!attribute)
        return {};
    return {static_cast<const std::uint8_t*>(nla_data(attribute)),
            static_cast<std::size_t>(nla_len(attribute))};
}

Result<Netlink> Netlink::open(int protocol) {
    Netlink netlink(protocol, nl_socket_alloc());
    auto* socket = netlink.socket_.get();
    if (!socket)
        return fail(ErrorKind::limit, "netlink: out of memory");
    if (int error = nl_connect(socket, protocol); error < 0)
        return fail(ErrorKind::io, "netlink: connect: {}", nl_geterror(error));
    int on = 1;
    // Both are for better error texts only; every kernel since 4.12 has them.
    for (int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK})
        if (::setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, option, &on, sizeof(on)) < 0)
            return fail_errno(errno, "netlink: set socket option {}", option);
    return netlink;
}

Result<void> Netlink::ask(const Request& request, std::string_view step, const Receive& receive) {
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
        if (auto fresh = open(protocol_))
            socket_ = std::move(fresh->socket_);
        return fail(ErrorKind::io, "{}: receive from netlink: {}", step, nl_geterror(result));
    }
    if (result == -NLE_DUMP_INTR)
        return fail(ErrorKind::busy, "{}: it changes all the time", step);
    if (answer.error_number == 0)
        return {};
    auto error = Error::system(answer.error_number, std::string(step));
    std::string more = answer.words.empty() ? "" : " (" + answer.words + ")";
    if (answer.error_number == EPERM || answer.error_number == EACCES)
        more += needs_rights;
    return std::unexpected(Error(error.kind(), error.text() + more));
}

Result<void> Netlink::list(const std::function<Request()>& make, std::string_view step,
                           const std::function<void()>& forget, const Receive& receive) {
    // A list during which things changed may lack some.
    constexpr int attempts = 10;
    Result<void> asked;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        forget();
        asked = ask(make(), step, receive);
        if (asked || asked.error().kind() != ErrorKind::busy)
            break;
    }
    return asked;
}

} // namespace vmhost::net

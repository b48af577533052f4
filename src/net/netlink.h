// netlink(7) through libnl: one request, its answer, and the kernel's own words for a refusal
// (extended acknowledgement) in the error text. Messages are put together attribute by attribute:
// libnl's object layer lacks what a host for guests needs, and its error numbers lose the kernel's.
//
// Private to net/. One thread, one request at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include "base/base.h"

namespace vmhost::net {

// A message that is built. Attribute calls fail only when the message's page is full, which none
// of ours can do; ask() says so then.
class Request {
public:
    template <class Header>
    Request(int type, int flags, const Header& header)
        : message_(nlmsg_alloc_simple(type, NLM_F_REQUEST | flags)) {
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
    Request& u16(int type, std::uint16_t value) {
        return check(message_ && nla_put_u16(message_.get(), type, value) == 0);
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
    struct Free {
        void operator()(nl_msg* message) const { nlmsg_free(message); }
    };
    Request& check(bool good) {
        good_ = good_ && good;
        return *this;
    }
    std::unique_ptr<nl_msg, Free> message_;
    bool good_ = false;
};

// What came back: an attribute's value, or nothing at all for one that is not there.
std::string text_of(nlattr* attribute);
Bytes bytes_of(nlattr* attribute);

class Netlink {
public:
    using Receive = std::function<void(nlmsghdr*)>;

    static Result<Netlink> open(int protocol);
    // Sends and waits for the end of the answer; receive gets each of its messages. Busy when a
    // list changed while it was read: ask again.
    Result<void> ask(const Request& request, std::string_view step, const Receive& receive = {});
    // The same for a list, which is asked for anew while it changes; forget drops what came.
    Result<void> list(const std::function<Request()>& make, std::string_view step,
                      const std::function<void()>& forget, const Receive& receive);

private:
    struct Free {
        void operator()(nl_sock* socket) const { nl_socket_free(socket); }
    };
    Netlink(int protocol, nl_sock* socket) : protocol_(protocol), socket_(socket) {}

    int protocol_;
    std::unique_ptr<nl_sock, Free> socket_;
};

} // namespace vmhost::net

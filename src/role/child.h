// What every child role does before its own story begins, and how it speaks to
// the parent.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "ipc/messages.h"
#include "loop/loop.h"
#include "role/confine.h"

namespace vmhost::role {

// The parent's end of a role process: descriptor 3. The role ends when the parent is gone,
// except one that can be taken over by the next.
class Parent {
public:
    // message takes every frame of the parent; its error is told to the parent and ends the role.
    using Message = std::function<Result<void>(ipc::Frame)>;
    Parent(Loop& loop, Message message, std::function<void()> gone);

    // From here on the role outlives its parent: lost is called when it is gone, and found when the
    // next one, of the same user, has connected to the listening socket.
    void outlive(Fd listener, std::function<void()> lost, std::function<void()> found);
    bool connected() const { return channel_ != nullptr; }

    // Without a parent, to nobody.
    template <class Message>
    void send(Message message) {
        if (channel_)
            channel_->send(ipc::encode(std::move(message)));
    }
    // Tells the parent why this role cannot work, then ends the loop.
    void fail(const Error& error);
    // Sends what is queued, then ends the loop.
    void finish();
    bool failed() const { return failed_; }

private:
    void connect(Fd socket);
    void closed(const std::optional<Error>& error);
    void found_next();

    Loop& loop_;
    Message message_;
    std::function<void()> gone_;
    bool failed_ = false, finishing_ = false;
    Fd listener_;
    std::optional<uid_t> uid_; // of the first parent
    std::function<void()> lost_, found_;
    std::unique_ptr<Watch> next_;
    std::unique_ptr<ipc::Channel> channel_;
};

// The story that every role shares: rights are given up before a byte is read, then the parent
// is listened to until it is gone or the role ends. calls: of this role. Makes parent; returns the
// exit status.
int serve(Loop& loop, std::unique_ptr<Parent>& parent, const Identity& identity,
          std::span<const Call> calls, Parent::Message message,
          std::function<void()> gone = nullptr);

int run_control(const Identity& identity);
int run_dhcp(const Identity& identity);
int run_http(const Identity& identity);
int run_ipv6(const Identity& identity);
int run_tftp(const Identity& identity);
int run_vm(const Identity& identity);

} // namespace vmhost::role

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

// The parent's end of a role process: descriptor 3. The role ends when the parent
// is gone; nothing of a role outlives it.
class Parent {
public:
    // message takes every frame of the parent; its error is told to the parent and ends the role.
    using Message = std::function<Result<void>(ipc::Frame)>;
    Parent(Loop& loop, Message message, std::function<void()> gone);

    template <class Message>
    void send(Message message) {
        channel_->send(ipc::encode(std::move(message)));
    }
    // Tells the parent why this role cannot work, then ends the loop.
    void fail(const Error& error);
    // Sends what is queued, then ends the loop.
    void finish();
    bool failed() const { return failed_; }

private:
    Loop& loop_;
    std::function<void()> gone_;
    bool failed_ = false;
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
int run_vm(const Identity& identity);

} // namespace vmhost::role

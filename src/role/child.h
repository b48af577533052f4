// What every child role does before its own story begins, and how it speaks to
// the parent.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "ipc/messages.h"
#include "loop/loop.h"

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

// Gives up root for good: groups, gid, uid, capabilities, no new privileges, no dumps. With "-"
// for both (not started as root) there is no user to change. Confinement beyond that (empty root,
// landlock, system-call list, cgroup) has its place here.
Result<void> drop_rights(const std::string& uid, const std::string& gid);

// The story that every role shares: rights are given up before a byte is read, then the parent
// is listened to until it is gone or the role ends. Makes parent; returns the exit status.
int serve(Loop& loop, std::unique_ptr<Parent>& parent, const std::string& uid,
          const std::string& gid, Parent::Message message, std::function<void()> gone = nullptr);

int run_control(const std::string& uid, const std::string& gid);
int run_dhcp(const std::string& uid, const std::string& gid);
int run_http(const std::string& uid, const std::string& gid);
int run_vm(const std::string& uid, const std::string& gid);

} // namespace vmhost::role

// A role process of ours: the same binary, executed again, with one socket to the
// parent as descriptor 3.
//
// Loop thread of the parent.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "base/base.h"
#include "host/users.h"
#include "ipc/messages.h"
#include "loop/loop.h"

namespace vmhost::host {

struct Launch {
    std::string role;         // "vm", "dhcp", "http", "control"
    std::string title;        // in log lines: "vm/a"
    std::optional<User> user; // to become; none = stay who we are
};

class RoleChild {
public:
    struct Events {
        std::function<void(ipc::Frame&&)> frame;
        // The process has ended; how in words: "exit status 1", "signal 11". Last call.
        std::function<void(std::string)> ended;
    };
    static Result<std::unique_ptr<RoleChild>> start(Loop& loop, const Launch& launch,
                                                    Events events);
    ~RoleChild();

    template <class Message>
    void send(Message message) {
        if (channel_)
            channel_->send(ipc::encode(std::move(message)));
    }
    void send_frame(ipc::Frame frame) {
        if (channel_)
            channel_->send(std::move(frame));
    }
    pid_t pid() const { return process_->pid(); }
    // Closes the channel: a role without its parent ends by itself.
    void close();
    // For one that does not.
    void kill();

private:
    RoleChild(Events events) : events_(std::move(events)) {}
    Events events_;
    std::unique_ptr<ipc::Channel> channel_;
    std::unique_ptr<Child> process_;
};

} // namespace vmhost::host

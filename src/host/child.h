// A role process of ours, as the parent has to do with it: frames in both directions, and its end.
// The real one is the same binary, executed again, with one socket to the parent as descriptor 3.
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
    virtual ~RoleChild() = default; // does not end the process

    template <class Message>
    void send(Message message) {
        send_frame(ipc::encode(std::move(message)));
    }
    // No callback runs inside these.
    virtual void send_frame(ipc::Frame frame) = 0;
    virtual pid_t pid() const = 0;
    // Closes the channel: a role without its parent ends by itself.
    virtual void close() = 0;
    // For one that does not.
    virtual void kill() = 0;
};

Result<std::unique_ptr<RoleChild>> start_role_process(Loop& loop, const Launch& launch,
                                                      RoleChild::Events events);
// One that an earlier parent started, by its pidfd, and a connection to it, if there is one.
std::unique_ptr<RoleChild> adopt_role_process(Loop& loop, pid_t pid, Fd process, Fd connection,
                                              RoleChild::Events events);

} // namespace vmhost::host

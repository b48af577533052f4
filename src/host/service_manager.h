// What systemd wants to know of the daemon, by the protocol of sd_notify(3): datagrams of
// NAME=value lines to the socket that the environment names. Without one, every call does nothing.
//
// While the daemon starts or ends, which may take as long as its guests need, it asks for more
// time. It says that it is alive (WATCHDOG=1) from a timer of the loop: a loop that does not turn
// says nothing, and is killed and started again.
//
// Loop thread of the parent.
#pragma once

#include <string>

#include "loop/loop.h"

namespace vmhost::host {

class ServiceManager {
public:
    // What the environment says (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID).
    struct Environment {
        std::string socket;                    // a path, or '@' and an abstract name; empty = none
        std::chrono::microseconds watchdog{0}; // 0 = not wanted of this process
        static Environment of_this_process();
    };
    ServiceManager(Loop& loop, const Environment& environment);

    bool there() const { return static_cast<bool>(socket_); }
    void starting(); // until ready()
    // Status is a line for people.
    void ready(const std::string& status);
    void reloading(); // until ready()
    void stopping();

private:
    void send(const std::string& text);
    void ask_for_time();

    std::string address_; // as the kernel takes it
    Fd socket_;
    Timer watchdog_;
    Timer patience_; // asks for more time
};

} // namespace vmhost::host

// Whether a role process answers: its loop is pinged over the channel, every few seconds, one
// ping at a time. A process that is stopped, spins or waits in a system call does not answer; a
// guest that does nothing, or whose processors are stuck, is none of this.
//
// Time is counted in turns of the timer, not on a clock: when this process itself was held (a
// suspended host, a debugger), nobody is blamed for what it did not ask.
//
// Loop thread of the parent.
#pragma once

#include <functional>

#include "loop/loop.h"

namespace vmhost::host {

class Heartbeat {
public:
    // ping sends one; changed is told when the process has been silent for the timeout, and when
    // it answers again. The object may be destroyed or stopped inside both.
    Heartbeat(Loop& loop, std::function<void()> ping, std::function<void(bool answers)> changed);

    // Watches a process that has just been started; 0 = does not.
    void start(std::chrono::milliseconds timeout);
    void stop();
    // A Pong came.
    void answered();
    bool answers() const { return !silent_; }

private:
    void turn();

    std::function<void()> ping_;
    std::function<void(bool)> changed_;
    std::chrono::milliseconds timeout_{0}, interval_{0};
    std::chrono::milliseconds waited_{0}; // for the answer to the last ping
    bool waiting_ = false;
    bool silent_ = false;
    Timer timer_;
};

} // namespace vmhost::host

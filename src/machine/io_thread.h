// The thread on which a machine's disks are served: a loop of its own, so that data is copied, and
// a slow disk waited for, without holding up the machine's loop, its console and its network.
//
// What belongs to its loop (watches, wakeups, I/O queues) is made before start() and destroyed
// after stop(), on the machine's loop thread; in between it is this thread's.
//
// Threads: all methods on the machine's loop thread. stop() waits for the thread, so the caller
// must not hold the device lock.
#pragma once

#include <thread>

#include "loop/loop.h"

namespace vmhost::machine {

class IoThread {
public:
    IoThread() = default;
    ~IoThread() { stop(); }
    IoThread(const IoThread&) = delete;
    IoThread& operator=(const IoThread&) = delete;

    Loop& loop() { return loop_; }
    Result<void> start();
    // The turn that is under way comes to its end; what is not served by then stays so.
    void stop();

private:
    Loop loop_;
    Wakeup ending_{loop_, [this] { loop_.stop(); }};
    std::thread thread_;
};

} // namespace vmhost::machine

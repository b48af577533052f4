// The event loop of a role, and what can wake it. libuv behind RAII: no other
// room names uv_*.
//
// Every object here belongs to the thread that runs its Loop, except where a
// method says "any thread". An object may be destroyed inside its own callback;
// the memory that libuv still needs lives until its close callback has run.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/base.h"

namespace vmhost {

// Of a loop that nobody waits for, see Loop.
struct VirtualTime {};

class Loop {
public:
    Loop();
    // For simulations: time jumps to whatever is next, and the same program runs the same way each
    // time. Timers, ends of turns and work (on this thread) are all there is: a child cannot be
    // started, and it is a mistake to make a watch, a wakeup or a signal watch on such a loop.
    explicit Loop(VirtualTime);
    ~Loop(); // every handle on it must be gone
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    // Until stop(), or until nothing is left that could wake it.
    void run();
    void stop();
    // Handles what is ready now and returns; waits for something first when asked to.
    void run_once(bool wait);
    // Whether something is left that could wake it.
    bool alive() const;

    // Milliseconds of a monotonic clock, as of this turn of the loop.
    std::uint64_t now_ms() const;

    // job runs on a pool thread, then done on this loop's thread. The pool is the
    // process's; jobs that block are what it is for.
    void work(std::function<void()> job, std::function<void()> done);

    struct Impl;
    Impl& impl() { return *impl_; }

private:
    std::unique_ptr<Impl> impl_;
};

class Timer {
public:
    Timer(Loop& loop, std::function<void()> fire);
    ~Timer();
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    // Replaces what was set before; repeat 0 = once. A timer keeps the loop running.
    void start(std::chrono::milliseconds delay,
               std::chrono::milliseconds repeat = std::chrono::milliseconds(0));
    void stop();
    bool active() const;

private:
    struct Box;
    Box* box_;
};

// Readiness of a descriptor that the owner keeps open while the watch lives.
class Watch {
public:
    struct Ready {
        bool readable = false;
        bool writable = false;
        bool hangup = false; // the peer is gone or the descriptor is bad
    };
    Watch(Loop& loop, int fd, std::function<void(Ready)> ready);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    void set(bool readable, bool writable);

private:
    struct Box;
    Box* box_;
};

// wake() may be called from any thread, also many times: the callback runs at
// least once after the last call.
class Wakeup {
public:
    Wakeup(Loop& loop, std::function<void()> woken);
    ~Wakeup();
    Wakeup(const Wakeup&) = delete;
    Wakeup& operator=(const Wakeup&) = delete;
    void wake();

private:
    struct Box;
    Box* box_;
};

// Once armed, runs once at the end of this turn of the loop, after everything that was ready has
// been seen; armed there, at the end of the next turn, which does not wait then.
class TurnEnd {
public:
    TurnEnd(Loop& loop, std::function<void()> over);
    ~TurnEnd();
    TurnEnd(const TurnEnd&) = delete;
    TurnEnd& operator=(const TurnEnd&) = delete;
    void arm();

private:
    struct Box;
    Box* box_;
};

// A signal of the process; does not keep the loop running.
class SignalWatch {
public:
    SignalWatch(Loop& loop, int signal_number, std::function<void()> caught);
    ~SignalWatch();
    SignalWatch(const SignalWatch&) = delete;
    SignalWatch& operator=(const SignalWatch&) = delete;

private:
    struct Box;
    Box* box_;
};

// A child process started by fork and exec, or one that was there before us.
class Child {
public:
    struct Exit {
        int status = 0; // exit status
        int signal = 0; // or the signal that ended it
    };
    struct Command {
        std::string path;                     // of the program
        std::vector<std::string> arguments;   // argv[0] first
        std::vector<std::string> environment; // whole, "NAME=value"
        std::vector<int> fds;                 // become 0, 1, 2, … in the child; -1 = /dev/null
        bool new_session = false;             // setsid(2)
    };
    static Result<std::unique_ptr<Child>> start(Loop& loop, const Command& command,
                                                std::function<void(Exit)> ended);
    // A process that a program before us started, by its pidfd (pidfd_open(2)). How it ended can
    // only be told when it is our child all the same; else both of Exit are 0.
    static std::unique_ptr<Child> adopt(Loop& loop, pid_t pid, Fd process,
                                        std::function<void(Exit)> ended);
    ~Child(); // does not end the process
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    pid_t pid() const;
    void signal(int signal_number);

private:
    struct Box;
    struct Adopted;
    explicit Child(Box* box);
    Box* box_;
    std::unique_ptr<Adopted> adopted_; // then there is no box
};

} // namespace vmhost

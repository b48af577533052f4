// Writes a machine's state in the background, while the loop goes on.
//
// Threads: made, destroyed and told on the loop thread; one thread of its own writes, and
// waits as long as the reader of a pipe makes it.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

#include "loop/loop.h"
#include "machine/snapshot/snapshot.h"

namespace vmhost::machine {

class Saver {
public:
    // The size of the stream, or why there is none. It may destroy the Saver.
    using Done = std::function<void(Result<std::uint64_t>)>;

    // What the state relies on, done on the writing thread before anything is written: disks are
    // flushed.
    using Settle = std::function<Result<void>()>;

    // The memory must outlive the Saver and not change meanwhile.
    Saver(Loop& loop, Fd out, std::vector<Section> sections, std::vector<GuestMemory::Range> memory,
          Settle settle, Done done);
    ~Saver(); // gives up; done is not called any more
    Saver(const Saver&) = delete;
    Saver& operator=(const Saver&) = delete;

private:
    Result<std::uint64_t> write();

    Fd out_;
    std::vector<Section> sections_;
    std::vector<GuestMemory::Range> memory_;
    Settle settle_;
    Done done_;
    std::atomic<bool> cancelled_{false};
    std::optional<Result<std::uint64_t>> result_; // of the thread, before it wakes the loop
    Wakeup finished_;
    std::thread thread_;
};

} // namespace vmhost::machine

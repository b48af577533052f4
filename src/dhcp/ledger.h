// Writes leases down before their clients are told: what comes in while the disk is busy shares the
// next transaction, and one wait for the disk. The loop never waits.
//
// Loop thread; the store is used on a pool thread, by one job at a time.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "loop/loop.h"
#include "store/store.h"

namespace vmhost::dhcp {

class Ledger {
public:
    // written: on the disk, or not and never will be.
    using Done = std::function<void(bool written)>;

    // Without a store leases live as long as the process: done is called at once.
    explicit Ledger(Loop& loop);
    ~Ledger();
    Ledger(const Ledger&) = delete;
    Ledger& operator=(const Ledger&) = delete;

    void use(store::LeaseStore store);
    // done may be null.
    void keep(store::LeaseRow row, Done done);

    std::uint64_t written() const { return written_; } // rows
    std::uint64_t commits() const { return commits_; }
    std::uint64_t failures() const { return failures_; } // commits

private:
    struct Entry {
        store::LeaseRow row;
        Done done;
    };
    struct Job;
    void begin();
    void ended(Job& job);

    Loop& loop_;
    std::shared_ptr<store::LeaseStore> store_; // a job that outlives us has it too
    std::vector<Entry> waiting_;
    std::shared_ptr<Job> job_; // null: none is under way
    Timer pause_;              // between two of them while there is much to do
    std::uint64_t written_ = 0, commits_ = 0, failures_ = 0;
    std::uint64_t told_ms_ = 0; // last log line of a failure
};

} // namespace vmhost::dhcp

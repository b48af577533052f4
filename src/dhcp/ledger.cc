#include "dhcp/ledger.h"

namespace vmhost::dhcp {

struct Ledger::Job {
    Ledger* ledger; // null: it is gone
    std::vector<store::LeaseRow> rows;
    std::vector<Done> done;
    Result<void> result;
};

namespace {

// What a transaction costs beside its rows is some 100 microseconds of processor time: under load
// it is shared by what comes in during this pause, which no client notices.
constexpr std::chrono::milliseconds between_commits{2};

} // namespace

Ledger::Ledger(Loop& loop) : loop_(loop), pause_(loop, [this] { begin(); }) {}

Ledger::~Ledger() {
    if (job_)
        job_->ledger = nullptr;
}

void Ledger::use(store::LeaseStore store) {
    store_ = std::make_shared<store::LeaseStore>(std::move(store));
}

void Ledger::keep(store::LeaseRow row, Done done) {
    if (!store_) {
        if (done)
            done(true);
        return;
    }
    if (waiting_.size() == limits::max_dhcp_unwritten) {
        ++failures_;
        if (done)
            done(false);
        return;
    }
    waiting_.push_back({std::move(row), std::move(done)});
    if (!job_ && !pause_.active())
        begin();
}

void Ledger::begin() {
    job_ = std::make_shared<Job>();
    job_->ledger = this;
    job_->rows.reserve(waiting_.size());
    for (auto& entry : waiting_) {
        job_->rows.push_back(std::move(entry.row));
        job_->done.push_back(std::move(entry.done));
    }
    waiting_.clear();
    loop_.work([job = job_, store = store_] { job->result = store->write(job->rows); },
               [job = job_] {
                   if (job->ledger)
                       job->ledger->ended(*job);
               });
}

void Ledger::ended(Job& job) {
    auto keep = std::move(job_);
    const bool written = job.result.has_value();
    ++(written ? commits_ : failures_);
    if (written)
        written_ += job.rows.size();
    constexpr std::uint64_t between_lines_ms = 10'000;
    if (!written && (told_ms_ == 0 || loop_.now_ms() - told_ms_ >= between_lines_ms)) {
        told_ms_ = loop_.now_ms();
        log::error("dhcp", "{} leases are not written down, and not acknowledged: {}",
                   job.rows.size(), job.result.error().message());
    }
    for (auto& done : job.done)
        if (done)
            done(written);
    if (!waiting_.empty() && !job_)
        pause_.start(between_commits);
}

} // namespace vmhost::dhcp

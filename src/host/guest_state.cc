// Saving a guest into a client's file or pipe, and starting it from one. The parent only hands
// the descriptor over: the guest's own process writes and reads it.
#include "host/guest.h"

#include <algorithm>
#include <utility>

namespace vmhost::host {

using namespace std::chrono_literals;

void Guest::save(Fd out, Done done) {
    if (saving_ || pausing_)
        return done(fail(ErrorKind::busy, "vm {} is being saved or paused already", vm_.name));
    if (state_ != GuestState::running && state_ != GuestState::paused)
        return done(fail(ErrorKind::invalid, "vm {} is not running", vm_.name));
    before_saving_ = std::exchange(state_, GuestState::paused);
    saving_ = std::move(done);
    process_->send(ipc::VmSave{std::move(out)});
}

void Guest::restore(Fd state, Done done) {
    if (!process_ && !starting_)
        restore_from_ = std::move(state);
    start(std::move(done));
    restore_from_.reset(); // handed over, or of no use
}

// On success the caller hears of it when the process is gone.
void Guest::took_saved(const ipc::VmSaved& saved) {
    if (saving_ && snapshots_)
        return took_snapshot(saved);
    if (!saving_ || state_ == GuestState::stopping)
        return;
    if (saved.done) {
        log::notice("host", "vm {} saved, {}", vm_.name, format_size(saved.bytes));
        note_ = "saved";
        tell("saved", format_size(saved.bytes));
        saved_ = stop_requested_ = true;
        state_ = GuestState::stopping;
        process_->send(ipc::VmTerminate{}); // at once: there is nothing left to ask the guest
        kill_timer_.start(5s);
        return;
    }
    state_ = before_saving_;
    auto kind = std::min(saved.kind, static_cast<std::uint8_t>(ErrorKind::internal));
    std::exchange(saving_, nullptr)(
        fail(static_cast<ErrorKind>(kind), "vm {}: {}", vm_.name, printable(saved.text, 400)));
}

} // namespace vmhost::host

// The frame guards of all guests: what they dropped, and that they are there.
//
// Whoever loads a firewall usually begins with "nft flush ruleset", which takes the guards of this
// host along. So the kernel tells of every change of its rules, and what is missing is put back, as
// soon as the other one is done.
//
// Loop thread of the parent.
#include <sys/socket.h>

#include "host/host.h"

namespace vmhost::host {

namespace {

// A change comes as many messages, and our own changes are told as well.
constexpr std::chrono::milliseconds mend_delay{100};

} // namespace

std::vector<net::GuardCount> Host::guard_counts() const {
    if (!network_)
        return {};
    auto counts = network_->guard_counts();
    if (!counts)
        log::debug("host", "{}", counts.error().message());
    return counts.value_or(std::vector<net::GuardCount>());
}

Result<void> Host::renew_guards() {
    for (auto& guest : guests_)
        guest->renew_guards();
    return {};
}

Result<void> Host::watch_guards() {
    forget_guards();
    auto changes = network_->watch_guards();
    if (!changes || !*changes)
        return {}; // without nf_tables, a guard says so itself
    guard_changes_ = std::move(**changes);
    guard_watch_ = std::make_unique<Watch>(loop_, guard_changes_.get(), [this](Watch::Ready) {
        // What it says does not matter, nor that there was too much of it.
        char message[8192];
        while (::recv(guard_changes_.get(), message, sizeof(message), MSG_DONTWAIT) > 0)
            continue;
        if (!mend_.active())
            mend_.start(mend_delay);
    });
    guard_watch_->set(true, false);
    return {};
}

void Host::forget_guards() {
    mend_.stop();
    guard_watch_.reset();
    guard_changes_.reset();
}

void Host::mend_guards() {
    if (!network_)
        return;
    auto mended = network_->mend_guards();
    if (!mended) {
        log::warning("host", "{}", mended.error().message());
    } else if (*mended > 0) {
        auto text =
            fmt::format("somebody removed the frame guards of {} interfaces: put back", *mended);
        log::warning("host", "{}", text);
        events_.tell("guard restored", text);
    }
}

} // namespace vmhost::host

// How a guest is asked to end by itself, and how long it is waited for.
//
//   vmmci(4), when its driver listens. The driver acknowledges within the answer time and
//   has the finish time from then on. When it does not answer, the button is next.
//   ACPI's power button, when the guest has enabled it. The guest takes note of it within
//   the answer time and has the finish time from then on.
//   When neither is there, or time is up, there is nothing to wait for: give_up.
//
// What the guest does then (S5, a reset, nothing) is for the machine to see.
//
// Threads: everything under the device lock.
#pragma once

#include <functional>
#include <string>

#include "machine/clock.h"
#include "machine/machine.h"

namespace vmhost::machine {

class OrderlyStop {
public:
    struct Guest {
        std::function<bool()> ask_vmmci;      // false: nobody listens
        std::function<bool()> press_button;   // false: it is not enabled
        std::function<bool()> button_pending; // no note was taken yet
        std::function<void(std::string why)> give_up;
    };
    OrderlyStop(Clock& clock, Guest guest) : clock_(clock), guest_(std::move(guest)) {}
    ~OrderlyStop() { clock_.cancel(timer_); }
    OrderlyStop(const OrderlyStop&) = delete;
    OrderlyStop& operator=(const OrderlyStop&) = delete;

    // Once; later calls say what the first said.
    StopRequest begin(StopTimeouts timeouts);
    bool begun() const { return request_.has_value(); }
    // vmmci's own timers have run out.
    void vmmci_gave_up(bool acknowledged);

private:
    bool press();
    void answer_due();

    Clock& clock_;
    Guest guest_;
    StopTimeouts timeouts_;
    std::optional<StopRequest> request_;
    Clock::Ticket timer_ = 0;
};

} // namespace vmhost::machine

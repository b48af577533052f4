#include "machine/orderly_stop.h"

#include <utility>

namespace vmhost::machine {

StopRequest OrderlyStop::begin(StopTimeouts timeouts) {
    if (request_)
        return *request_;
    timeouts_ = timeouts;
    if (guest_.ask_vmmci())
        request_ = StopRequest::vmmci;
    else if (press())
        request_ = StopRequest::button;
    else
        request_ = StopRequest::nobody;
    if (request_ == StopRequest::nobody)
        guest_.give_up("nobody in the guest listens for a request to end");
    return *request_;
}

void OrderlyStop::vmmci_gave_up(bool acknowledged) {
    if (acknowledged)
        guest_.give_up("the guest did not come to its end in time");
    else if (!press())
        guest_.give_up("the guest did not answer the request to end");
}

bool OrderlyStop::press() {
    if (!guest_.press_button())
        return false;
    timer_ = clock_.schedule(clock_.now_ns() + timeouts_.answer_ns, [this] { answer_due(); });
    return true;
}

void OrderlyStop::answer_due() {
    timer_ = 0;
    if (guest_.button_pending())
        return guest_.give_up("the guest took no note of the power button");
    timer_ = clock_.schedule(clock_.now_ns() + timeouts_.finish_ns, [this] {
        timer_ = 0;
        guest_.give_up("the guest did not come to its end in time");
    });
}

} // namespace vmhost::machine

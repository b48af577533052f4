#include "machine/io_thread.h"

#include <csignal>
#include <pthread.h>
#include <system_error>

namespace vmhost::machine {

// Signals are the main thread's.
Result<void> IoThread::start() {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    int error_number = 0;
    try {
        thread_ = std::thread([this] {
            ::pthread_setname_np(::pthread_self(), "io");
            loop_.run();
        });
    } catch (const std::system_error& error) {
        error_number = error.code().value();
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error_number != 0)
        return fail_errno(error_number, "a thread for the disks");
    return {};
}

void IoThread::stop() {
    if (!thread_.joinable())
        return;
    ending_.wake();
    thread_.join();
}

} // namespace vmhost::machine

#include "machine/snapshot/saver.h"

#include <cerrno>
#include <csignal>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace vmhost::machine {

Saver::Saver(Loop& loop, Fd out, std::vector<Section> sections,
             std::vector<GuestMemory::Range> memory, Settle settle, Done done)
    : out_(std::move(out)), sections_(std::move(sections)), memory_(std::move(memory)),
      settle_(std::move(settle)), done_(std::move(done)), finished_(loop, [this] {
          if (!result_ || !done_)
              return;
          if (thread_.joinable())
              thread_.join();
          auto tell = std::exchange(done_, nullptr);
          tell(*std::move(result_)); // nothing of this object follows
      }) {
    sigset_t all, before; // signals are the loop thread's, as for vCPUs
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        thread_ = std::thread([this] {
            auto written = write();
            result_ = std::move(written);
            finished_.wake();
        });
    } catch (const std::system_error& error) {
        result_ = fail_errno(error.code().value(), "a thread to write the state");
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (!thread_.joinable())
        finished_.wake();
}

Saver::~Saver() {
    cancelled_ = true;
    if (thread_.joinable())
        thread_.join();
}

Result<std::uint64_t> Saver::write() {
    TRY(settle_());
    StreamWriter stream(sink_to(out_.get(), cancelled_));
    TRY(write_state(sections_, memory_, stream, cancelled_, {}));
    struct stat status {};
    if (::fstat(out_.get(), &status) == 0 && S_ISREG(status.st_mode) && ::fsync(out_.get()) != 0)
        return fail_errno(errno, "write the state");
    return stream.bytes();
}

} // namespace vmhost::machine

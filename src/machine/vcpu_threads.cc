#include "machine/vcpu_threads.h"

#include <csignal>
#include <pthread.h>
#include <system_error>

namespace vmhost::machine {

// vCPU threads take no signals; the backend opens its own kick.
Result<void> VcpuThreads::start() {
    if (started())
        return fail(ErrorKind::internal, "vcpus: started twice");
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    int error_number = 0;
    try {
        for (unsigned i = 0; i < vcpus_.size(); ++i)
            threads_.emplace_back([this, i] { run(i); });
    } catch (const std::system_error& error) {
        error_number = error.code().value();
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error_number == 0)
        return {};
    stop();
    return fail_errno(error_number, "a thread for each of {} vcpus", vcpus_.size());
}

void VcpuThreads::run(unsigned index) {
    ::pthread_setname_np(::pthread_self(), fmt::format("vcpu{}", index).c_str());
    auto& vcpu = *vcpus_[index];
    while (wait_while_parked(vcpu)) {
        auto exit = vcpu.run();
        if (exit.reason == Exit::Reason::kicked)
            continue;
        over_(index, std::move(exit));
        return;
    }
}

// False when it is time to end.
bool VcpuThreads::wait_while_parked(Vcpu& vcpu) {
    if (!parking_)
        return !ending_;
    {
        std::unique_lock guard(mutex_);
        ++parked_;
        changed_.notify_all();
        changed_.wait(guard, [this] { return !parking_ || ending_; });
        --parked_;
    }
    vcpu.stood_still();
    return !ending_;
}

bool VcpuThreads::park() {
    parking_ = true;
    for (auto& vcpu : vcpus_)
        vcpu->kick();
    std::unique_lock guard(mutex_);
    changed_.wait(guard, [this] { return parked_ == threads_.size() || ending_; });
    return !ending_;
}

void VcpuThreads::unpark() {
    std::scoped_lock guard(mutex_);
    parking_ = false;
    changed_.notify_all();
}

void VcpuThreads::end_soon() {
    {
        std::scoped_lock guard(mutex_);
        ending_ = true;
        changed_.notify_all();
    }
    for (auto& vcpu : vcpus_)
        vcpu->kick();
}

void VcpuThreads::stop() {
    end_soon();
    for (auto& thread : threads_)
        thread.join();
    threads_.clear();
}

} // namespace vmhost::machine

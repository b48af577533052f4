// The threads of a machine's vCPUs: one each. They run until one of them comes to an
// end that is not for this file to handle, or until they are stopped; in between
// they can be parked: every vCPU is forced out of the guest and its thread waits.
//
// Threads: everything on the loop thread but for end_soon() (any thread, also under
// the device lock) and the two functions that are called on a vCPU's own thread.
// park() and stop() wait for vCPU threads, so the caller must not hold the device lock.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "machine/cpu/cpu.h"

namespace vmhost::machine {

class VcpuThreads {
public:
    // over: a vCPU came out of run() with anything but a kick; its thread ends after the call.
    explicit VcpuThreads(std::function<void(unsigned index, Exit)> over) : over_(std::move(over)) {}
    ~VcpuThreads() { stop(); }
    VcpuThreads(const VcpuThreads&) = delete;
    VcpuThreads& operator=(const VcpuThreads&) = delete;

    // Before start().
    void add(std::unique_ptr<Vcpu> vcpu) { vcpus_.push_back(std::move(vcpu)); }
    std::size_t count() const { return vcpus_.size(); }
    // While parked or not started, but for what the vCPU itself allows.
    const Vcpu& vcpu(std::size_t index) const { return *vcpus_[index]; }
    Vcpu& vcpu(std::size_t index) { return *vcpus_[index]; }

    Result<void> start();
    bool started() const { return !threads_.empty(); }

    // Returns when no vCPU runs; one that has not begun to run does not. False: they end.
    bool park();
    void unpark();

    // Every vCPU leaves the guest for good; without waiting for it.
    void end_soon();
    // The same, and waits until every thread has ended.
    void stop();

private:
    void run(unsigned index);
    bool wait_while_parked(Vcpu& vcpu);

    std::function<void(unsigned, Exit)> over_;
    std::vector<std::unique_ptr<Vcpu>> vcpus_;
    std::vector<std::thread> threads_;
    std::atomic<bool> ending_{false}, parking_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t parked_ = 0; // under mutex_
};

} // namespace vmhost::machine

// A PC made of the parts of this room.
//
// Paused, nothing of the guest moves: the vCPUs are parked, the guest clock and the
// backend's timers stand still, no device begins anything. What goes on is outside of
// the guest's reach: requests that are with the disks run to their end, frames wait
// in the taps, what is typed waits with the console. The TSC and kvmclock go on, so a guest that
// keeps time by them is right at once; the others are told by vmmci.
//
// Threads: built, started and destroyed on the loop thread. Whoever finds out that it ends (a vCPU
// thread, or a device under the device lock on one) calls end(): the first call decides how, every
// vCPU is kicked, and the loop thread joins them and reports.
#include "machine/real_machine.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>

#include "machine/layout.h"

namespace vmhost::machine {

Result<Fd> duplicate(int number, std::string_view what) {
    int copy = ::fcntl(number, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return fail_errno(errno, "{}: descriptor {}", what, number);
    return Fd(copy);
}

namespace {

// Counts what the host really holds of a range: pages that were touched.
std::uint64_t resident_bytes_of(const GuestMemory::Range& range) {
    constexpr std::uint64_t page_bytes = 4 * KiB, chunk_bytes = 64 * MiB;
    std::vector<unsigned char> pages(chunk_bytes / page_bytes);
    std::uint64_t resident = 0;
    for (std::uint64_t at = 0; at < range.size_bytes; at += chunk_bytes) {
        auto length = std::min(chunk_bytes, range.size_bytes - at);
        if (::mincore(range.host + at, length, pages.data()) < 0)
            return resident;
        for (std::uint64_t page = 0; page < length / page_bytes; ++page)
            resident += (pages[page] & 1U) * page_bytes;
    }
    return resident;
}

} // namespace

Result<void> RealMachine::assemble() {
    if (spec_.vcpus == 0 || spec_.vcpus > limits::max_vcpus)
        return fail(ErrorKind::limit, "{} vcpus: at least 1 and at most {} are possible",
                    spec_.vcpus, limits::max_vcpus);
    if (spec_.disks.size() > limits::max_disks || spec_.nics.size() > limits::max_interfaces)
        return fail(ErrorKind::limit, "{} disks and {} interfaces: at most {} and {} are possible",
                    spec_.disks.size(), spec_.nics.size(), limits::max_disks,
                    limits::max_interfaces);
    TRY(lay_out_memory(memory_, spec_.memory_bytes));
    clock_ = TRY(LoopClock::create(loop_, bus_.lock()));
    auto kvm = TRY(duplicate(spec_.kvm_fd, "/dev/kvm"));
    backend_ = TRY(create_kvm_backend(std::move(kvm)));
    memory_.on_written(
        [this](Gpa start, std::uint64_t length) { backend_->ram_written(start, length); });
    TRY(make_isa_devices());
    TRY(make_pci_devices());
    TRY(check_cpu_kind(backend_->capabilities(), spec_.cpu));
    TRY(spec_.state_fd < 0 ? boot() : restore());
    connect_console();
    connect_virtio_console();
    return {};
}

Result<void> RealMachine::boot() {
    for (unsigned i = 0; i < spec_.vcpus; ++i)
        models_.push_back(model_of(i));
    // Loading may add memory (firmware), so it is mapped afterwards.
    auto first = TRY(load());
    TRY(make_vcpus());
    return vcpus_.vcpu(0).set_state(first);
}

Result<void> RealMachine::start() {
    auto started = spec_.disks.empty() ? Result<void>{} : io_thread_.start();
    if (started)
        started = vcpus_.start();
    if (!started)
        return std::unexpected(
            std::move(started).error().in(fmt::format("machine {}", spec_.name)));
    if (restored_)
        ask_to_sync_clock();
    return {};
}

// A vCPU's last word.
void RealMachine::vcpu_over(unsigned index, Exit exit) {
    if (exit.reason == Exit::Reason::shutdown)
        return end({.how = MachineEnd::How::reset, .text = "a triple fault"});
    if (exit.reason == Exit::Reason::halted)
        exit.text = "halted, and nothing could wake it";
    end({.how = MachineEnd::How::failed, .text = fmt::format("vcpu {}: {}", index, exit.text)});
}

void RealMachine::end(MachineEnd how) {
    {
        std::scoped_lock guard(end_mutex_);
        if (end_)
            return;
        if (shutting_down_ && how.how == MachineEnd::How::reset)
            how = {.how = MachineEnd::How::power_off};
        end_ = std::move(how);
    }
    vcpus_.end_soon();
    wakeup_.wake();
}

// ended_ may destroy this machine: nothing follows it.
void RealMachine::woken() {
    if (!ended_)
        return;
    vcpus_.stop();
    MachineEnd how;
    {
        std::scoped_lock guard(end_mutex_);
        if (!end_)
            return;
        how = *end_;
    }
    std::exchange(ended_, nullptr)(std::move(how));
}

// Once per boot, whatever the guest did.
void RealMachine::log_nonsense() const {
    auto accesses = bus_.counters();
    auto malformed = counters().malformed_requests;
    if (malformed != 0 || accesses.unclaimed_reads != 0 || accesses.unclaimed_writes != 0)
        log::info("machine",
                  "{}: its guest made {} malformed requests, {} reads and {} writes where "
                  "nothing is",
                  spec_.name, malformed, accesses.unclaimed_reads, accesses.unclaimed_writes);
}

RealMachine::~RealMachine() {
    vcpus_.stop();
    io_thread_.stop();
    log_nonsense();
    console_.on_input({}, {});
    if (console_port_ != nullptr) {
        spec_.virtio_console->on_input({}, {});
        spec_.virtio_console->on_size({});
    }
}

void RealMachine::pause(std::function<void()> still) {
    if (!vcpus_.park())
        return; // the machine ends: ended_ comes
    still_ = std::move(still);
    if (!paused_.exchange(true)) {
        hold_input(true);
        std::scoped_lock guard(bus_.lock());
        clock_->pause();
        for (auto* transport : transports_)
            transport->pause();
        backend_->hold_timers();
    }
    still_timer_.start(std::chrono::milliseconds(0), std::chrono::milliseconds(1));
}

void RealMachine::look_whether_still() {
    {
        std::scoped_lock guard(bus_.lock());
        if (!std::ranges::all_of(transports_, [](auto* one) { return one->device().still(); }))
            return;
    }
    still_timer_.stop();
    if (auto still = std::exchange(still_, nullptr))
        still();
}

void RealMachine::unpause() {
    if (!paused_.exchange(false))
        return;
    still_timer_.stop();
    still_ = nullptr;
    {
        std::scoped_lock guard(bus_.lock());
        backend_->release_timers();
        for (auto* transport : transports_)
            transport->resume();
        clock_->resume();
    }
    vcpus_.unpark();
    hold_input(false);
    ask_to_sync_clock();
}

StopRequest RealMachine::ask_to_stop(StopTimeouts timeouts) {
    std::scoped_lock guard(bus_.lock());
    vmmci_->set_timeouts(timeouts.answer_ns, timeouts.finish_ns);
    shutting_down_ = true;
    return orderly_stop_->begin(timeouts);
}

// After the guest stood still; without a vmmci(4) driver nobody hears it.
void RealMachine::ask_to_sync_clock() {
    std::scoped_lock guard(bus_.lock());
    (void)vmmci_->send(virtio::Vmmci::Command::sync_clock);
}

bool RealMachine::press_power_button() {
    std::scoped_lock guard(bus_.lock());
    return acpi_pm_->press_power_button();
}

bool RealMachine::power_button_pending() const {
    std::scoped_lock guard(bus_.lock());
    return acpi_pm_->power_button_pending();
}

bool RealMachine::guest_listens() const {
    std::scoped_lock guard(bus_.lock());
    return vmmci_->listens() || acpi_pm_->power_button_enabled();
}

MachineCounters RealMachine::counters() const {
    MachineCounters sum;
    for (std::size_t i = 0; i < vcpus_.count(); ++i) {
        auto exits = vcpus_.vcpu(i).exits();
        sum.port_exits += exits.ports;
        sum.memory_exits += exits.memory;
        sum.other_exits += exits.kicks + exits.others;
        sum.unknown_msrs += exits.unknown_msrs;
    }
    auto accesses = bus_.counters();
    sum.unclaimed_accesses = accesses.unclaimed_reads + accesses.unclaimed_writes;
    std::scoped_lock guard(bus_.lock());
    for (auto* block : blocks_)
        sum.disks.push_back(block->counters());
    for (auto* nic : nics_)
        sum.nics.push_back(nic->counters());
    for (std::size_t i = 0; i < nics_.size(); ++i)
        sum.nics[i].lent = nics_[i]->lends_frames();
    for (auto* transport : transports_) {
        auto malformed = transport->malformed_requests();
        sum.malformed_requests += malformed;
        for (std::size_t i = 0; i < blocks_.size(); ++i)
            if (&transport->device() == blocks_[i])
                sum.disks[i].malformed = malformed;
        for (std::size_t i = 0; i < nics_.size(); ++i)
            if (&transport->device() == nics_[i])
                sum.nics[i].malformed = malformed;
    }
    return sum;
}

std::uint64_t RealMachine::resident_bytes() const {
    std::uint64_t sum = 0;
    for (const auto& range : memory_.ranges())
        sum += resident_bytes_of(range);
    return sum;
}

Result<std::unique_ptr<Machine>> Machine::build(Loop& loop, const MachineSpec& spec,
                                                Console& console,
                                                std::function<void(MachineEnd)> ended) {
    auto made = std::make_unique<RealMachine>(loop, spec, console, std::move(ended));
    TRY(made->assemble());
    return std::unique_ptr<Machine>(std::move(made));
}

} // namespace vmhost::machine

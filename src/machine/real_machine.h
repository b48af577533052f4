// The machine's body, seen by the files that make it up: machine.cc (its life),
// machine_devices.cc (what it is built of), machine_load.cc (what it starts with) and
// machine_state.cc (saving and restoring).
//
// The members of RealMachine stand in the order in which they depend on each
// other, so that destruction takes them down in the right one: threads first, then
// devices, processors, the backend, and memory last.
#pragma once

#include <atomic>
#include <mutex>

#include "disk/disk.h"
#include "machine/boot_order.h"
#include "machine/cpu/cpu.h"
#include "machine/device/acpi_pm.h"
#include "machine/device/cmos.h"
#include "machine/device/debug_console.h"
#include "machine/device/debug_exit.h"
#include "machine/device/fw_cfg.h"
#include "machine/device/port_stub.h"
#include "machine/device/reset.h"
#include "machine/device/serial.h"
#include "machine/io_thread.h"
#include "machine/loop_clock.h"
#include "machine/machine.h"
#include "machine/orderly_stop.h"
#include "machine/pci.h"
#include "machine/places.h"
#include "machine/snapshot/saver.h"
#include "machine/vcpu_threads.h"
#include "machine/virtio/balloon.h"
#include "machine/virtio/block.h"
#include "machine/virtio/console_port.h"
#include "machine/virtio/net.h"
#include "machine/virtio/pci_transport.h"
#include "machine/virtio/scsi.h"
#include "machine/virtio/vmmci.h"

namespace vmhost::machine {

// A descriptor of the spec for an owner of its own; what names it in errors.
Result<Fd> duplicate(int number, std::string_view what);

class RealMachine final : public Machine {
public:
    RealMachine(Loop& loop, const MachineSpec& spec, Console& console,
                std::function<void(MachineEnd)> ended)
        : loop_(loop), spec_(spec), console_(console), ended_(std::move(ended)), keyboard_([this] {
              end({MachineEnd::How::reset, 0, "the keyboard controller"});
          }),
          port_a_([this] {
              end({MachineEnd::How::reset, 0, "port 92h"});
          }),
          debug_exit_([this](std::uint8_t code) {
              end({.how = MachineEnd::How::debug_exit, .code = code});
          }),
          firmware_log_([this](Bytes text) { log_firmware(text); }),
          still_timer_(loop, [this] { look_whether_still(); }), wakeup_(loop, [this] { woken(); }) {
    }
    ~RealMachine() override;

    Result<void> assemble();
    Result<void> start() override;
    void pause(std::function<void()> still) override;
    void unpause() override;
    bool paused() const override { return paused_; }
    bool press_power_button() override;
    bool power_button_pending() const override;
    bool guest_listens() const override;
    MachineCounters counters() const override;
    std::uint64_t resident_bytes() const override;
    void save(Fd out, std::function<void(Result<std::uint64_t>)> done) override;
    StopRequest ask_to_stop(StopTimeouts timeouts) override;
    Result<void> replace_disks(const std::vector<DiskChange>& changes) override;
    Result<void> change_medium(int fd, bool force) override;
    bool tray_open() const override;
    Result<void> set_memory_target(std::uint64_t bytes) override;

private:
    Result<void> make_isa_devices();
    Result<void> make_pci_devices();
    Result<unsigned> add_function(std::unique_ptr<virtio::VirtioDevice> device, Loop& loop,
                                  PciPlace place = {});
    Result<void> add_cdrom();
    Result<void> add_vmmci();
    Result<void> add_network_boot();
    Result<CpuState> load();
    Result<void> make_vcpus();
    CpuModel model_of(unsigned index) const {
        return make_cpu_model(backend_->capabilities(), index, spec_.vcpus, spec_.cpu);
    }
    Result<void> boot();
    Result<void> restore();
    Result<void> restore_vcpus(StreamReader& reader, std::uint64_t away_us);
    Result<void> restore_backend(StreamReader& reader, std::uint64_t away_us);
    MachineIdentity identity();
    std::vector<Part> parts();
    Result<std::vector<Section>> take_state();
    Result<void> add_virtio_console();
    void connect_console();
    void connect_virtio_console();
    void hold_input(bool hold);
    void log_firmware(Bytes text);

    void vcpu_over(unsigned index, Exit exit);
    void end(MachineEnd how);
    void woken();
    void look_whether_still();
    void ask_to_sync_clock();
    void log_nonsense() const;

    Loop& loop_;
    const MachineSpec spec_;
    Console& console_;
    std::function<void(MachineEnd)> ended_;

    GuestMemory memory_;
    Bus bus_;
    std::unique_ptr<LoopClock> clock_;
    std::unique_ptr<Backend> backend_;

    std::unique_ptr<Serial> serial_;
    std::unique_ptr<Cmos> cmos_;
    std::unique_ptr<FwCfg> fw_cfg_;
    std::unique_ptr<AcpiPm> acpi_pm_;
    KeyboardController keyboard_;
    PortA port_a_;
    PostPort post_;
    DebugExit debug_exit_;
    DebugConsole firmware_log_;
    std::string firmware_line_;
    std::uint64_t firmware_second_ = 0; // of the guest clock, and the lines in it
    unsigned firmware_lines_ = 0;

    std::vector<std::unique_ptr<disk::Image>> images_;
    IoThread io_thread_; // of the disks, in pci_
    std::unique_ptr<PciHost> pci_;
    std::vector<virtio::PciTransport*> transports_; // owned by pci_
    std::vector<virtio::Block*> blocks_;            // of images_, owned by pci_
    std::vector<virtio::Net*> nics_;                // owned by pci_
    virtio::Scsi* scsi_ = nullptr;                  // owned by pci_; null without a CD-ROM drive
    virtio::Balloon* balloon_ = nullptr;            // owned by pci_; null without
    virtio::ConsolePort* console_port_ = nullptr;   // owned by pci_; null without
    virtio::Vmmci* vmmci_ = nullptr;                // owned by pci_
    std::unique_ptr<OrderlyStop> orderly_stop_;
    std::vector<BootCandidate> bootable_;
    std::atomic<bool> shutting_down_{false}; // was asked to: a reset is its end

    std::vector<CpuModel> models_; // of vcpus_
    std::unique_ptr<Saver> saver_;
    bool restored_ = false;
    VcpuThreads vcpus_{[this](unsigned index, Exit exit) { vcpu_over(index, std::move(exit)); }};
    std::atomic<bool> paused_{false};
    std::function<void()> still_; // of pause(), until it has been called
    Timer still_timer_;
    std::mutex end_mutex_;
    std::optional<MachineEnd> end_; // under end_mutex_
    Wakeup wakeup_;
};

} // namespace vmhost::machine

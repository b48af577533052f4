// virtio memory balloon (Virtual I/O Device Specification 1.2, section 5.5): the guest's memory
// that it does not use goes back to the host, in two ways.
//
// Target: the host says how much the guest is to give (set_target_bytes); a driver puts pages into
// the balloon until it has that many, and takes them back when the target shrinks or the guest
// runs out of memory (DEFLATE_ON_OOM). Reporting: a driver tells of its free pages in large
// pieces and may use them again at any time without a word; no target is needed for that.
//
// What was given reads as zeros when it is touched again. Nothing of this is trusted to the
// guest's good: it can only give its own memory. What is not RAM, or not whole pages, is left
// alone.
//
// Queues: 0 inflate, 1 deflate, then reporting, at 2 for drivers that leave out the queues of
// features that they do not have (Linux before 6.11) and at 4 for those that count as the
// specification does; 3 is never used.
//
// Threads: activate, reset and write_config from vCPU threads, the rest on the loop thread, all
// under the device lock.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "machine/bus.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class Balloon final : public VirtioDevice {
public:
    static constexpr std::uint16_t queue_size = 128;
    static constexpr std::uint16_t inflate_queue = 0, deflate_queue = 1, report_queue = 2,
                                   report_queue_by_number = 4, queue_count = 5;
    static constexpr std::uint64_t page_bytes = 4096;
    // Page numbers of one request: Linux sends 256 of 4 bytes.
    static constexpr std::size_t max_request_bytes = 64 << 10;
    // Each is a system call for every run of pages, at worst.
    static constexpr unsigned max_requests_per_turn = 16;

    // memory and lock outlive the device.
    Balloon(std::string name, GuestMemory& memory, Bus::Lock& lock);

    std::string_view name() const override { return name_; }
    DeviceType type() const override { return DeviceType::balloon; }
    std::uint64_t features() const override;
    std::vector<std::uint16_t> queue_sizes() const override {
        return std::vector<std::uint16_t>(queue_count, queue_size);
    }
    Bytes config() const override { return config_; }
    // What was asked for and what the guest says it has given; the pages themselves are zero.
    void state(StateArchive& archive) override { archive(config_); }
    void write_config(std::uint64_t offset, Bytes data) override;
    void activate(std::uint64_t driver_features, std::vector<Queue*> queues) override;
    bool notify(std::uint16_t queue) override;
    void reset() override;
    std::uint64_t malformed_requests() const override { return malformed_; }

    // How much the guest is to keep in the balloon; rounded down to pages. False when no driver
    // listens; the target stands for one that comes. Loop thread, without the device lock.
    bool set_target_bytes(std::uint64_t bytes);
    // What the driver says that is in it. The device lock is held.
    std::uint64_t actual_bytes() const;
    // Given back since the machine was built, by either way; what came back is not counted off.
    std::uint64_t given_bytes() const { return given_bytes_; }

private:
    void inflate(Chain chain);
    void report(Chain chain);
    void give(Gpa start, std::uint64_t length_bytes);

    std::string name_;
    GuestMemory& memory_;
    Bus::Lock& lock_;
    std::array<std::uint8_t, 8> config_{};
    std::array<Queue*, queue_count> queues_{};
    bool active_ = false;
    std::uint64_t malformed_ = 0, given_bytes_ = 0;
};

} // namespace vmhost::machine::virtio

// virtio console (Virtual I/O Device Specification 1.2, section 5.3) with one port: a line for
// text as the serial one is, but whole buffers at a time, and with the size of the terminal at
// its far end (F_SIZE).
//
// Output of a request goes on at once. Input is put into the buffers that the driver has made
// ready, a buffer for each piece; what finds none is not taken, so it waits with whoever typed
// it, as long as it takes for a driver to come.
//
// Queues: 0 to the guest, 1 from it. Without MULTIPORT there are no control queues.
//
// Threads: activate and reset from vCPU threads, the rest on the loop thread, all under the
// device lock; receive() and set_size() take it.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "machine/bus.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class ConsolePort final : public VirtioDevice {
public:
    static constexpr std::uint16_t queue_size = 64;
    static constexpr std::uint16_t receive_queue = 0, transmit_queue = 1, queue_count = 2;
    static constexpr std::uint64_t feature_size = 1 << 0;
    // A driver's buffers are a page at most (Linux), or a few.
    static constexpr std::uint64_t max_request_bytes = 64 << 10;
    // Each is copied into the ring of the readers.
    static constexpr unsigned max_requests_per_turn = 16;

    struct Hooks {
        std::function<void(Bytes)> output;
        std::function<void()> input_space; // receive() may take more now
    };
    // lock outlives the device. The hooks are called on the loop thread, under it.
    ConsolePort(std::string name, Bus::Lock& lock, Hooks hooks);

    std::string_view name() const override { return name_; }
    DeviceType type() const override { return DeviceType::console; }
    std::uint64_t features() const override { return feature_size; }
    std::vector<std::uint16_t> queue_sizes() const override {
        return std::vector<std::uint16_t>(queue_count, queue_size);
    }
    Bytes config() const override { return config_; }
    void activate(std::uint64_t driver_features, std::vector<Queue*> queues) override;
    bool notify(std::uint16_t queue) override;
    void reset() override { queues_ = {}; }
    void pause() override { paused_ = true; }
    void resume() override { paused_ = false; }
    // The size that the driver has been told.
    void state(StateArchive& archive) override { archive(config_); }
    std::uint64_t malformed_requests() const override { return malformed_; }

    // How much of the input the driver has room for. The rest is asked for by input_space.
    std::size_t receive(Bytes input);
    // Of the terminal; 0 x 0 is not known.
    void set_size(std::uint16_t columns, std::uint16_t rows);

private:
    bool transmit(Queue& queue);
    void put_out(Chain chain);

    std::string name_;
    Bus::Lock& lock_;
    Hooks hooks_;
    std::array<std::uint8_t, 4> config_{}; // columns, rows
    std::array<Queue*, queue_count> queues_{};
    bool paused_ = false;
    std::uint64_t malformed_ = 0;
};

} // namespace vmhost::machine::virtio

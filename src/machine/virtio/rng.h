// virtio entropy (Virtual I/O Device Specification 1.2, section 5.4): fills each
// request from the host's getrandom(2), which never waits once the host is up.
//
// Threads: notify on the loop thread, the rest from vCPU threads, all under the
// device lock.
#pragma once

#include <string>

#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class Rng final : public VirtioDevice {
public:
    static constexpr std::uint16_t queue_size = 64;

    explicit Rng(std::string name) : name_(std::move(name)) {}

    std::string_view name() const override { return name_; }
    DeviceType type() const override { return DeviceType::rng; }
    std::uint64_t features() const override { return 0; }
    std::vector<std::uint16_t> queue_sizes() const override { return {queue_size}; }
    Bytes config() const override { return {}; }
    void activate(std::uint64_t driver_features, std::vector<Queue*> queues) override;
    bool notify(std::uint16_t queue) override;
    void reset() override { requests_ = nullptr; }
    void state(StateArchive&) override {}
    std::uint64_t malformed_requests() const override { return malformed_; }

private:
    void serve(Chain chain);

    std::string name_;
    Queue* requests_ = nullptr;
    std::uint64_t malformed_ = 0;
};

} // namespace vmhost::machine::virtio

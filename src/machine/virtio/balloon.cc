// Requests of the inflate and deflate queues are readable arrays of 32-bit page numbers (5.5.6);
// a report is writable buffers, which are the free pages themselves (5.5.6.7).
#include "machine/virtio/balloon.h"

#include <algorithm>

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint64_t feature_deflate_on_oom = 1 << 2, feature_reporting = 1 << 5;
constexpr std::size_t target_offset = 0, actual_offset = 4;

} // namespace

Balloon::Balloon(std::string name, GuestMemory& memory, Bus::Lock& lock)
    : name_(std::move(name)), memory_(memory), lock_(lock) {}

std::uint64_t Balloon::features() const {
    return feature_deflate_on_oom | feature_reporting;
}

void Balloon::write_config(std::uint64_t offset, Bytes data) {
    if (offset == actual_offset && data.size() == 4)
        std::ranges::copy(data, config_.begin() + actual_offset);
}

void Balloon::activate(std::uint64_t, std::vector<Queue*> queues) {
    std::ranges::copy(queues, queues_.begin());
    active_ = true;
}

// What was in the balloon is the guest's again: it begins anew.
void Balloon::reset() {
    queues_ = {};
    active_ = false;
    store_le<std::uint32_t>(MutableBytes(config_).subspan(actual_offset), 0);
}

bool Balloon::notify(std::uint16_t index) {
    Queue* queue = queues_[index];
    if (queue == nullptr)
        return false;
    queue->want_notifications(false);
    bool more = true;
    for (unsigned taken = 0; more && taken < max_requests_per_turn; ++taken) {
        auto chain = queue->pop_or_wait();
        more = chain.has_value();
        if (!chain)
            continue;
        if (index == inflate_queue)
            inflate(std::move(*chain));
        else if (index == deflate_queue)
            chain->complete(0); // touching the pages is enough
        else
            report(std::move(*chain));
    }
    queue->signal_used();
    return more;
}

// Neighbours are given back together: drivers often send runs.
void Balloon::inflate(Chain chain) {
    const auto bytes = chain.readable_bytes();
    if (bytes % 4 != 0 || bytes > max_request_bytes ||
        chain.writable_bytes() != 0) {
        ++malformed_;
        return chain.complete(0);
    }
    std::vector<std::uint8_t> raw(bytes);
    chain.read(0, raw);
    ByteReader reader(raw);
    std::vector<std::uint32_t> pages(bytes / 4);
    for (auto& page : pages)
        page = reader.le<std::uint32_t>();
    std::ranges::sort(pages);
    for (std::size_t i = 0; i < pages.size();) {
        std::size_t end = i + 1;
        while (end < pages.size() && pages[end] - pages[end - 1] <= 1)
            ++end;
        give(pages[i] * page_bytes, (std::uint64_t{pages[end - 1]} - pages[i] + 1) * page_bytes);
        i = end;
    }
    chain.complete(0);
}

void Balloon::report(Chain chain) {
    if (chain.readable_bytes() != 0)
        ++malformed_;
    for (const auto& segment : chain.writable())
        give(segment.address, segment.length);
    chain.complete(0);
}

void Balloon::give(Gpa start, std::uint64_t length_bytes) {
    if (auto given = memory_.give_back(start, length_bytes); given != 0)
        given_bytes_ += given;
    else
        ++malformed_;
}

bool Balloon::set_target_bytes(std::uint64_t bytes) {
    std::scoped_lock guard(lock_);
    auto pages =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes / page_bytes, UINT32_MAX));
    auto target = MutableBytes(config_).subspan(target_offset);
    if (load_le<std::uint32_t>(target) != pages) {
        store_le(target, pages);
        config_changed();
    }
    return active_;
}

std::uint64_t Balloon::actual_bytes() const {
    return load_le<std::uint32_t>(Bytes(config_).subspan(actual_offset)) * page_bytes;
}

} // namespace vmhost::machine::virtio

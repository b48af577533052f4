#include "machine/bus.h"

#include <algorithm>

namespace vmhost::machine {

namespace {

// Exclusive end of a space; memory ends one byte early, so that ends fit into 64 bits.
std::uint64_t end_of(Space space) {
    return space == Space::port ? 0x10000 : ~std::uint64_t{0};
}

std::string_view word_for(Space space) {
    return space == Space::port ? "port" : "memory";
}

} // namespace

Result<void> Bus::insert(Space space, std::uint64_t base, std::uint64_t size, Device& device) {
    std::scoped_lock guard(lock_);
    if (size == 0 || !range_fits(base, size, end_of(space)))
        return fail(ErrorKind::invalid, "{} range {:#x}+{:#x} of {}: outside the space",
                    word_for(space), base, size, device.name());
    auto& all = ranges(space);
    auto next = all.upper_bound(base);
    const Device* other = nullptr;
    if (next != all.end() && next->first - base < size)
        other = next->second.device;
    if (next != all.begin()) {
        auto previous = std::prev(next);
        if (base - previous->first < previous->second.size)
            other = previous->second.device;
    }
    if (other != nullptr)
        return fail(ErrorKind::exists, "{} range {:#x}+{:#x} of {}: overlaps {}", word_for(space),
                    base, size, device.name(), other->name());
    all.emplace(base, Slot{size, &device});
    return {};
}

void Bus::remove(Space space, std::uint64_t base) {
    std::scoped_lock guard(lock_);
    ranges(space).erase(base);
}

Bus::Slot* Bus::find(Space space, std::uint64_t address, std::uint64_t& base) {
    auto& all = ranges(space);
    auto next = all.upper_bound(address);
    if (next == all.begin())
        return nullptr;
    auto found = std::prev(next);
    if (address - found->first >= found->second.size)
        return nullptr;
    base = found->first;
    return &found->second;
}

// Served whole by one range?
bool Bus::whole(const Slot* slot, std::uint64_t offset, std::size_t size) {
    return slot != nullptr && (size == 1 || size == 2 || size == 4 || size == 8) &&
           range_fits(offset, size, slot->size);
}

// Does any byte of [address, address + size) belong to a range?
bool Bus::touches(Space space, std::uint64_t address, std::size_t size) {
    std::uint64_t base = 0;
    if (find(space, address, base) != nullptr)
        return true;
    auto next = ranges(space).upper_bound(address);
    return next != ranges(space).end() && next->first - address < size;
}

// A device call may insert and remove ranges, so nothing found before it is used after it.
void Bus::read(Space space, std::uint64_t address, MutableBytes data) {
    std::scoped_lock guard(lock_);
    std::uint64_t base = 0;
    Slot* slot = find(space, address, base);
    if (whole(slot, address - base, data.size())) {
        slot->device->read(address - base, data);
    } else if (data.size() > 1 && touches(space, address, data.size())) {
        for (std::size_t i = 0; i < data.size(); ++i)
            read(space, address + i, data.subspan(i, 1));
    } else {
        std::ranges::fill(data, std::uint8_t{0xff});
        ++counters_.unclaimed_reads;
    }
}

void Bus::write(Space space, std::uint64_t address, Bytes data) {
    std::scoped_lock guard(lock_);
    std::uint64_t base = 0;
    Slot* slot = find(space, address, base);
    if (whole(slot, address - base, data.size())) {
        slot->device->write(address - base, data);
    } else if (data.size() > 1 && touches(space, address, data.size())) {
        for (std::size_t i = 0; i < data.size(); ++i)
            write(space, address + i, data.subspan(i, 1));
    } else {
        ++counters_.unclaimed_writes;
    }
}

Bus::Counters Bus::counters() const {
    std::scoped_lock guard(lock_);
    return counters_;
}

} // namespace vmhost::machine

// The driver's side of a virtqueue, written like the specification's examples and
// able to break every rule: chain().readable({…}).writable(512).submit().
//
// Layout: rings at `base`, buffers and indirect tables from `heap` upwards, never reused.
#pragma once

#include <catch2/catch.hpp>

#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "machine/virtio/queue.h"

namespace vmhost::test {

using machine::Gpa;
using machine::GuestMemory;

inline constexpr std::uint16_t f_next = 1, f_write = 2, f_indirect = 4; // descriptor flags

struct Descriptor {
    Gpa address = 0;
    std::uint32_t length = 0;
    std::uint16_t flags = 0;
    std::uint16_t following = 0;
};

struct Used {
    std::uint32_t id = 0;
    std::uint32_t length = 0;
    bool operator==(const Used&) const = default;
};

class RingDriver;

struct Submitted {
    std::uint16_t head = 0;
    std::vector<Descriptor> buffers; // in order
};

class ChainBuilder {
public:
    explicit ChainBuilder(RingDriver& driver) : driver_(driver) {}
    ChainBuilder& readable(Bytes content);
    ChainBuilder& readable(std::size_t size_bytes, std::uint8_t value);
    ChainBuilder& writable(std::size_t size_bytes, std::uint8_t before = 0xaa);
    ChainBuilder& raw(Gpa address, std::uint32_t length, std::uint16_t flags = 0) {
        buffers_.push_back({address, length, flags, 0});
        return *this;
    }
    ChainBuilder& through_indirect_table() {
        indirect_ = true;
        return *this;
    }
    // Writes descriptors and ring entry; publish() makes the index follow.
    Submitted prepare();
    Submitted submit();

private:
    RingDriver& driver_;
    std::vector<Descriptor> buffers_;
    bool indirect_ = false;
};

class RingDriver {
public:
    RingDriver(GuestMemory& memory, Gpa base, std::uint16_t size, Gpa heap)
        : memory_(memory), size_(size), heap_(heap) {
        addresses_.descriptors = base;
        addresses_.available = base + 16ULL * size;
        addresses_.used = (addresses_.available + 6 + 2ULL * size + 4095) & ~Gpa{4095};
        std::vector<std::uint8_t> zeros(addresses_.used + 6 + 8ULL * size - base);
        REQUIRE(memory_.write(base, zeros));
    }

    const machine::virtio::QueueAddresses& addresses() const { return addresses_; }
    std::uint16_t size() const { return size_; }
    GuestMemory& memory() { return memory_; }

    ChainBuilder chain() { return ChainBuilder(*this); }

    Gpa allocate(std::size_t size_bytes, std::size_t alignment = 16) {
        heap_ = (heap_ + alignment - 1) & ~Gpa{alignment - 1};
        auto at = heap_;
        heap_ += size_bytes;
        return at;
    }
    Gpa place(Bytes content) {
        auto at = allocate(content.size());
        REQUIRE(memory_.write(at, content));
        return at;
    }
    std::vector<std::uint8_t> contents(const Descriptor& buffer) const {
        std::vector<std::uint8_t> bytes(buffer.length);
        REQUIRE(memory_.read(buffer.address, bytes));
        return bytes;
    }

    void put_descriptor(Gpa table, std::uint16_t index, const Descriptor& descriptor) {
        ByteWriter raw;
        raw.le(descriptor.address);
        raw.le(descriptor.length);
        raw.le(descriptor.flags);
        raw.le(descriptor.following);
        REQUIRE(memory_.write(table + 16ULL * index, raw.buffer()));
    }
    void put_descriptor(std::uint16_t index, const Descriptor& descriptor) {
        put_descriptor(addresses_.descriptors, index, descriptor);
    }
    // A free descriptor of the ring; they are handed out round and round.
    std::uint16_t next_descriptor() {
        return static_cast<std::uint16_t>(next_descriptor_++ % size_);
    }
    void offer(std::uint16_t head) {
        memory_.write_le<std::uint16_t>(addresses_.available + 4 + 2ULL * (available_ % size_),
                                        head);
        ++available_;
    }
    void publish() { set_available_index(available_); }
    void set_available_index(std::uint16_t index) {
        memory_.write_le<std::uint16_t>(addresses_.available + 2, index);
    }
    void set_available_flags(std::uint16_t flags) {
        memory_.write_le<std::uint16_t>(addresses_.available, flags);
    }
    void set_used_event(std::uint16_t index) {
        memory_.write_le<std::uint16_t>(addresses_.available + 4 + 2ULL * size_, index);
    }
    std::uint16_t available_event() const {
        return *memory_.read_le<std::uint16_t>(addresses_.used + 4 + 8ULL * size_);
    }
    std::uint16_t used_flags() const { return *memory_.read_le<std::uint16_t>(addresses_.used); }
    std::uint16_t used_index() const {
        return *memory_.read_le<std::uint16_t>(addresses_.used + 2);
    }
    std::uint16_t available_index() const { return available_; }
    // As after a reset of the device.
    void start_over() {
        available_ = used_ = 0;
        std::vector<std::uint8_t> zeros(addresses_.used + 6 + 8ULL * size_ - addresses_.available);
        REQUIRE(memory_.write(addresses_.available, zeros));
    }

    // The next chain that came back, if any.
    std::optional<Used> used() {
        if (used_index() == used_)
            return std::nullopt;
        auto entry = addresses_.used + 4 + 8ULL * (used_ % size_);
        ++used_;
        return Used{*memory_.read_le<std::uint32_t>(entry),
                    *memory_.read_le<std::uint32_t>(entry + 4)};
    }

private:
    GuestMemory& memory_;
    machine::virtio::QueueAddresses addresses_;
    std::uint16_t size_;
    Gpa heap_;
    std::uint32_t next_descriptor_ = 0;
    std::uint16_t available_ = 0, used_ = 0;
};

inline ChainBuilder& ChainBuilder::readable(Bytes content) {
    return raw(driver_.place(content), static_cast<std::uint32_t>(content.size()));
}
inline ChainBuilder& ChainBuilder::readable(std::size_t size_bytes, std::uint8_t value) {
    return readable(std::vector<std::uint8_t>(size_bytes, value));
}
inline ChainBuilder& ChainBuilder::writable(std::size_t size_bytes, std::uint8_t before) {
    std::vector<std::uint8_t> content(size_bytes, before);
    return raw(driver_.place(content), static_cast<std::uint32_t>(size_bytes), f_write);
}

inline Submitted ChainBuilder::prepare() {
    Submitted result;
    result.buffers = buffers_;
    auto table = driver_.addresses().descriptors;
    std::vector<std::uint16_t> indexes;
    if (indirect_) {
        table = driver_.allocate(16 * buffers_.size());
        for (std::uint16_t i = 0; i < buffers_.size(); ++i)
            indexes.push_back(i);
        result.head = driver_.next_descriptor();
        driver_.put_descriptor(
            result.head, {table, static_cast<std::uint32_t>(16 * buffers_.size()), f_indirect, 0});
    } else {
        for (std::size_t i = 0; i < buffers_.size(); ++i)
            indexes.push_back(driver_.next_descriptor());
        result.head = indexes.empty() ? 0 : indexes.front();
    }
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
        auto descriptor = buffers_[i];
        if (i + 1 < buffers_.size()) {
            descriptor.flags |= f_next;
            descriptor.following = indexes[i + 1];
        }
        driver_.put_descriptor(table, indexes[i], descriptor);
    }
    driver_.offer(result.head);
    return result;
}

inline Submitted ChainBuilder::submit() {
    auto result = prepare();
    driver_.publish();
    return result;
}

} // namespace vmhost::test

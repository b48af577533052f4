// The MSI-X structures of one PCI function (PCI Local Bus Specification 3.0, section
// 6.8.2): a table of messages and the array of pending bits, in a memory BAR that
// they have for themselves:
//
//   0            vectors × {u64 address, u32 data, u32 control (bit 0 = masked)}
//   half way up  one pending bit per vector, read-only
//
// A message is a write by the device: it needs MSI-X enabled, bus mastering, and neither the
// vector nor the function masked; until then its pending bit waits. The table is storage
// by the byte, so that an access of any width and alignment is served, if not atomically.
//
// Threads: under the device lock of the Bus.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/snapshot/state_archive.h"

namespace vmhost::machine {

class MsixTable final : public Device {
public:
    // One vector for each of many queues and one more; the specification allows 2048.
    static constexpr unsigned max_vectors = 128;

    MsixTable(std::string name, unsigned vectors); // vectors is cut at max_vectors

    unsigned vectors() const { return vectors_; }
    std::uint32_t bar_bytes() const { return 2 * pending_offset_; }
    std::uint32_t pending_offset() const { return pending_offset_; }

    void connect(Interrupts& interrupts) { interrupts_ = &interrupts; }
    // From the function's configuration space. Disabling forgets what was pending.
    void control(bool enabled, bool may_send);
    // Sends the vector's message, now or when it may be sent. A vector that is not there (the
    // guest chooses them) sends nothing.
    void raise(unsigned vector);
    // What raise() would send now; nothing while it would wait.
    struct Message {
        std::uint64_t address = 0;
        std::uint32_t data = 0;
        bool operator==(const Message&) const = default;
    };
    std::optional<Message> message(unsigned vector) const;
    // Called when the guest has written to the table.
    void on_change(std::function<void()> changed) { changed_ = std::move(changed); }
    // After control() when loading; sends nothing.
    void state(StateArchive& archive);
    // Messages that the interrupt controller would not take.
    std::uint64_t refused_messages() const { return refused_; }

    std::string_view name() const override { return name_; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    static constexpr std::size_t entry_bytes = 16;
    bool masked(unsigned vector) const { return table_[entry_bytes * vector + 12] & 1; }
    void send_pending(unsigned vector);

    std::string name_;
    unsigned vectors_;
    std::uint32_t pending_offset_;
    std::vector<std::uint8_t> table_;   // guest-controlled
    std::vector<std::uint8_t> pending_; // a bit each
    bool may_send_ = false;
    Interrupts* interrupts_ = nullptr;
    std::function<void()> changed_;
    std::uint64_t refused_ = 0;
};

} // namespace vmhost::machine

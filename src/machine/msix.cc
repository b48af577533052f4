#include "machine/msix.h"

#include <algorithm>
#include <bit>

namespace vmhost::machine {

namespace {

// Half a page, the table's half: any number of vectors that a device has needs no more.
constexpr std::uint32_t least_half_bytes = 2048;

// Which bits of an entry's bytes the guest may write: the address is one of a dword, and of the
// control word only the mask exists.
constexpr std::uint8_t writable_bits(std::uint64_t byte) {
    return byte == 0 ? 0xfc : byte < 12 ? 0xff : byte == 12 ? 0x01 : 0x00;
}

} // namespace

MsixTable::MsixTable(std::string name, unsigned vectors)
    : name_(std::move(name)), vectors_(std::clamp(vectors, 1U, max_vectors)),
      pending_offset_(std::max(least_half_bytes,
                               std::bit_ceil(static_cast<std::uint32_t>(entry_bytes * vectors_)))),
      table_(entry_bytes * vectors_), pending_((vectors_ + 63) / 64 * 8) {
    for (unsigned vector = 0; vector < vectors_; ++vector)
        table_[entry_bytes * vector + 12] = 1; // masked until the guest has filled it in
}

void MsixTable::control(bool enabled, bool may_send) {
    may_send_ = enabled && may_send;
    if (!enabled)
        std::ranges::fill(pending_, std::uint8_t{0});
    for (unsigned vector = 0; may_send_ && vector < vectors_; ++vector)
        send_pending(vector);
}

void MsixTable::raise(unsigned vector) {
    if (vector >= vectors_)
        return;
    pending_[vector / 8] |= static_cast<std::uint8_t>(1U << vector % 8);
    send_pending(vector);
}

std::optional<MsixTable::Message> MsixTable::message(unsigned vector) const {
    if (vector >= vectors_ || !may_send_ || masked(vector))
        return std::nullopt;
    auto entry = Bytes(table_).subspan(entry_bytes * vector, entry_bytes);
    return Message{load_le<std::uint64_t>(entry), load_le<std::uint32_t>(entry.subspan(8))};
}

void MsixTable::send_pending(unsigned vector) {
    auto bit = static_cast<std::uint8_t>(1U << vector % 8);
    auto& pending = pending_[vector / 8];
    if (!(pending & bit) || !may_send_ || masked(vector) || interrupts_ == nullptr)
        return;
    pending &= static_cast<std::uint8_t>(~bit);
    const auto [address, data] = message(vector).value_or(Message{});
    if (interrupts_->send_msi(address, data))
        return;
    if (refused_++ == 0)
        log::notice("pci", "{}: vector {} of the guest has no interrupt at {:#x}", name_, vector,
                    address);
}

void MsixTable::state(StateArchive& archive) {
    archive.same(vectors_, "number of MSI-X vectors");
    archive.bytes(MutableBytes(table_));
    archive.bytes(MutableBytes(pending_));
    for (std::size_t at = 0; archive.loading() && at < table_.size(); ++at)
        table_[at] &= writable_bits(at % entry_bytes);
}

void MsixTable::read(std::uint64_t offset, MutableBytes data) {
    for (auto& byte : data) {
        byte = 0;
        if (offset < table_.size())
            byte = table_[offset];
        else if (offset >= pending_offset_ && offset - pending_offset_ < pending_.size())
            byte = pending_[offset - pending_offset_];
        ++offset;
    }
}

void MsixTable::write(std::uint64_t offset, Bytes data) {
    if (offset >= table_.size())
        return;
    data = data.first(std::min<std::uint64_t>(data.size(), table_.size() - offset));
    for (std::size_t i = 0; i < data.size(); ++i) {
        auto mask = writable_bits((offset + i) % entry_bytes);
        auto& byte = table_[offset + i];
        byte = static_cast<std::uint8_t>((byte & ~mask) | (data[i] & mask));
    }
    for (auto vector = offset / entry_bytes; vector <= (offset + data.size() - 1) / entry_bytes;
         ++vector)
        send_pending(static_cast<unsigned>(vector));
    if (changed_)
        changed_();
}

} // namespace vmhost::machine

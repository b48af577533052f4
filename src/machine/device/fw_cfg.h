// QEMU's firmware configuration device, as far as SeaBIOS and guests' drivers use
// it: numbered items and named files, read through a byte port or by DMA (QEMU's
// specification "fw_cfg", docs/specs/fw_cfg).
//
// Ports 0x510..0x51b are one range: 0x510 selector (16 bits, little-endian, write
// only), 0x511 data, 0x514 and 0x518 the two big-endian halves of a DMA descriptor's
// address; the write of the low half starts the transfer. Transfers are carried out
// at once, under the device lock, and therefore bounded.
//
// A descriptor is {u32 control, u32 length, u64 address}, big-endian; when the
// transfer is done control becomes 0 or, on any failure, 1. Nothing can be written
// to an item. Past an item's end reads give zeros.
//
// Threads: items are added while the machine is built; accesses under the device lock.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "machine/bus.h"
#include "machine/memory.h"
#include "machine/snapshot/state_archive.h"

namespace vmhost::machine {

class FwCfg final : public Device {
public:
    static constexpr std::uint64_t first_port = 0x510, port_count = 12;
    static constexpr std::size_t max_name_bytes = 55;
    static constexpr std::uint16_t first_file = 0x20;
    static constexpr std::size_t max_items = 256; // in a saved state; a machine has some twenty

    explicit FwCfg(GuestMemory& memory);

    // A file in the directory, which is sorted by name. Replaces one of the same name.
    void add_file(std::string name, std::vector<std::uint8_t> content);
    // An item below the files' selectors, or with bit 15 set.
    void add_item(std::uint16_t selector, std::vector<std::uint8_t> content);

    // With all items: the guest goes on reading what it was given, whatever would be made today.
    void state(StateArchive& archive);

    std::uint64_t failed_transfers() const { return failed_transfers_; }

    std::string_view name() const override { return "fw_cfg"; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    void write_directory();
    void select(std::uint16_t selector);
    Bytes rest() const; // of the selected item
    void advance(std::uint64_t count);
    void transfer(Gpa descriptor);
    bool transfer_data(std::uint32_t control, std::uint32_t length, Gpa address);

    GuestMemory& memory_;
    std::map<std::uint16_t, std::vector<std::uint8_t>> items_;
    std::map<std::string, std::vector<std::uint8_t>, std::less<>> files_;
    std::map<std::uint16_t, const std::vector<std::uint8_t>*> file_selectors_;
    std::uint16_t selected_ = 0;
    std::uint64_t position_ = 0;
    std::uint64_t dma_address_ = 0;
    std::uint64_t failed_transfers_ = 0;
};

// One row of the firmware's memory map, type as in e820: 1 RAM, 2 reserved.
struct MemoryMapRow {
    std::uint64_t start = 0, size = 0;
    std::uint32_t type = 1;
};

// What SeaBIOS reads on a machine like this: memory map and size, processors, the serial console,
// no boot menu, the boot order (empty = the firmware's own), and to stay put when nothing boots.
void add_platform_files(FwCfg& fw_cfg, std::span<const MemoryMapRow> memory_map, unsigned vcpus,
                        std::string_view boot_order);

} // namespace vmhost::machine

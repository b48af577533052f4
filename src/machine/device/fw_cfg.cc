#include "machine/device/fw_cfg.h"

#include <algorithm>

#include "machine/snapshot/stream.h"

namespace vmhost::machine {

namespace {

enum Item : std::uint16_t {
    signature = 0x00,
    interface_version = 0x01,
    ram_size = 0x03,
    no_graphics = 0x04,
    processors = 0x05,
    boot_menu = 0x0e,
    max_processors = 0x0f,
    directory = 0x19,
};
// Bit 14 of a selector asked for a write channel once; it selects nothing.
constexpr std::uint16_t write_channel = 0x4000;

constexpr std::uint64_t selector_offset = 0, data_offset = 1, dma_offset = 4, dma_low_offset = 8;
constexpr std::string_view dma_signature = "QEMU CFG";

constexpr std::uint32_t dma_error = 0x01, dma_read = 0x02, dma_skip = 0x04, dma_select = 0x08,
                        dma_write = 0x10;
constexpr std::uint64_t descriptor_bytes = 16;

template <WireInteger T>
std::vector<std::uint8_t> little(T value) {
    std::vector<std::uint8_t> raw(sizeof(T));
    store_le(MutableBytes(raw), value);
    return raw;
}

} // namespace

FwCfg::FwCfg(GuestMemory& memory) : memory_(memory) {
    auto text = as_bytes("QEMU");
    items_[signature] = {text.begin(), text.end()};
    items_[interface_version] = little<std::uint32_t>(3); // the byte port and DMA
    write_directory();
}

void FwCfg::add_file(std::string file, std::vector<std::uint8_t> content) {
    if (file.empty() || file.size() > max_name_bytes) {
        log::error("fw_cfg", "file \"{}\": a name has 1 to {} bytes", printable(file),
                   max_name_bytes);
        return;
    }
    files_[std::move(file)] = std::move(content);
    write_directory();
}

void FwCfg::add_item(std::uint16_t selector, std::vector<std::uint8_t> content) {
    items_[selector] = std::move(content);
}

// u32 count, then {u32 size, u16 selector, u16 0, name[56]} per file, all big-endian.
void FwCfg::write_directory() {
    ByteWriter writer;
    writer.be(static_cast<std::uint32_t>(files_.size()));
    file_selectors_.clear();
    auto selector = first_file;
    for (const auto& [file, content] : files_) {
        writer.be(static_cast<std::uint32_t>(content.size()));
        writer.be(selector);
        writer.be(std::uint16_t{0});
        writer.bytes(as_bytes(file));
        writer.zeros(max_name_bytes + 1 - file.size());
        file_selectors_[selector++] = &content;
    }
    items_[directory] = writer.take();
}

void FwCfg::select(std::uint16_t selector) {
    selected_ = selector & static_cast<std::uint16_t>(~write_channel);
    position_ = 0;
}

Bytes FwCfg::rest() const {
    Bytes content;
    if (auto file = file_selectors_.find(selected_); file != file_selectors_.end())
        content = *file->second;
    else if (auto item = items_.find(selected_); item != items_.end())
        content = item->second;
    return content.subspan(std::min<std::uint64_t>(position_, content.size()));
}

// The position stays within the item, so that no number of reads can make it wrap.
void FwCfg::advance(std::uint64_t count) {
    position_ += std::min<std::uint64_t>(count, rest().size());
}

bool FwCfg::transfer_data(std::uint32_t control, std::uint32_t length, Gpa address) {
    if (control & dma_select)
        select(static_cast<std::uint16_t>(control >> 16));
    if (control & dma_read) {
        // The whole target is checked before the first byte is written.
        if (length > limits::max_fw_cfg_transfer_bytes || !memory_.slice(address, length))
            return false;
        auto data = rest();
        data = data.first(std::min<std::size_t>(length, data.size()));
        advance(data.size());
        return memory_.write(address, data) &&
               memory_.fill(address + data.size(), 0, length - data.size());
    }
    if (control & dma_write)
        return false;
    if (control & dma_skip)
        advance(length);
    return true;
}

void FwCfg::transfer(Gpa descriptor) {
    std::uint8_t raw[descriptor_bytes];
    bool ok = memory_.read(descriptor, raw);
    if (ok) {
        ByteReader reader(raw);
        auto control = reader.be<std::uint32_t>();
        auto length = reader.be<std::uint32_t>();
        auto address = reader.be<std::uint64_t>();
        ok = transfer_data(control, length, address);
        std::uint8_t result[4];
        store_be(MutableBytes(result), ok ? 0 : dma_error);
        ok &= memory_.write(descriptor, result);
    }
    if (!ok)
        failed_transfers_++;
}

void FwCfg::state(StateArchive& archive) {
    struct Item {
        std::uint16_t selector = 0;
        std::vector<std::uint8_t> content;
        void state(StateArchive& to) {
            to(selector);
            to.bytes(content, max_state_section_bytes, "item");
        }
    };
    struct File {
        std::string name;
        std::vector<std::uint8_t> content;
        void state(StateArchive& to) {
            to.text(name, max_name_bytes, "file name");
            to.bytes(content, max_state_section_bytes, "file");
        }
    };
    std::vector<Item> items;
    std::vector<File> files;
    if (!archive.loading()) {
        for (const auto& [selector, content] : items_)
            if (selector != directory)
                items.push_back({selector, content});
        for (const auto& [file, content] : files_)
            files.push_back({file, content});
    }
    archive.list(items, max_items, "items");
    archive.list(files, max_items, "files");
    archive(selected_, position_, dma_address_);
    if (!archive.loading() || !archive.ok())
        return;
    items_.clear();
    files_.clear();
    for (auto& item : items)
        items_[item.selector] = std::move(item.content);
    for (auto& file : files)
        add_file(std::move(file.name), std::move(file.content));
    write_directory();
    auto position = std::exchange(position_, 0);
    advance(position); // no further than the item goes
}

void FwCfg::read(std::uint64_t offset, MutableBytes data) {
    for (std::size_t i = 0; i < data.size(); i++) {
        auto at = offset + i;
        data[i] = 0xff;
        if (at == data_offset) {
            auto left = rest();
            data[i] = left.empty() ? 0 : left[0];
            advance(1);
        } else if (at >= dma_offset && at - dma_offset < dma_signature.size()) {
            data[i] = static_cast<std::uint8_t>(dma_signature[at - dma_offset]);
        }
    }
}

void FwCfg::write(std::uint64_t offset, Bytes data) {
    if (offset == selector_offset && data.size() == 2) {
        select(load_le<std::uint16_t>(data));
    } else if (offset == dma_offset && data.size() == 4) {
        dma_address_ = std::uint64_t{load_be<std::uint32_t>(data)} << 32;
    } else if (offset == dma_low_offset && data.size() == 4) {
        transfer(std::exchange(dma_address_, 0) | load_be<std::uint32_t>(data));
    } else if (offset == dma_offset && data.size() == 8) {
        dma_address_ = 0;
        transfer(load_be<std::uint64_t>(data));
    }
}

void add_platform_files(FwCfg& fw_cfg, std::span<const MemoryMapRow> memory_map, unsigned vcpus,
                        std::string_view boot_order) {
    std::uint64_t ram_bytes = 0;
    ByteWriter e820;
    for (const auto& row : memory_map) {
        e820.le(row.start);
        e820.le(row.size);
        e820.le(row.type);
        if (row.type == 1)
            ram_bytes += row.size;
    }
    auto count = static_cast<std::uint16_t>(vcpus);
    fw_cfg.add_item(ram_size, little(ram_bytes));
    fw_cfg.add_item(no_graphics, little<std::uint16_t>(1));
    fw_cfg.add_item(processors, little(count));
    fw_cfg.add_item(max_processors, little(count));
    fw_cfg.add_item(boot_menu, little<std::uint16_t>(0));

    fw_cfg.add_file("etc/e820", e820.take());
    fw_cfg.add_file("etc/show-boot-menu", little<std::uint16_t>(0));
    fw_cfg.add_file("etc/sercon-port", little<std::uint64_t>(0x3f8));
    // Not also to the serial port as debug output: every character would come twice.
    fw_cfg.add_file("etc/screen-and-debug", little<std::uint32_t>(0));
    // Milliseconds until the next try; this value says never.
    fw_cfg.add_file("etc/boot-fail-wait", little<std::uint32_t>(UINT32_MAX));
    if (!boot_order.empty()) {
        ByteWriter text;
        text.bytes(as_bytes(boot_order));
        text.le(std::uint8_t{0});
        fw_cfg.add_file("bootorder", text.take());
    }
}

} // namespace vmhost::machine

// ACPI tables for firmware: two files and the commands that put them in place
// (QEMU's linker-loader: docs/specs and hw/acpi/bios-linker-loader of its sources
// describe the format; SeaBIOS and OVMF execute it).
//
// A command has 128 bytes: u32 number, operands, zeros. Files are named in 56 bytes.
#include "machine/acpi/acpi.h"
#include "machine/acpi/header.h"

namespace vmhost::machine::acpi {

namespace {

constexpr std::size_t command_bytes = 128, file_bytes = 56;
constexpr std::string_view tables_file = "etc/acpi/tables", rsdp_file = "etc/acpi/rsdp";

class Commands {
public:
    enum class Zone : std::uint8_t { anywhere = 1, bios_area = 2 };
    void allocate(std::string_view file, std::uint32_t alignment, Zone zone) {
        begin(1);
        put_name(file);
        out_.le(alignment);
        out_.le(static_cast<std::uint8_t>(zone));
        end();
    }
    // Adds the address of `to` to what stands in `in`.
    void add_pointer(std::string_view in, std::string_view to, std::size_t at, std::size_t size) {
        begin(2);
        put_name(in);
        put_name(to);
        out_.le(static_cast<std::uint32_t>(at));
        out_.le(static_cast<std::uint8_t>(size));
        end();
    }
    void add_checksum(std::string_view in, std::size_t at, std::size_t start, std::size_t length) {
        begin(3);
        put_name(in);
        out_.le(static_cast<std::uint32_t>(at));
        out_.le(static_cast<std::uint32_t>(start));
        out_.le(static_cast<std::uint32_t>(length));
        end();
    }
    std::vector<std::uint8_t> take() { return out_.take(); }

private:
    void begin(std::uint32_t number) {
        start_ = out_.size();
        out_.le(number);
    }
    void put_name(std::string_view file) {
        out_.bytes(as_bytes(file));
        out_.zeros(file_bytes - file.size());
    }
    void end() { out_.pad_to(start_ + command_bytes); }

    ByteWriter out_;
    std::size_t start_ = 0;
};

} // namespace

void add_firmware_files(FwCfg& fw_cfg, unsigned vcpus) {
    auto tables = build_tables(vcpus);
    auto root = rsdp(tables.rsdt, tables.xsdt);
    Commands commands;
    commands.allocate(rsdp_file, 16, Commands::Zone::bios_area);
    commands.allocate(tables_file, Tables::alignment, Commands::Zone::anywhere);
    for (const auto& pointer : tables.pointers)
        commands.add_pointer(tables_file, tables_file, pointer.at, pointer.size_bytes);
    // The firmware subtracts the sum from what stands there: a sum of bytes that was right before
    // the pointers changed ends up right again.
    for (const auto& sum : tables.checksums)
        commands.add_checksum(tables_file, sum.at, sum.start, sum.length);
    commands.add_pointer(rsdp_file, tables_file, 16, 4);
    commands.add_pointer(rsdp_file, tables_file, 24, 8);
    commands.add_checksum(rsdp_file, 8, 0, 20);
    commands.add_checksum(rsdp_file, 32, 0, root.size());
    fw_cfg.add_file(std::string(tables_file), std::move(tables.bytes));
    fw_cfg.add_file(std::string(rsdp_file), std::move(root));
    fw_cfg.add_file("etc/table-loader", commands.take());
}

} // namespace vmhost::machine::acpi

// RSDP, RSDT, XSDT, FADT, FACS and MADT (ACPI Specification 6.5, section 5.2), and how
// they get to the guest.
//
// The FADT is revision 5 (ACPI 5.0). SMI_CMD is 0: the machine is always in ACPI
// mode, nothing has to be switched over. There are no general-purpose events.
#include "machine/acpi/acpi.h"
#include "machine/acpi/header.h"
#include "machine/device/acpi_pm.h"
#include "machine/irq.h"
#include "machine/layout.h"

namespace vmhost::machine::acpi {

namespace {

constexpr std::size_t fadt_bytes = 268, facs_bytes = 64, rsdp_bytes = 36;
constexpr std::size_t fadt_facs = 36, fadt_dsdt = 40, fadt_x_dsdt = 140;

// Section 5.2.3.2: where a register is. access: 1 byte, 2 word, 3 dword.
void address(ByteWriter& out, std::uint64_t port, std::uint8_t bits, std::uint8_t access) {
    out.le(std::uint8_t{1}); // ports
    out.le(bits);
    out.le(std::uint8_t{0});
    out.le(access);
    out.le(port);
}

void no_address(ByteWriter& out) {
    out.zeros(12);
}

std::vector<std::uint8_t> facs() {
    ByteWriter out;
    out.bytes(as_bytes("FACS"));
    out.le(static_cast<std::uint32_t>(facs_bytes));
    out.zeros(24);           // hardware signature, waking vectors, global lock, flags
    out.le(std::uint8_t{2}); // version
    out.pad_to(facs_bytes);
    return out.take();
}

// Intel's reset control register: a hard reset of everything.
constexpr std::uint64_t reset_port = 0xcf9;
constexpr std::uint8_t reset_value = 0x06;

// IA-PC boot architecture: ISA devices, a keyboard controller, no VGA.
constexpr std::uint16_t boot_architecture = 1 << 0 | 1 << 1 | 1 << 2;
// WBINVD works, C1 on every processor, no sleep button, no wake-up by the clock, the PM timer has
// 32 bits, there is a reset register. The power button's bit is clear: it is fixed hardware.
constexpr std::uint32_t fixed_features = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10;

// Pointers hold offsets into the tables.
std::vector<std::uint8_t> fadt(std::uint32_t facs_at, std::uint32_t dsdt_at) {
    constexpr std::uint32_t events = AcpiPm::first_port + AcpiPm::event_offset,
                            control = AcpiPm::first_port + AcpiPm::control_offset,
                            timer = AcpiPm::first_port + AcpiPm::timer_offset;
    ByteWriter out;
    begin_table(out, "FACP", 5);
    out.le(facs_at);
    out.le(dsdt_at);
    out.zeros(2); // and no preferred profile
    out.le(static_cast<std::uint16_t>(sci_line));
    out.zeros(8); // SMI_CMD and its values
    out.le(events);
    out.le(std::uint32_t{0});
    out.le(control);
    out.le(std::uint32_t{0});
    out.le(std::uint32_t{0}); // PM2
    out.le(timer);
    out.zeros(8); // general-purpose events
    for (std::uint8_t length : {4, 2, 0, 4, 0, 0, 0, 0})
        out.le(length);            // events, control, PM2, timer, then what does not exist
    out.le(std::uint16_t{0xfff});  // no C2
    out.le(std::uint16_t{0xffff}); // no C3
    out.zeros(8);               // caches are flushed by WBINVD; no duty cycle; no alarm registers
    out.le(std::uint8_t{0x32}); // the century in CMOS
    out.le(boot_architecture);
    out.zeros(1);
    out.le(fixed_features);
    address(out, reset_port, 8, 1);
    out.le(reset_value);
    out.zeros(3);             // ARM, minor revision
    out.le(std::uint64_t{0}); // the FACS is below 4G
    out.le(std::uint64_t{dsdt_at});
    address(out, events, 32, 2);
    no_address(out);
    address(out, control, 16, 2);
    no_address(out);
    no_address(out); // PM2
    address(out, timer, 32, 3);
    out.pad_to(fadt_bytes); // general-purpose events, sleep registers: none
    return finish_table(out);
}

std::vector<std::uint8_t> madt(unsigned vcpus) {
    constexpr std::uint32_t has_8259s = 1;
    ByteWriter out;
    begin_table(out, "APIC", 4);
    out.le(static_cast<std::uint32_t>(local_apic_address));
    out.le(has_8259s);
    for (unsigned i = 0; i < vcpus; ++i) {
        out.le(std::uint8_t{0});
        out.le(std::uint8_t{8});
        out.le(static_cast<std::uint8_t>(i)); // the processor object's number
        out.le(static_cast<std::uint8_t>(i)); // the local APIC's
        out.le(std::uint32_t{1});             // usable
    }
    out.le(std::uint8_t{1});
    out.le(std::uint8_t{12});
    out.le(std::uint16_t{io_apic_id});
    out.le(static_cast<std::uint32_t>(io_apic_address));
    out.le(std::uint32_t{0}); // its first interrupt
    for (unsigned line = 0; line < isa_lines; ++line) {
        if (!is_level_line(line))
            continue;
        out.le(std::uint8_t{2});
        out.le(std::uint8_t{10});
        out.le(std::uint8_t{0}); // ISA
        out.le(static_cast<std::uint8_t>(line));
        out.le(std::uint32_t{line});
        out.le(active_high_level);
    }
    out.le(std::uint8_t{4}); // NMI
    out.le(std::uint8_t{6});
    out.le(std::uint8_t{0xff}); // every processor
    out.le(std::uint16_t{0});
    out.le(std::uint8_t{1}); // LINT1
    return finish_table(out);
}

template <WireInteger T>
std::vector<std::uint8_t> directory(std::string_view signature,
                                    std::span<const std::size_t> tables) {
    ByteWriter out;
    begin_table(out, signature, 1);
    for (auto table : tables)
        out.le(static_cast<T>(table));
    return finish_table(out);
}

} // namespace

Tables build_tables(unsigned vcpus) {
    Tables all;
    auto append = [&all](const std::vector<std::uint8_t>& table, bool summed = true) {
        constexpr std::size_t apart = 16;
        all.bytes.resize((all.bytes.size() + apart - 1) / apart * apart);
        auto start = all.bytes.size();
        all.bytes.insert(all.bytes.end(), table.begin(), table.end());
        if (summed)
            all.checksums.push_back({start + checksum_offset, start, table.size()});
        return start;
    };
    auto facs_at = append(facs(), false); // first, because of its alignment
    auto dsdt_at = append(dsdt(vcpus));
    auto fadt_at =
        append(fadt(static_cast<std::uint32_t>(facs_at), static_cast<std::uint32_t>(dsdt_at)));
    all.pointers.push_back({fadt_at + fadt_facs, 4});
    all.pointers.push_back({fadt_at + fadt_dsdt, 4});
    all.pointers.push_back({fadt_at + fadt_x_dsdt, 8});
    const std::size_t listed[] = {fadt_at, append(madt(vcpus))};
    all.rsdt = append(directory<std::uint32_t>("RSDT", listed));
    all.xsdt = append(directory<std::uint64_t>("XSDT", listed));
    for (std::size_t i = 0; i < std::size(listed); ++i) {
        all.pointers.push_back({all.rsdt + header_bytes + 4 * i, 4});
        all.pointers.push_back({all.xsdt + header_bytes + 8 * i, 8});
    }
    return all;
}

std::vector<std::uint8_t> placed(Tables tables, Gpa start) {
    MutableBytes bytes = tables.bytes;
    for (const auto& pointer : tables.pointers) {
        auto at = bytes.subspan(pointer.at, pointer.size_bytes);
        if (pointer.size_bytes == 8)
            store_le<std::uint64_t>(at, load_le<std::uint64_t>(at) + start);
        else
            store_le<std::uint32_t>(at,
                                    static_cast<std::uint32_t>(load_le<std::uint32_t>(at) + start));
    }
    for (const auto& sum : tables.checksums) {
        bytes[sum.at] = 0;
        bytes[sum.at] = checksum(bytes.subspan(sum.start, sum.length));
    }
    return std::move(tables.bytes);
}

std::vector<std::uint8_t> rsdp(Gpa rsdt, Gpa xsdt) {
    constexpr std::size_t first_part_bytes = 20, first_checksum = 8, second_checksum = 32;
    ByteWriter out;
    out.bytes(as_bytes("RSD PTR "));
    out.le(std::uint8_t{0});
    out.bytes(as_bytes("VMHOST"));
    out.le(std::uint8_t{2}); // revision
    out.le(static_cast<std::uint32_t>(rsdt));
    out.le(static_cast<std::uint32_t>(rsdp_bytes));
    out.le(std::uint64_t{xsdt});
    out.zeros(4);
    auto bytes = out.take();
    bytes[first_checksum] = checksum(Bytes(bytes).first(first_part_bytes));
    bytes[second_checksum] = checksum(bytes);
    return bytes;
}

Result<Gpa> install(GuestMemory& memory, unsigned vcpus) {
    constexpr Gpa end = 1 * MiB;
    constexpr Gpa tables_at =
        (rsdp_address + rsdp_bytes + Tables::alignment - 1) / Tables::alignment * Tables::alignment;
    auto tables = build_tables(vcpus);
    auto root = rsdp(tables_at + tables.rsdt, tables_at + tables.xsdt);
    auto bytes = placed(std::move(tables), tables_at);
    const Gpa mp_at = (tables_at + bytes.size() + 15) / 16 * 16;
    auto mp = mp_table(vcpus, mp_at);
    if (mp_at + mp.size() > end)
        return fail(ErrorKind::internal, "acpi: tables for {} vcpus end at {:#x}, behind {:#x}",
                    vcpus, mp_at + mp.size(), end);
    if (!memory.write(rsdp_address, root) || !memory.write(tables_at, bytes) ||
        !memory.write(mp_at, mp))
        return fail(ErrorKind::internal, "acpi: the guest has no memory at {:#x} to {:#x}",
                    rsdp_address, mp_at + mp.size() - 1);
    return mp_at + mp.size();
}

} // namespace vmhost::machine::acpi

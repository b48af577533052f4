// The MP table (Intel MultiProcessor Specification 1.4, chapter 4): floating pointer,
// then the configuration table right behind it. Bus 0 is PCI, bus 1 ISA.
//
// The I/O APIC's id is 0, which is what its register says after reset; some guests
// renumber it, none minds.
#include "machine/acpi/acpi.h"
#include "machine/acpi/header.h"
#include "machine/irq.h"
#include "machine/layout.h"

namespace vmhost::machine::acpi {

namespace {

constexpr std::size_t pointer_bytes = 16, base_length_offset = 4, base_checksum_offset = 7,
                      count_offset = 34, pointer_checksum_offset = 10;
constexpr std::uint8_t revision = 4, apic_version = 0x14, io_apic_version = 0x11;
constexpr std::uint8_t pci_bus = 0, isa_bus = 1, every_apic = 0xff;

enum Entry : std::uint8_t { processor, bus, io_apic, io_interrupt, local_interrupt };
enum Kind : std::uint8_t { vectored, nmi, smi, external };

class Table {
public:
    Table() {
        out_.bytes(as_bytes("PCMP"));
        out_.le(std::uint16_t{0}); // length
        out_.le(revision);
        out_.le(std::uint8_t{0}); // checksum
        out_.bytes(as_bytes("VMHOST  "));
        out_.bytes(as_bytes("VIRTUAL PC  "));
        out_.zeros(6);             // no table of the manufacturer's
        out_.le(std::uint16_t{0}); // count
        out_.le(static_cast<std::uint32_t>(local_apic_address));
        out_.zeros(4); // no extended table
    }
    void add_processor(std::uint8_t id) {
        begin(processor);
        out_.le(id);
        out_.le(apic_version);
        out_.le<std::uint8_t>(id == 0 ? 3 : 1); // usable; the first one boots
        out_.le(std::uint32_t{0x600});          // family 6: CPUID has the rest
        out_.le(std::uint32_t{0x201});          // FPU and local APIC
        out_.zeros(8);
    }
    void add_bus(std::uint8_t id, std::string_view type) {
        begin(bus);
        out_.le(id);
        out_.bytes(as_bytes(type));
    }
    void add_io_apic() {
        begin(io_apic);
        out_.le(static_cast<std::uint8_t>(io_apic_id));
        out_.le(io_apic_version);
        out_.le(std::uint8_t{1}); // usable
        out_.le(static_cast<std::uint32_t>(io_apic_address));
    }
    void add_interrupt(Entry entry, Kind kind, std::uint16_t flags, std::uint8_t from_bus,
                       unsigned source, std::uint8_t apic, unsigned pin) {
        begin(entry);
        out_.le<std::uint8_t>(kind);
        out_.le(flags);
        out_.le(from_bus);
        out_.le(static_cast<std::uint8_t>(source));
        out_.le(apic);
        out_.le(static_cast<std::uint8_t>(pin));
    }
    std::vector<std::uint8_t> take() {
        auto table = out_.take();
        MutableBytes bytes = table;
        store_le(bytes.subspan(base_length_offset), static_cast<std::uint16_t>(table.size()));
        store_le(bytes.subspan(count_offset), count_);
        table[base_checksum_offset] = checksum(table);
        return table;
    }

private:
    void begin(Entry entry) {
        out_.le<std::uint8_t>(entry);
        ++count_;
    }
    ByteWriter out_;
    std::uint16_t count_ = 0;
};

std::vector<std::uint8_t> configuration(unsigned vcpus) {
    constexpr std::uint16_t as_the_bus_has_it = 0;
    constexpr unsigned cascade = 2;
    Table table;
    for (unsigned i = 0; i < vcpus; ++i)
        table.add_processor(static_cast<std::uint8_t>(i));
    table.add_bus(pci_bus, "PCI   ");
    table.add_bus(isa_bus, "ISA   ");
    table.add_io_apic();
    for (unsigned line = 0; line < isa_lines; ++line)
        if (line != cascade && !is_level_line(line))
            table.add_interrupt(io_interrupt, vectored, as_the_bus_has_it, isa_bus, line,
                                io_apic_id, line);
    for (unsigned slot = 1; slot < pci_slots; ++slot)
        table.add_interrupt(io_interrupt, vectored, active_high_level, pci_bus, slot << 2,
                            io_apic_id, pci_line_of_slot(slot));
    table.add_interrupt(local_interrupt, external, as_the_bus_has_it, isa_bus, 0, every_apic, 0);
    table.add_interrupt(local_interrupt, nmi, as_the_bus_has_it, isa_bus, 0, every_apic, 1);
    return table.take();
}

} // namespace

std::vector<std::uint8_t> mp_table(unsigned vcpus, Gpa start) {
    ByteWriter out;
    out.bytes(as_bytes("_MP_"));
    out.le(static_cast<std::uint32_t>(start + pointer_bytes));
    out.le(std::uint8_t{pointer_bytes / 16});
    out.le(revision);
    out.zeros(6); // checksum; the configuration is in the table; virtual wire mode
    out.buffer()[pointer_checksum_offset] = checksum(out.buffer());
    out.bytes(configuration(vcpus));
    return out.take();
}

} // namespace vmhost::machine::acpi

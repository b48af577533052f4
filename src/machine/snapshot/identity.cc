// The header of a saved machine, and whether a machine here can take its place.
#include "machine/snapshot/snapshot.h"

#include <algorithm>

#include "machine/layout.h"

namespace vmhost::machine {

namespace {

constexpr std::size_t max_leaves = 256, max_ranges = 64, max_functions = 256;
// Clocks of two hosts that are meant to be the same differ by their calibration.
constexpr Gpa end_of_low_memory = Gpa{4} << 30; // where firmware's own memory ends
constexpr std::uint64_t tolerable_clock_ppm = 500;

std::string in_sizes(std::uint64_t there, std::uint64_t here) {
    return fmt::format("{} in the saved machine, {} here", format_size(there), format_size(here));
}

Result<void> check_cpus(const MachineIdentity& saved, const MachineIdentity& here) {
    if (saved.cpus.size() != here.cpus.size())
        return fail(ErrorKind::invalid, "vcpus: {} in the saved machine, {} here",
                    saved.cpus.size(), here.cpus.size());
    for (std::size_t i = 0; i < saved.cpus.size(); ++i)
        if (auto missing = missing_feature(saved.cpus[i].model, here.cpus[i].model))
            return fail(ErrorKind::unsupported,
                        "cpu: the saved machine has a feature that is missing here: {}", *missing);
    if (saved.tsc_khz == 0 || here.tsc_khz == 0)
        return {};
    auto difference = std::max(saved.tsc_khz, here.tsc_khz) - std::min(saved.tsc_khz, here.tsc_khz);
    if (difference > saved.tsc_khz / 1'000'000 * tolerable_clock_ppm + 1)
        return fail(ErrorKind::unsupported,
                    "cpu: the time stamp counter ran at {} kHz in the saved machine, {} kHz here",
                    saved.tsc_khz, here.tsc_khz);
    return {};
}

Result<void> check_disks(const MachineIdentity& saved, const MachineIdentity& here) {
    if (saved.disks.size() != here.disks.size())
        return fail(ErrorKind::invalid, "disks: {} in the saved machine, {} here",
                    saved.disks.size(), here.disks.size());
    for (std::size_t i = 0; i < saved.disks.size(); ++i) {
        const auto &there = saved.disks[i], &ours = here.disks[i];
        if (there.size_bytes != ours.size_bytes)
            return fail(ErrorKind::invalid, "disk {}: {} bytes in the saved machine, {} here", i,
                        there.size_bytes, ours.size_bytes);
        if (there.read_only != ours.read_only)
            return fail(ErrorKind::invalid, "disk {}: {} in the saved machine, not so here", i,
                        there.read_only ? "read-only" : "writable");
        if (there.serial != ours.serial)
            return fail(ErrorKind::invalid,
                        "disk {}: serial number {} in the saved machine, {} here", i,
                        printable(there.serial), printable(ours.serial));
    }
    return {};
}

Result<void> check_nics(const MachineIdentity& saved, const MachineIdentity& here) {
    if (saved.nics.size() != here.nics.size())
        return fail(ErrorKind::invalid, "interfaces: {} in the saved machine, {} here",
                    saved.nics.size(), here.nics.size());
    for (std::size_t i = 0; i < saved.nics.size(); ++i)
        if (saved.nics[i].mac != here.nics[i].mac)
            return fail(ErrorKind::invalid, "interface {}: lladdr {} in the saved machine, {} here",
                        i, saved.nics[i].mac.text(), here.nics[i].mac.text());
    for (std::size_t i = 0; i < saved.nics.size(); ++i)
        if (saved.nics[i].mtu != here.nics[i].mtu)
            return fail(ErrorKind::invalid, "interface {}: MTU {} in the saved machine, {} here", i,
                        saved.nics[i].mtu, here.nics[i].mtu);
    return {};
}

std::string slot_of(const MachineIdentity::Function& function) {
    return function.place % 8 == 0 ? std::to_string(function.place / 8)
                                   : fmt::format("{}.{}", function.place / 8, function.place % 8);
}

Result<void> check_functions(const MachineIdentity& saved, const MachineIdentity& here) {
    auto find = [](const std::vector<MachineIdentity::Function>& in, std::uint16_t place) {
        return std::ranges::find(in, place, &MachineIdentity::Function::place);
    };
    for (const auto& there : saved.functions) {
        auto ours = find(here.functions, there.place);
        if (ours == here.functions.end())
            return fail(ErrorKind::invalid, "PCI slot {}: {} in the saved machine, nothing here",
                        slot_of(there), printable(there.name));
        if (ours->vendor_and_device != there.vendor_and_device)
            return fail(ErrorKind::invalid,
                        "PCI slot {}: {} ({:04x}:{:04x}) in the saved machine, {} ({:04x}:{:04x}) "
                        "here",
                        slot_of(there), printable(there.name), there.vendor_and_device & 0xffff,
                        there.vendor_and_device >> 16, printable(ours->name),
                        ours->vendor_and_device & 0xffff, ours->vendor_and_device >> 16);
    }
    for (const auto& ours : here.functions)
        if (find(saved.functions, ours.place) == saved.functions.end())
            return fail(ErrorKind::invalid, "PCI slot {}: nothing in the saved machine, {} here",
                        slot_of(ours), printable(ours.name));
    return {};
}

} // namespace

void MachineIdentity::Disk::state(StateArchive& archive) {
    archive(size_bytes, read_only);
    archive.text(serial, limits::max_disk_serial_bytes, "serial number");
}

void MachineIdentity::Function::state(StateArchive& archive) {
    archive(place, vendor_and_device);
    archive.text(name, 255, "device name");
}

void MachineIdentity::Cpu::state(StateArchive& archive) {
    archive.list(model.leaves, max_leaves, "CPUID leaves");
}

void MachineIdentity::state(StateArchive& archive) {
    archive.version(1);
    archive.text(build, 64, "build");
    archive.text(name, limits::max_name_bytes, "name");
    archive(memory_bytes, tsc_khz, debug_exit, clock_ns, wall_us);
    archive.list(cpus, limits::max_vcpus, "vcpus");
    archive.list(ranges, max_ranges, "memory ranges");
    archive.list(disks, max_functions, "disks");
    archive.list(nics, max_functions, "interfaces");
    archive.list(functions, max_functions, "PCI functions");
}

Result<void> check_compatible(const MachineIdentity& saved, const MachineIdentity& here) {
    if (saved.memory_bytes != here.memory_bytes)
        return fail(ErrorKind::invalid, "memory: {}",
                    in_sizes(saved.memory_bytes, here.memory_bytes));
    TRY(check_cpus(saved, here));
    TRY(check_disks(saved, here));
    TRY(check_nics(saved, here));
    TRY(check_functions(saved, here));
    if (saved.debug_exit && !here.debug_exit)
        return fail(ErrorKind::invalid, "the saved machine has the debug-exit device");
    return {};
}

Result<void> add_saved_ranges(GuestMemory& memory,
                              const std::vector<MachineIdentity::Range>& saved) {
    auto is = [](const GuestMemory::Range& ours, const MachineIdentity::Range& there) {
        return ours.start == there.start && ours.size_bytes == there.size_bytes &&
               ours.ram == there.ram;
    };
    for (const auto& there : saved) {
        if (std::ranges::any_of(memory.ranges(), [&](const auto& ours) { return is(ours, there); }))
            continue;
        bool firmware = !there.ram && there.size_bytes <= limits::max_bios_bytes &&
                        range_fits(there.start, there.size_bytes, end_of_low_memory) &&
                        there.start >= pci_memory_end;
        if (!firmware)
            return fail(ErrorKind::invalid, "memory: {} at {:#x} in the saved machine, not here",
                        format_size(there.size_bytes), there.start);
        TRY(memory.add(there.start, there.size_bytes, there.ram));
    }
    for (const auto& ours : memory.ranges())
        if (std::ranges::none_of(saved, [&](const auto& there) { return is(ours, there); }))
            return fail(ErrorKind::invalid, "memory: {} at {:#x} here, not in the saved machine",
                        format_size(ours.size_bytes), ours.start);
    return {};
}

} // namespace vmhost::machine

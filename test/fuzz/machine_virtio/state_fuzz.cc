// A saved state that somebody made up: valid framing and checksums around hostile payloads,
// loaded into real devices and a real memory, which then have to work. A payload is mutated from
// what the same part saves: the input says at which byte what is put in.
#include <cstring>

#include "../../unit/machine/fake_clock.h"
#include "machine.h"
#include "machine/cpu/saved.h"
#include "machine/device/acpi_pm.h"
#include "machine/device/cmos.h"
#include "machine/device/fw_cfg.h"
#include "machine/device/reset.h"
#include "machine/device/serial.h"
#include "machine/snapshot/memory_pages.h"
#include "machine/snapshot/snapshot.h"
#include "machine/virtio/console_port.h"
#include "machine/virtio/vmmci.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

struct Rig {
    FakeClock clock; // outlives the devices
    fuzz::Machine machine;
    Serial serial{machine.wires, 4, clock, [](Bytes) {}};
    std::optional<Cmos> cmos;
    std::optional<AcpiPm> acpi_pm;
    KeyboardController keyboard{[] {}};
    FwCfg fw_cfg{machine.memory};
    MachineIdentity identity;
    SavedVcpu vcpu;
    SavedBackend backend;

    Rig() {
        clock.advance(77'000'000'000);
        cmos.emplace(clock, machine.wires, machine.memory, 1);
        acpi_pm.emplace(clock, machine.wires, [] {});
        add_platform_files(fw_cfg, {}, 1, "/disk");
        auto vmmci = std::make_unique<virtio::Vmmci>("vmmci", clock,
                                                     virtio::Vmmci::Hooks{[] {}, [](bool) {}});
        vmmci->set_interrupt(5);
        fuzz::Machine::must(machine.host->add(std::move(vmmci)).has_value());
        machine.add(std::make_unique<virtio::ConsolePort>(
            "console", machine.bus.lock(), virtio::ConsolePort::Hooks{[](Bytes) {}, [] {}}));
        machine.host->place_bars();
        identity.cpus.resize(1);
        identity.cpus[0].model.leaves.resize(3);
        identity.ranges.resize(2);
        identity.disks.resize(1);
        identity.nics.resize(1);
        identity.functions.resize(2);
        vcpu.xsave.resize(512);
        vcpu.msrs.resize(3);
    }

    std::vector<Part> parts() {
        std::vector<Part> all;
        auto add = [&all](auto& part) {
            all.push_back({{"part", static_cast<std::uint16_t>(all.size())},
                           [&part](StateArchive& archive) { part.state(archive); }});
        };
        for (unsigned slot = 0; slot < 5; ++slot)
            add(*machine.host->at(slot));
        add(*machine.host);
        add(serial);
        add(*cmos);
        add(*acpi_pm);
        add(keyboard);
        add(fw_cfg);
        add(identity);
        add(vcpu);
        add(backend);
        return all;
    }

    // Registers of everything, time, and the loop.
    void work() {
        machine.host->place_again();
        for (unsigned slot = 0; slot < 5; ++slot)
            for (unsigned bar = 0; bar < 3; ++bar)
                if (auto base = machine.host->at(slot)->decoded_base(bar))
                    for (auto space : {Space::port, Space::memory})
                        for (unsigned at = 0; at < 64; ++at) {
                            std::uint8_t byte = 0;
                            machine.bus.read(space, *base + at, {&byte, 1});
                        }
        for (std::uint64_t at = 0; at < 8; ++at) {
            std::uint8_t byte = 0x55;
            serial.read(at, {&byte, 1});
            serial.write(at, {&byte, 1});
        }
        for (std::uint8_t index = 0; index < 128; ++index) {
            std::uint8_t byte = index;
            cmos->write(0, {&byte, 1});
            cmos->read(1, {&byte, 1});
            cmos->write(1, {&byte, 1});
        }
        for (std::uint64_t at = 0; at < 12; ++at) {
            std::uint8_t byte = 0xff;
            acpi_pm->read(at, {&byte, 1});
            acpi_pm->write(at, {&byte, 1});
            fw_cfg.read(at, {&byte, 1});
        }
        clock.advance(2'500'000'000);
        machine.drain();
    }
};

void load_parts(ByteReader& input) {
    Rig saved, fresh;
    auto from = saved.parts(), to = fresh.parts();
    auto which = input.le<std::uint8_t>() % from.size();
    auto section = save_part(from[which]);
    fuzz::Machine::must(section.has_value());
    auto& payload = section->payload;
    for (unsigned changes = 0; changes < 16 && input.remaining() > 4; ++changes) {
        auto how = input.le<std::uint8_t>();
        auto at = payload.empty() ? 0 : input.le<std::uint16_t>() % payload.size();
        auto bytes = input.bytes(std::min<std::size_t>(how & 15, input.remaining()));
        if (how & 0x80)
            payload.resize(at);
        else if (how & 0x40)
            payload.insert(payload.begin() + static_cast<long>(at), bytes.begin(), bytes.end());
        else if (!payload.empty())
            std::memcpy(payload.data() + at, bytes.data(),
                        std::min(bytes.size(), payload.size() - at));
    }
    section->name = to[which].name;
    if (load_part(to[which], *section)) {
        if (which == 11)
            (void)check_compatible(fresh.identity, saved.identity);
        fresh.work();
    }
}

void read_stream(ByteReader& input) {
    std::vector<std::uint8_t> stream;
    StreamWriter writer([&](Bytes bytes) -> Result<void> {
        stream.insert(stream.end(), bytes.begin(), bytes.end());
        return {};
    });
    fuzz::Machine machine;
    fuzz::Machine::must(writer.begin().has_value());
    PageWriter pages;
    while (input.remaining() > 8) {
        auto how = input.le<std::uint8_t>();
        auto start = Gpa{input.le<std::uint16_t>()} << 12;
        auto bytes =
            input.bytes(std::min<std::size_t>(input.le<std::uint16_t>(), input.remaining()));
        if (how & 1) { // as it comes
            (void)writer.put({how & 2 ? "memory" : "other"}, how & 4 ? 2 : 1, bytes);
            continue;
        }
        std::vector<std::uint8_t> page(4096 * (1 + (how >> 4)));
        std::memcpy(page.data(), bytes.data(), std::min(bytes.size(), page.size()));
        auto encoded = pages.encode(start, page);
        if (encoded && !encoded->empty())
            (void)writer.put({"memory"}, 1, *encoded);
    }
    fuzz::Machine::must(writer.end().has_value());
    StreamReader reader(source_from(Bytes(stream)));
    fuzz::Machine::must(reader.begin().has_value());
    (void)read_memory(reader, machine.memory);
}

} // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    log::set_level("", log::Level::error);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ByteReader input({data, size});
    if (input.le<std::uint8_t>() & 1)
        read_stream(input);
    else
        load_parts(input);
    return 0;
}

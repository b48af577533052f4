// Saving a paused machine and building one from what was saved: which parts go into the
// stream of snapshot/, in which order, and what must fit for a restore.
#include "machine/real_machine.h"

#include <algorithm>

#include "machine/cpu/saved.h"

namespace vmhost::machine {

namespace {
constexpr unsigned pci_places = 8 * pci_slots; // eight functions each
} // namespace

// What there is beside vCPUs, backend and memory, in the order of the stream.
std::vector<Part> RealMachine::parts() {
    std::vector<Part> all;
    auto add = [&all](std::string name, auto& part, std::uint16_t instance = 0) {
        all.push_back(
            {{std::move(name), instance}, [&part](StateArchive& archive) { part.state(archive); }});
    };
    add("serial", *serial_);
    add("cmos", *cmos_);
    add("acpi-pm", *acpi_pm_);
    add("keyboard", keyboard_);
    add("fw-cfg", *fw_cfg_);
    add("pci-host", *pci_);
    for (std::uint16_t place = 0; place < pci_places; ++place)
        if (auto* function = pci_->at(place / 8, place % 8))
            add("pci", *function, place);
    return all;
}

MachineIdentity RealMachine::identity() {
    MachineIdentity identity;
    identity.build = VMHOST_VERSION;
    identity.name = spec_.name;
    identity.memory_bytes = spec_.memory_bytes;
    identity.tsc_khz = backend_->capabilities().tsc_khz;
    identity.debug_exit = spec_.debug_exit;
    for (unsigned i = 0; i < spec_.vcpus; ++i)
        identity.cpus.push_back({i < models_.size() ? models_[i] : model_of(i)});
    for (const auto& range : memory_.ranges())
        identity.ranges.push_back({range.start, range.size_bytes, range.ram});
    for (std::size_t i = 0; i < spec_.disks.size(); ++i)
        identity.disks.push_back(
            {images_[i]->size_bytes(), spec_.disks[i].read_only, spec_.disks[i].serial});
    for (const auto& nic : spec_.nics)
        identity.nics.push_back({nic.mac, nic.mtu});
    for (std::uint16_t place = 0; place < pci_places; ++place)
        if (auto* function = pci_->at(place / 8, place % 8)) {
            std::string_view name = function->name();
            if (name.starts_with(spec_.name + "-"))
                name.remove_prefix(spec_.name.size() + 1);
            identity.functions.push_back({place, function->vendor_and_device(), std::string(name)});
        }
    identity.clock_ns = clock_->now_ns();
    identity.wall_us = clock_->wall_us();
    return identity;
}

Result<std::vector<Section>> RealMachine::take_state() {
    std::scoped_lock guard(bus_.lock());
    std::vector<Section> sections;
    auto add = [&sections](std::string name, auto& part, unsigned instance = 0) -> Result<void> {
        sections.push_back(TRY(save_part({{std::move(name), static_cast<std::uint16_t>(instance)},
                                          [&](StateArchive& archive) { part.state(archive); }})));
        return {};
    };
    auto header = identity();
    TRY(add("machine", header));
    for (const auto& part : parts())
        sections.push_back(TRY(save_part(part)));
    for (unsigned i = 0; i < spec_.vcpus; ++i) {
        auto vcpu = TRY(vcpus_.vcpu(i).save());
        TRY(add("vcpu", vcpu, i));
    }
    auto backend = TRY(backend_->save());
    TRY(add("backend", backend));
    return sections;
}

void RealMachine::save(Fd out, std::function<void(Result<std::uint64_t>)> done) {
    if (saver_)
        return done(fail(ErrorKind::busy, "machine {}: it is being saved already", spec_.name));
    auto sections = take_state();
    if (!sections)
        return done(std::unexpected(std::move(sections).error()));
    auto settle = [this]() -> Result<void> {
        for (auto& image : images_)
            if (!image->read_only())
                TRY(image->flush());
        return {};
    };
    auto finish = [this, done = std::move(done)](Result<std::uint64_t> result) {
        auto tell = std::move(done);
        saver_.reset(); // closes the descriptor; this function is gone with it
        tell(std::move(result));
    };
    saver_ = std::make_unique<Saver>(loop_, std::move(out), *std::move(sections), memory_.ranges(),
                                     std::move(settle), std::move(finish));
}

// The clocks that a guest reads without our help go on as if it had not been away.
Result<void> RealMachine::restore() {
    StreamReader reader(source_from(spec_.state_fd));
    TRY(reader.begin());
    MachineIdentity saved;
    TRY(load_part({{"machine"}, [&](StateArchive& archive) { saved.state(archive); }}, reader));
    TRY(check_compatible(saved, identity()));
    TRY(add_saved_ranges(memory_, saved.ranges));
    for (auto& cpu : saved.cpus)
        models_.push_back(std::move(cpu.model));
    TRY(make_vcpus());
    {
        std::scoped_lock guard(bus_.lock());
        clock_->go_on_from(saved.clock_ns);
        for (const auto& part : parts())
            TRY(load_part(part, reader));
        pci_->place_again();
    }
    constexpr std::int64_t longest_us = limits::max_duration_ms * 1000;
    auto away_us = static_cast<std::uint64_t>(
        std::clamp<std::int64_t>(clock_->wall_us() - saved.wall_us, 0, longest_us));
    TRY(restore_vcpus(reader, away_us));
    TRY(restore_backend(reader, away_us));
    TRY(read_memory(reader, memory_));
    for (unsigned i = 0; i < spec_.vcpus; ++i)
        vcpus_.vcpu(i).stood_still();
    restored_ = true;
    return {};
}

Result<void> RealMachine::restore_vcpus(StreamReader& reader, std::uint64_t away_us) {
    const auto tsc_khz = backend_->capabilities().tsc_khz;
    const auto away_ticks = away_us / 1000 * tsc_khz + away_us % 1000 * tsc_khz / 1000;
    for (unsigned i = 0; i < spec_.vcpus; ++i) {
        SavedVcpu vcpu;
        TRY(load_part({{"vcpu", static_cast<std::uint16_t>(i)},
                       [&](StateArchive& archive) { vcpu.state(archive); }},
                      reader));
        vcpu.tsc += away_ticks;
        if (auto loaded = vcpus_.vcpu(i).load(vcpu); !loaded)
            return std::unexpected(
                std::move(loaded).error().in(fmt::format("state section vcpu {}", i)));
    }
    return {};
}

Result<void> RealMachine::restore_backend(StreamReader& reader, std::uint64_t away_us) {
    SavedBackend backend;
    TRY(load_part({{"backend"}, [&](StateArchive& archive) { backend.state(archive); }}, reader));
    backend.pvclock_ns += away_us * 1000;
    return backend_->load(backend);
}

} // namespace vmhost::machine

#include "host/memory.h"

#include <ctime>

namespace vmhost::host {

namespace {

std::int64_t now_s() {
    return std::time(nullptr);
}

bool is_given(const config::Model& model, const config::Vm& vm, std::size_t index,
              std::string_view key) {
    auto place = model.places.find(fmt::format("vm.{}.interface[{}].{}", vm.name, index, key));
    // Else it is what an earlier daemon wrote down of its own model, with everything in it.
    return place != model.places.end() && place->second.file == model.file;
}

store::Machine machine_of(const Noted& noted) {
    store::Machine machine;
    machine.name = noted.vm->name;
    machine.maker = noted.maker;
    machine.id = noted.id.value_or(0);
    if (noted.vm->install)
        machine.arm_upgrade = noted.vm->install->mode == config::InstallMode::upgrade;
    for (std::size_t i = 0; i < noted.vm->interfaces.size(); ++i) {
        const auto& interface = noted.vm->interfaces[i];
        store::Interface out;
        out.index = static_cast<unsigned>(i);
        out.lladdr = interface.lladdr;
        out.lladdr_given = !noted.maker && is_given(*noted.model, *noted.vm, i, "lladdr");
        out.switch_name = interface.switch_name;
        out.ipv4 = interface.ipv4;
        out.ipv4_given = !noted.maker && is_given(*noted.model, *noted.vm, i, "ipv4");
        out.ipv6 = interface.ipv6;
        out.ipv6_given = !noted.maker && is_given(*noted.model, *noted.vm, i, "ipv6");
        machine.interfaces.push_back(std::move(out));
    }
    return machine;
}

void add_to(config::Remembered& out, const store::Machine& machine, bool of_another) {
    for (const auto& interface : machine.interfaces) {
        auto& one = out.interfaces.emplace_back();
        one.vm = machine.name;
        one.index = interface.index;
        one.of_another = of_another;
        if (!interface.lladdr.is_zero())
            one.lladdr = interface.lladdr;
        one.lladdr_given = interface.lladdr_given;
        one.switch_name = interface.switch_name;
        one.ipv4 = interface.ipv4;
        one.ipv4_given = interface.ipv4_given;
        one.ipv6 = interface.ipv6;
        one.ipv6_given = interface.ipv6_given;
    }
}

} // namespace

Result<Memory> Memory::open(const config::Host& host) {
    auto opened = store::HostStore::open(host.state, host.name);
    if (opened)
        return Memory(std::move(*opened));
    auto kind = opened.error().kind();
    if (kind != ErrorKind::denied && kind != ErrorKind::not_found)
        return std::unexpected(std::move(opened).error());
    Memory memory(TRY(store::HostStore::in_memory(host.name)));
    memory.lost_because_ = opened.error().message();
    log::warning("host",
                 "{}: ids, derived addresses and the audit trail are kept until vmhost ends, and "
                 "no longer",
                 memory.lost_because_);
    return memory;
}

Result<Memory> Memory::look(const config::Host& host) {
    return Memory(TRY(store::HostStore::open_to_look(host.state, host.name)));
}

Result<config::Remembered> Memory::of_file() {
    config::Remembered out;
    for (const auto& machine : TRY(store_.machines()))
        add_to(out, machine, machine.maker.has_value());
    return out;
}

Result<config::Remembered> Memory::of_new(std::string_view name, std::uint32_t maker) {
    config::Remembered out;
    for (const auto& machine : TRY(store_.machines()))
        add_to(out, machine, machine.name != name || machine.maker != maker);
    return out;
}

Result<std::vector<std::uint32_t>> Memory::note(const std::vector<Noted>& vms) {
    std::vector<store::Machine> machines;
    machines.reserve(vms.size());
    for (const auto& noted : vms)
        machines.push_back(machine_of(noted));
    auto ids = TRY(store_.remember(machines, now_s()));
    TRY(read_installations());
    return ids;
}

Result<void> Memory::forget_old() {
    auto count = TRY(store_.forget_older(now_s() - limits::remember_days * 86'400));
    if (count > 0)
        log::info("host", "ids and addresses of {} VMs that are gone for {} days are forgotten",
                  count, limits::remember_days);
    return {};
}

Result<void> Memory::forget_surplus(std::uint32_t maker, std::size_t keep) {
    (void)TRY(store_.forget_surplus(maker, keep));
    return {};
}

Result<void> Memory::read_installations() {
    installations_.clear();
    for (auto& one : TRY(store_.installations()))
        installations_.emplace(one.machine, one);
    host_keys_.clear();
    for (auto& one : TRY(store_.host_keys()))
        host_keys_.emplace(one.machine, one);
    return {};
}

const store::Installation* Memory::installation(std::uint32_t id) const {
    auto found = installations_.find(id);
    return found == installations_.end() ? nullptr : &found->second;
}

bool Memory::armed(std::uint32_t id) const {
    const auto* last = installation(id);
    return lost_because_.empty() && last != nullptr && last->armed();
}

Result<void> Memory::is_kept() const {
    if (lost_because_.empty())
        return {};
    return fail(ErrorKind::io, "that a VM is installed cannot be written down: {}", lost_because_);
}

Result<store::Installation> Memory::arm(std::uint32_t id, bool upgrade) {
    TRY(is_kept());
    auto armed = TRY(store_.arm(id, upgrade, now_s()));
    installations_[id] = armed;
    return armed;
}

Result<void> Memory::seal(std::uint32_t id) {
    TRY(is_kept());
    auto last = installations_.find(id);
    if (last == installations_.end())
        return fail(ErrorKind::not_found, "the VM with id {} has no installation", id);
    const auto now = now_s();
    TRY(store_.seal(id, last->second.number, now));
    last->second.sealed_s = now;
    return {};
}

const store::HostKey* Memory::host_key(std::uint32_t id) const {
    auto found = host_keys_.find(id);
    const auto* last = installation(id);
    return found == host_keys_.end() || last == nullptr ||
                   found->second.installation != last->number
               ? nullptr
               : &found->second;
}

Result<void> Memory::keep_host_key(std::uint32_t id, const install::HostKey& key) {
    TRY(is_kept());
    const auto* last = installation(id);
    if (last == nullptr)
        return fail(ErrorKind::not_found, "the VM with id {} has no installation", id);
    store::HostKey kept{id, last->number, key.public_line, key.private_text};
    TRY(store_.keep_host_key(kept));
    host_keys_[id] = std::move(kept);
    return {};
}

Result<void> Memory::forget_private_key(std::uint32_t id) {
    auto found = host_keys_.find(id);
    if (found == host_keys_.end() || found->second.private_text.empty())
        return {};
    TRY(store_.forget_private_key(id));
    found->second.private_text.clear();
    return {};
}

Result<void> Memory::keep_progress(std::uint32_t id, const std::string& progress) {
    auto last = installations_.find(id);
    if (last == installations_.end())
        return fail(ErrorKind::not_found, "the VM with id {} has no installation", id);
    TRY(store_.keep_progress(id, last->second.number, progress));
    last->second.progress = progress;
    return {};
}

} // namespace vmhost::host

// Installations of VMs: armed, claimed by the guest's first request for its answers, and sealed.
//
// They hold secrets, and an installer that comes back would take the disk again. So they are given
// out once for each installation: the seal is on the disk before the http process gets a byte of
// them. What happens afterwards, a connection that breaks or a power cut, does not open it again:
// reinstall() does. Other files of an installation seal nothing; install/files.h says when each may
// be had.
//
// Loop thread of the parent; a claim waits for the disk.
#include <algorithm>
#include <filesystem>

#include "host/host.h"
#include "http/http.h"

namespace vmhost::host {

namespace {

bool has_address(const config::Vm& vm, Ipv4 address) {
    return std::ranges::any_of(vm.interfaces, [&](const auto& one) { return one.ipv4 == address; });
}

constexpr std::uint16_t ssh_port = 22;

std::optional<Ipv4> address_of(const config::Vm& vm) {
    for (const auto& one : vm.interfaces)
        if (one.ipv4)
            return one.ipv4;
    return std::nullopt;
}

// Of the sets that this host has for it and that it will choose; 0 when they are not here.
std::uint64_t wanted_bytes(const config::Model& model, const config::Vm& vm) {
    if (model.install.sets.empty())
        return 0;
    const auto directory =
        std::filesystem::path(model.install.sets) / model.install.release / "amd64";
    std::error_code error;
    std::vector<std::string> names;
    for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
         at.increment(error))
        if (names.size() < limits::max_http_listed_files)
            names.push_back(at->path().filename().string());
    std::uint64_t bytes = 0;
    for (const auto& name : install::selected_sets(names, vm.install->sets, vm.vcpus > 1)) {
        const auto size = std::filesystem::file_size(directory / name, error);
        bytes += error ? 0 : size;
    }
    return bytes;
}

} // namespace

InstallStates Host::install_states() const {
    return [this](const config::Vm& vm) {
        const auto* guest = find_by_name(vm.name);
        return guest != nullptr && vm.install ? install_state(*guest) : InstallState{};
    };
}

InstallState Host::install_state(const Guest& guest) const {
    const auto* installation = guest.installation();
    if (installation == nullptr)
        return {};
    InstallState state{guest.armed(), installation->upgrade, installation->number, {}};
    if (const auto* key = memory_->host_key(guest.id())) {
        state.host_key.public_line = key->public_line;
        if (state.armed || installs_->runs(guest))
            state.host_key.private_text = key->private_text;
    }
    return state;
}

// The http process knows all this too, and may be in the hands of who talks to it.
ipc::HttpClaimed Host::decide(const ipc::HttpClaim& claim) {
    using http::AnswerOutcome;
    using install::FileUse;
    auto answer = [&](AnswerOutcome outcome, std::string content = {}) {
        return ipc::HttpClaimed{claim.number, static_cast<std::uint8_t>(outcome),
                                std::move(content)};
    };
    auto failed = [&](const Error& error) {
        log::error("host", "vm {}: its {} is not served: {}", printable(claim.vm, 64),
                   printable(claim.file, 80), error.message());
        return answer(AnswerOutcome::failed);
    };
    if (loop_.now_ms() >= claim.until_ms)
        return answer(AnswerOutcome::late);
    auto* guest = find_by_name(claim.vm);
    const auto* vm = model_.find_vm(claim.vm);
    if (guest == nullptr || vm == nullptr || !vm->install || !has_address(*vm, claim.address))
        return answer(AnswerOutcome::unknown);
    const auto state = install_state(*guest);
    const bool is_keyed_set = install::keyed_set_name(model_, *vm, state.upgrade) == claim.file;
    const auto file = is_keyed_set ? install::InstallFile{claim.file, FileUse::running}
                                   : install::find_file(*vm, state.upgrade, claim.file);
    if (!file && state.armed && install::find_file(*vm, !state.upgrade, claim.file))
        return answer(AnswerOutcome::other_mode);
    if (!file)
        return answer(AnswerOutcome::unknown);
    if (file->use == FileUse::once && !state.armed && !file->afterwards.empty())
        return answer(AnswerOutcome::served, std::string(file->afterwards));
    if ((file->use == FileUse::once && !state.armed) ||
        (file->use == FileUse::running && !installs_->runs(*guest)))
        return answer(AnswerOutcome::sealed);
    // First, so that what cannot be made does not use up the installation.
    auto content =
        is_keyed_set ? keyed_set(*guest, *vm, state) : install_file(model_, *vm, state, claim.file);
    if (!content)
        return failed(content.error());
    if (file->use != FileUse::once)
        return answer(AnswerOutcome::served, std::move(*content));
    ground_.changing("the seal of an answer file");
    if (auto sealed = memory_->seal(guest->id()); !sealed)
        return failed(sealed.error());
    // From here on it is never given out again, whatever becomes of this answer.
    guest->leave_installer();
    guest->tell("answer file",
                fmt::format("of {} {}, to {}", state.upgrade ? "upgrade" : "installation",
                            state.number, claim.address.text()));
    installs_->answered(*guest, claim.address.text(), wanted_bytes(model_, *vm));
    if (vm->install->system != config::InstallSystem::openbsd)
        installation_is_over(*guest); // its host key is in its answers
    if (on_progress)
        on_progress(*guest, "answer file");
    renew_told(dhcp_.get());
    return answer(AnswerOutcome::served, std::move(*content));
}

Result<store::Installation> Host::reinstall(std::string_view name_or_id, bool upgrade) {
    if (order_)
        return fail(ErrorKind::busy, "a change is being applied: try again after it");
    auto* guest = TRY(find(name_or_id));
    const auto& vm = guest->config();
    if (!vm.install)
        return fail(ErrorKind::invalid, "vm {} has no install table", vm.name);
    upgrade |= vm.install->mode == config::InstallMode::upgrade;
    if (upgrade && vm.install->system != config::InstallSystem::openbsd)
        return fail(ErrorKind::invalid, "vm {}: only OpenBSD's installer knows upgrades", vm.name);
    // Rather now than when the guest asks for them.
    TRY(try_install_files(model_, vm, {true, upgrade, install_state(*guest).number + 1}));
    // First the new disk beside the old one, which stays when anything goes wrong until here; then
    // the arming; then the change of places. Cut off before it, the VM is armed with its old disk:
    // the next reinstall() does it all again. A system that does not ask for its seed again, as by
    // the built-in text, is left as it is until then.
    const bool begins_anew = guest->begins_as_template() && !upgrade;
    auto disk = begins_anew ? TRY(guest->make_new_disk()) : std::nullopt;
    ground_.changing("the arming of an installation");
    auto armed = TRY(memory_->arm(guest->id(), upgrade));
    // It is armed, whatever becomes of its disk, and everybody is to know.
    auto taken = disk ? guest->take_new_disk(std::move(*disk)) : Result<void>();
    if (begins_anew && taken)
        log::notice("host", "vm {}: its disk begins as {} again", vm.name,
                    printable(vm.disks[0].base[0]));
    log::notice("host", "vm {} is armed for {} {}", vm.name, upgrade ? "upgrade" : "installation",
                armed.number);
    guest->tell("armed",
                fmt::format("for {} {}", upgrade ? "upgrade" : "installation", armed.number));
    installs_->began(*guest);
    keyed_sets_.erase(guest->id());
    renew_host_keys();
    renew_told(dhcp_.get());
    renew_told(http_.get());
    TRY(std::move(taken));
    return armed;
}

void Host::watch_installs() {
    InstallWatch::Doors doors;
    doors.guests = [this]() -> const std::vector<std::unique_ptr<Guest>>& { return guests_; };
    doors.ask_for_ssh = [this](Guest& guest) { ask_for_ssh(guest); };
    doors.is_over = [this](Guest& guest) { installation_is_over(guest); };
    doors.now_s = [this] { return ground_.time_s(); };
    installs_.emplace(loop_, *memory_, std::move(doors));
}

// The connection is begun here, where the network is, and read where nothing is lost by it.
void Host::ask_for_ssh(const Guest& guest) {
    const auto address = address_of(guest.config());
    if (!http_ || !address)
        return;
    std::string device;
    for (const auto& one : guest.config().interfaces)
        if (const auto* on = model_.find_switch(one.switch_name);
            on != nullptr && one.ipv4 == address && on->rdomain != 0)
            device = net::rdomain_name(on->rdomain);
    auto socket = ground_.open_connection(*address, ssh_port, device);
    if (!socket)
        return log::debug("host", "{}", socket.error().message());
    http_->send(ipc::encode(ipc::HttpSshWanted{guest.id(), std::move(*socket)}));
}

void Host::took_set(const ipc::HttpSetSent& sent) {
    for (const auto& guest : guests_)
        if (guest->pid() && has_address(guest->config(), sent.address))
            installs_->fetched(*guest, sent.set, sent.bytes);
}

void Host::renew_told(Service* service) {
    if (service != nullptr)
        service->renew([](Result<void> ready) {
            if (!ready)
                log::error("host", "{}", ready.error().message());
        });
}

} // namespace vmhost::host

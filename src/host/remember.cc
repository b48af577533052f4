// A host that remembers: its model gets the ids and addresses that its VMs had, and what they have
// is written down before any of them is started with it.
//
// Loop thread of the parent.
#include <algorithm>

#include "host/host.h"

namespace vmhost::host {

// Of many complaints, the first: it goes to a client or into the log, as one line.
Result<config::Model> first_complaint(std::expected<config::Model, config::Complaints> model) {
    if (model)
        return std::move(*model);
    auto& complaints = model.error();
    if (complaints.size() == 1)
        return std::unexpected(std::move(complaints.front()));
    return fail(ErrorKind::invalid, "{} (and {} more complaints)", complaints.front().message(),
                complaints.size() - 1);
}

Result<void> Host::open_memory() {
    memory_ = TRY(Memory::open(model_.host));
    auto remembered = TRY(memory_->of_file());
    model_ = TRY(first_complaint(config::recall(model_, remembered)));
    return {};
}

// Of guests of an earlier host that are not in the file.
Result<void> Host::know_makers() {
    auto all = TRY(memory_->store().machines());
    for (const auto& [record, process] : found_) {
        if (!record.temporary)
            continue;
        auto stored = std::ranges::find(all, record.id, &store::Machine::id);
        makers_[record.name] = stored == all.end() ? 0 : stored->maker.value_or(0);
    }
    return {};
}

// A guest that runs has the one that it was started with, whatever is remembered.
std::optional<std::uint32_t> Host::running_id(const std::string& name) const {
    for (const auto& one : found_)
        if (one.record.name == name)
            return one.record.id;
    return std::nullopt;
}

std::optional<std::uint32_t> Host::maker_of(const std::string& name) const {
    auto found = makers_.find(name);
    return found == makers_.end() ? std::nullopt : std::optional(found->second);
}

// Those that go come first: from then on they have what nobody else claims.
Result<std::vector<std::uint32_t>> Host::note(const config::Model& next) {
    std::vector<Noted> vms;
    for (const auto& guest : guests_)
        if (const auto& name = guest->config().name; next.find_vm(name) == nullptr)
            vms.push_back({&model_, &guest->config(), maker_of(name), {}});
    const auto gone = static_cast<std::ptrdiff_t>(vms.size());
    for (const auto& vm : next.vms)
        vms.push_back({&next, &vm, maker_of(vm.name), running_id(vm.name)});
    ground_.changing("host.db");
    auto ids = TRY(memory_->note(vms));
    ids.erase(ids.begin(), ids.begin() + gone);
    for (std::size_t i = 0; i < ids.size(); ++i)
        ids[i] = running_id(next.vms[i].name).value_or(ids[i]);
    return ids;
}

// With the other VMs of its maker, so that none that is there is forgotten as the oldest.
Result<std::uint32_t> Host::note_new(const config::Model& next, const config::Vm& vm,
                                     std::uint32_t maker) {
    std::vector<Noted> vms;
    for (const auto& guest : guests_)
        if (maker_of(guest->config().name) == maker)
            vms.push_back({&model_, &guest->config(), maker, {}});
    vms.push_back({&next, &vm, maker, {}});
    ground_.changing("host.db");
    auto id = TRY(memory_->note(vms)).back();
    TRY(memory_->forget_surplus(maker, std::max(vms.size(), limits::max_instances_of_user)));
    return id;
}

Result<std::string> Host::explain_vm(std::string_view name_or_id) {
    const auto& guest = *TRY(find(name_or_id));
    const auto& vm = guest.config();
    // One that was taken over has the lines of what the last host wrote down; the file's are
    // better, where it says the same.
    std::optional<config::Model> file;
    if (auto read = load(""); took_over_ && read)
        if (const auto* same = read->find_vm(vm.name); same && *same == vm)
            file = std::move(*read);
    Knowledge known;
    known.not_stored_because = memory_->lost_because();
    if (known.not_stored_because.empty()) {
        auto all = TRY(memory_->store().machines());
        if (auto found = std::ranges::find(all, guest.id(), &store::Machine::id);
            found != all.end())
            known.stored = std::move(*found);
    }
    known.running = RunningVm{.id = guest.id(),
                              .uid = guest.user() ? std::optional(guest.user()->uid) : std::nullopt,
                              .state = std::string(name_of(guest.state())),
                              .lease = guest.lease ? guest.lease->text() : std::string(),
                              .maker = maker_of(vm.name)};
    return json_of(file ? explain(*file, *file->find_vm(vm.name), known)
                        : explain(model_, vm, known));
}

Result<void> Host::forget(const std::string& name) {
    for (const auto& guest : guests_)
        if (guest->config().name == name)
            return fail(
                ErrorKind::busy,
                "vm {} is there: take it out of the file, or let it end, and then forget it",
                printable(name, 64));
    if (TRY(memory_->store().forget(name)) == 0)
        return fail(ErrorKind::not_found, "nothing is remembered of a vm {}", printable(name, 64));
    return {};
}

} // namespace vmhost::host

// VMs that are made from another one, as vm.conf(5)'s "vm TEMPLATE instance NAME" and vmctl(8)'s
// "start -t": what an instance has from its template, and who may choose what else.
//
// An instance has every setting of its template but its disks, because two guests cannot
// share one, and but what makes a machine itself: Ethernet and IPv4 addresses, names of taps,
// the file of the console log. What it says itself replaces the template's; an interface is
// replaced as a whole, by its position.
//
// In the file an instance is read over a copy of its template, so that this holds for every
// key there is; templates are read first, wherever they stand.
#include "config/instance.h"

#include <algorithm>
#include <unordered_map>

#include "config/assign.h"
#include "config/codec.h"

namespace vmhost::config {

namespace {

// The texts of [vm.NAME] instance_of, before anything else of it is read.
std::string template_named(const Member& member) {
    const auto* table = member.node->as_table();
    const auto* name = table ? table->get_as<std::string>("instance_of") : nullptr;
    return name ? name->get() : std::string();
}

class InstanceReader {
public:
    InstanceReader(const Spot& spot, const Section& section, std::vector<Vm>& out)
        : spot_(spot), section_(section), out_(out),
          members_(read_named(spot, section, limits::max_vms)), states_(members_.size()) {
        out_.resize(members_.size()); // before any place is noted: see reader.h
        for (std::size_t i = 0; i < members_.size(); ++i)
            by_name_.emplace(members_[i].key->str(), i);
    }
    void read_all() {
        for (std::size_t i = 0; i < members_.size(); ++i)
            read(i);
    }

private:
    enum class State : std::uint8_t { unread, begun, done };

    // Templates first: a chain of them is followed without recursion, it may be long.
    void read(std::size_t index) {
        std::vector<std::size_t> chain;
        for (auto next = std::optional(index); next && states_[*next] == State::unread;) {
            states_[*next] = State::begun;
            chain.push_back(*next);
            next = template_of(*next);
        }
        for (; !chain.empty(); chain.pop_back())
            read_one(chain.back());
    }

    std::optional<std::size_t> template_of(std::size_t index) const {
        auto found = by_name_.find(template_named(members_[index]));
        return found == by_name_.end() ? std::nullopt : std::optional(found->second);
    }

    void read_one(std::size_t index) {
        const Member& member = members_[index];
        Path path{&spot_.path, member.key->str()};
        Spot table{spot_.findings, path, *member.node, member.key->source().begin};
        Vm& vm = out_[index];
        auto parent = template_of(index);
        // A template that is still being read is an instance of this one.
        if (parent && states_[*parent] == State::done)
            vm = as_instance(out_[*parent]);
        else
            complain_about_template(table, member, parent.has_value());
        vm.place = table.key_place();
        vm.name = member.key->str();
        table.findings.note_key(path.text(), table.key_place());
        read_section(table, section_, &vm);
        states_[index] = State::done;
    }

    void complain_about_template(const Spot& table, const Member& member, bool exists) {
        auto name = template_named(member);
        if (name.empty())
            return; // none, or not a name, which the schema says
        std::vector<std::string_view> names;
        for (const auto& [known, position] : by_name_)
            if (known != member.key->str())
                names.push_back(known);
        std::ranges::sort(names);
        auto text = exists ? fmt::format("\"{}\" is an instance of this VM itself, or of an "
                                         "instance of it",
                                         printable(name, 70))
                           : fmt::format("there is no VM \"{}\"{}", printable(name, 70),
                                         suggestion(name, names));
        const auto* key = table.node.as_table()->get("instance_of");
        table.findings.complain(table.findings.place(key->source().begin),
                                exists ? ErrorKind::invalid : ErrorKind::not_found,
                                fmt::format("{}.instance_of: {}", table.path.text(), text));
    }

    const Spot& spot_;
    const Section& section_;
    std::vector<Vm>& out_;
    std::vector<Member> members_;
    std::vector<State> states_;
    std::unordered_map<std::string_view, std::size_t> by_name_;
};

} // namespace

Vm as_instance(const Vm& parent) {
    Vm vm = parent;
    vm.enabled = true;
    vm.suspended = false;
    vm.instance_of = parent.name;
    if (vm.allow_instance && !vm.allow_instance->allows("instance"))
        vm.allow_instance.reset();
    vm.disks.clear();
    vm.console_log.path.clear();
    if (vm.install)
        vm.install->hostname.clear();
    for (Interface& interface : vm.interfaces) {
        interface.lladdr = {};
        interface.ipv4.reset();
        interface.ipv6.reset();
        interface.tap.clear();
        if (interface.local)
            interface.switch_name.clear();
    }
    return vm;
}

namespace {

// Root may choose everything; others what the template lets them.
Result<void> check_allowed(const Vm& parent, const NewVm& wish) {
    auto check = [&](bool chosen, std::string_view option) -> Result<void> {
        if (!chosen || (parent.allow_instance && parent.allow_instance->allows(option)))
            return {};
        return fail(ErrorKind::denied,
                    "vm {}: an instance of {} may not choose its {}: \"{}\" is missing in "
                    "allow_instance of [vm.{}]",
                    wish.name, parent.name, option, option, parent.name);
    };
    if (wish.anything_allowed)
        return {};
    TRY(check(!parent.instance_of.empty(), "instance"));
    TRY(check(wish.boot.has_value(), "boot"));
    TRY(check(wish.memory_bytes.has_value(), "memory"));
    TRY(check(!wish.disks.empty(), "disk"));
    TRY(check(!wish.interfaces.empty() || wish.interfaces_min > 0, "interface"));
    return check(wish.cdrom.has_value(), "cdrom");
}

void choose(Vm& vm, const NewVm& wish) {
    if (wish.owner)
        vm.owner = *wish.owner;
    if (wish.memory_bytes)
        vm.memory_bytes = *wish.memory_bytes / MiB * MiB;
    if (wish.boot) { // another kernel has nothing of the template's
        vm.boot = *wish.boot;
        vm.initrd.clear();
        vm.command_line.clear();
        vm.boot_flags.clear();
    }
    if (wish.cdrom)
        vm.cdrom = *wish.cdrom;
    vm.disks = wish.disks;
    if (vm.interfaces.size() < std::max(wish.interfaces.size(), wish.interfaces_min))
        vm.interfaces.resize(std::max(wish.interfaces.size(), wish.interfaces_min));
    std::ranges::copy(wish.interfaces, vm.interfaces.begin());
}

Result<void> check_limits(const Model& model, const Vm& vm) {
    auto limit = [&](std::string_view what, std::size_t count, std::size_t max) -> Result<void> {
        if (count <= max)
            return {};
        return fail(ErrorKind::limit, "vm {}: {} {}: there may be at most {}", vm.name, count, what,
                    max);
    };
    if (vm.memory_bytes < limits::min_memory_bytes || vm.memory_bytes > limits::max_memory_bytes)
        return fail(ErrorKind::limit, "vm {}: memory is from {} to {}", vm.name,
                    exact_size(limits::min_memory_bytes), exact_size(limits::max_memory_bytes));
    TRY(limit("disks", vm.disks.size(), limits::max_disks));
    TRY(limit("interfaces", vm.interfaces.size(), limits::max_interfaces));
    return limit("VMs", model.vms.size() + 1, limits::max_vms);
}

} // namespace

Result<Model> add_vm(const Model& model, const NewVm& wish, const Remembered& remembered) {
    TRY(check_name(wish.name));
    if (model.find_vm(wish.name))
        return fail(ErrorKind::exists, "vm {} exists already", wish.name);
    Vm vm;
    if (!wish.parent.empty()) {
        const Vm* parent = model.find_vm(wish.parent);
        if (!parent)
            return fail(ErrorKind::not_found, "invalid template: there is no vm {}",
                        printable(wish.parent, 64));
        TRY(check_allowed(*parent, wish));
        if (parent->suspended && !wish.anything_allowed)
            return fail(ErrorKind::denied, "vm {} is suspended: only root makes instances of it",
                        parent->name);
        vm = as_instance(*parent);
    } else if (!wish.anything_allowed) {
        return fail(ErrorKind::denied, "vm {}: only root makes a VM that is no instance of another",
                    wish.name);
    }
    vm.name = wish.name;
    choose(vm, wish);
    TRY(check_limits(model, vm));

    Model out = model;
    out.vms.push_back(std::move(vm));
    Findings findings(model.file);
    for (std::size_t i = 0; i + 1 < out.vms.size(); ++i)
        for (Interface& interface : out.vms[i].interfaces) {
            // Theirs stay: as if the file had them.
            findings.note(&interface.lladdr, {});
            findings.note(&interface.ipv4, {});
            findings.note(&interface.ipv6, {});
        }
    fill_vm(out, out.vms.back(), findings);
    check_model(out, findings);
    if (findings.count() == 0)
        assign_addresses(out, findings, remembered);
    if (auto complaints = findings.take(); !complaints.empty())
        return fail(complaints.front().kind(), "{}", complaints.front().text());
    return out;
}

void remove_vm(Model& model, std::string_view name) {
    const Vm* vm = model.find_vm(name);
    if (!vm)
        return;
    for (const Interface& interface : vm->interfaces)
        if (interface.local)
            std::erase_if(model.switches, [&](const Switch& sw) {
                return sw.local && sw.name == interface.switch_name;
            });
    std::erase_if(model.vms, [&](const Vm& other) { return &other == vm; });
}

void read_vms(const Spot& spot, const Section& section, std::vector<Vm>& out) {
    InstanceReader(spot, section, out).read_all();
}

} // namespace vmhost::config

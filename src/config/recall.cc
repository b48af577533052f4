// Addresses that survive: what was derived once is kept by whoever had it, though a VM that came
// before it in the file, or another name, would now push it aside.
//
// The file is the truth, in this order: what it gives; then what interfaces of its VMs had by
// derivation; then, as nobody else's, what VMs had that are not in it now; then the rules of
// assign.cc. Only when the file gives one VM what another of its VMs keeps does it contradict
// itself, and is refused.
#include "config/recall.h"

#include <algorithm>

#include "config/assign.h"

namespace vmhost::config {

namespace {

std::string key_of(std::string_view vm, std::size_t index) {
    return fmt::format("{}:{}", vm, index);
}

std::string interface_path(const Vm& vm, std::size_t index) {
    return fmt::format("vm.{}.interface[{}]", printable(vm.name, 70), index);
}

// As if the model had just been read: only what the file gives is there.
void take_back(Model& model, Findings& findings) {
    for (Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            Interface& interface = vm.interfaces[i];
            // A field that was given is noted, others are as they are made.
            auto reset_unless_given = [&](const char* key, auto& field) {
                auto place = model.places.find(interface_path(vm, i) + key);
                if (place == model.places.end())
                    field = {};
                else
                    findings.note(&field, {place->second.line, place->second.column});
            };
            reset_unless_given(".lladdr", interface.lladdr);
            reset_unless_given(".ipv4", interface.ipv4);
            reset_unless_given(".ipv6", interface.ipv6);
            if (interface.local)
                interface.switch_name.clear();
        }
    std::erase_if(model.switches, [](const Switch& sw) { return sw.local; });
}

} // namespace

Recall::Recall(const Model& model, const Remembered& remembered) {
    std::unordered_map<std::string_view, const Vm*> vms;
    for (const Vm& vm : model.vms)
        vms.emplace(vm.name, &vm);
    for (const Entry& entry : remembered.interfaces) {
        auto vm = vms.find(entry.vm);
        if (vm == vms.end() || entry.of_another || entry.index >= vm->second->interfaces.size())
            absent_.push_back(&entry);
        else
            present_.emplace(key_of(entry.vm, entry.index), &entry);
    }
}

const Recall::Entry* Recall::of(const Vm& vm, std::size_t index) const {
    auto found = present_.find(key_of(vm.name, index));
    return found == present_.end() ? nullptr : found->second;
}

void complain_about_claim(const Model& model, std::string_view owner, std::size_t owners,
                          std::string_view address, Findings& findings) {
    for (const Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            const Interface& interface = vm.interfaces[i];
            const bool lladdr = interface.lladdr.text() == address;
            const bool ipv4 = interface.ipv4 && interface.ipv4->text() == address;
            const bool ipv6 = interface.ipv6 && interface.ipv6->text() == address;
            if (vm.name == owner || !(lladdr || ipv4 || ipv6))
                continue;
            const void* field = lladdr ? static_cast<const void*>(&interface.lladdr)
                                : ipv4 ? static_cast<const void*>(&interface.ipv4)
                                       : static_cast<const void*>(&interface.ipv6);
            // One without a line is of a VM that runs already, and no word of the file.
            if (!findings.given(field) || findings.place_of(field, interface.place).line == 0)
                continue;
            return findings.complain(
                findings.place_of(field, interface.place), ErrorKind::exists,
                fmt::format("{}.{}: {} is what vm.{}.interface[{}] has had so far: give that "
                            "another one, too",
                            interface_path(vm, i),
                            lladdr ? "lladdr"
                            : ipv4 ? "ipv4"
                                   : "ipv6",
                            address, printable(owner, 70), owners));
        }
}

std::expected<Model, Complaints> recall(Model model, const Remembered& remembered) {
    Findings findings(model.file);
    take_back(model, findings);
    assign_addresses(model, findings, remembered);
    if (auto complaints = findings.take(); !complaints.empty())
        return std::unexpected(std::move(complaints));
    return model;
}

} // namespace vmhost::config

// Local interfaces, as vmd(8) has them: a guest alone with this host, with an address on each
// end, DHCP, and nobody else on the wire.
//
// Each becomes a switch of its own in the model, so that bridges, taps, DHCP and answer files
// know nothing of them: a /31 of host.local.ipv4 with the even address for this host and the
// odd one for the guest, this host as its router and its name server. The switch is called
// "VM:INDEX", which no switch of the file can be, and its bridge "VM-brINDEX".
//
// The pair of addresses is a hash of the VM's name and the index of the interface, moved to
// the next free pair on a collision, as in assign.cc; the first and the last pair of the
// prefix are left out, which are the network's and its broadcast address to other machines.
#include <unordered_set>

#include "config/assign.h"

namespace vmhost::config {

namespace {

std::string switch_name(const Vm& vm, std::size_t index) {
    return fmt::format("{}:{}", vm.name, index);
}

std::string bridge_name(const Vm& vm, std::size_t index) {
    auto end = fmt::format("-br{}", index);
    if (vm.name.size() + end.size() <= limits::max_device_name_bytes)
        return vm.name + end;
    end = fmt::format("-{:04x}{}", stable_hash({"bridge", vm.name}, index) & 0xffff, end);
    return vm.name.substr(0, limits::max_device_name_bytes - end.size()) + end;
}

class Pairs {
public:
    explicit Pairs(const Ipv4Prefix& prefix)
        : prefix_(prefix), first_(prefix.network().value + 2),
          count_((prefix.broadcast().value - prefix.network().value + 1) / 2 - 2) {}

    // The host's address for the guest's.
    std::optional<Ipv4> host_of(Ipv4 guest) const {
        if (!prefix_.contains(guest) || guest.value % 2 == 0 || guest.value < first_ ||
            (guest.value - first_) / 2 >= count_)
            return {};
        return Ipv4{guest.value - 1};
    }
    bool take(Ipv4 host) { return taken_.insert(host.value).second; }
    std::optional<Ipv4> choose(std::uint64_t hash) {
        if (taken_.size() >= count_)
            return {};
        auto pair = static_cast<std::uint32_t>(hash % count_);
        while (!taken_.insert(first_ + 2 * pair).second)
            pair = (pair + 1) % count_;
        return Ipv4{first_ + 2 * pair};
    }

private:
    Ipv4Prefix prefix_;
    std::uint32_t first_, count_;
    std::unordered_set<std::uint32_t> taken_; // hosts' addresses
};

Switch switch_for(const Model& model, const Vm& vm, std::size_t index, Ipv4 host) {
    Switch sw;
    sw.place = vm.interfaces[index].place;
    sw.name = switch_name(vm, index);
    sw.interface = bridge_name(vm, index);
    sw.ipv4 = Ipv4Prefix{host, 31};
    sw.dhcp.routers = {host};
    sw.dhcp.domain_name_servers = {host};
    sw.dhcp.domain_name = model.host.domain;
    sw.dhcp.next_server = host;
    sw.rdomain = vm.interfaces[index].rdomain;
    sw.local = true;
    return sw;
}

// Calls use(vm, index, interface) for each local interface.
template <class Use>
void each_local(Model& model, Use use) {
    for (Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i)
            if (vm.interfaces[i].local)
                use(vm, i, vm.interfaces[i]);
}

// As in assign.cc: what interfaces had before, and what those that are absent had is nobody's.
void keep_pairs(Model& model, Pairs& pairs, const Recall& recall, Findings& findings) {
    each_local(model, [&](Vm& vm, std::size_t i, Interface& interface) {
        const auto* before = recall.of(vm, i);
        if (interface.ipv4 || before == nullptr || !before->ipv4 || before->ipv4_given ||
            before->switch_name != switch_name(vm, i))
            return;
        auto host = pairs.host_of(*before->ipv4);
        if (!host)
            return; // host.local.ipv4 is another one now
        if (pairs.take(*host))
            interface.ipv4 = before->ipv4;
        else
            complain_about_claim(model, vm.name, i, before->ipv4->text(), findings);
    });
    for (const auto* absent : recall.of_absent())
        if (absent->ipv4 && absent->switch_name.find(':') != std::string::npos)
            if (auto host = pairs.host_of(*absent->ipv4))
                pairs.take(*host);
}

} // namespace

void assign_local(Model& model, Findings& findings, const Recall& recall) {
    Pairs pairs(model.host.local_ipv4);
    std::unordered_set<std::string> made;
    for (const Switch& sw : model.switches)
        made.insert(sw.name);
    each_local(model, [&](Vm& vm, std::size_t i, Interface& interface) {
        if (!interface.ipv4)
            return;
        if (auto host = pairs.host_of(*interface.ipv4))
            pairs.take(*host);
        else
            findings.complain(
                findings.place_of(&interface.ipv4, interface.place), ErrorKind::invalid,
                fmt::format("vm.{}.interface[{}].ipv4: {} is not for a local interface: it has an "
                            "odd address of {}, the even one below it is this host's",
                            printable(vm.name, 70), i, interface.ipv4->text(),
                            model.host.local_ipv4.text()));
    });
    keep_pairs(model, pairs, recall, findings);
    each_local(model, [&](Vm& vm, std::size_t i, Interface& interface) {
        if (!interface.ipv4) {
            auto host = pairs.choose(stable_hash({"local", vm.name}, i));
            if (!host)
                return findings.complain(
                    interface.place, ErrorKind::limit,
                    fmt::format("vm.{}.interface[{}]: {} has no free pair of addresses",
                                printable(vm.name, 70), i, model.host.local_ipv4.text()));
            interface.ipv4 = Ipv4{host->value + 1};
        }
        interface.switch_name = switch_name(vm, i);
        if (made.insert(interface.switch_name).second)
            model.switches.push_back(switch_for(model, vm, i, Ipv4{interface.ipv4->value - 1}));
    });
}

} // namespace vmhost::config

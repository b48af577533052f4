// What a guest may send: from the model to the rules of its taps (net/guard.h).
//
// The rules follow the model while the guest runs, but for its Ethernet addresses: those are what
// it was started with, until it is started again.
#include "host/guest.h"

namespace vmhost::host {

net::PortGuard guard_of(const config::Model& model, const config::Interface& interface,
                        const Mac& lladdr) {
    const auto* wanted = model.find_switch(interface.switch_name);
    net::PortGuard guard;
    if (wanted == nullptr || !wanted->enabled)
        return guard; // nobody hears it
    if (wanted->storm.enabled)
        guard.storm = net::Storm{wanted->storm.frames, wanted->storm.burst};
    if (!interface.guard.value_or(false))
        return guard;
    guard.frames = true;
    if (interface.locked_lladdr.value_or(false))
        guard.mac = lladdr;
    // The model knows no addresses of what is behind a tag.
    guard.tags = !interface.trunk.empty();
    if (interface.ipv4 && !guard.tags)
        guard.ipv4.push_back({*interface.ipv4, 32});
    if (wanted->ipv6) {
        // The router is known by its link-local address.
        const auto router = Ipv6::link_local(net::bridge_mac(model.host.name, wanted->interface));
        guard.others = {{wanted->ipv6->address.octets(), 128}, {router.octets(), 128}};
        if (interface.ipv6 && !guard.tags)
            guard.ipv6.push_back({interface.ipv6->octets(), 128});
        if (wanted->ra.autonomous && !guard.tags)
            guard.ipv6.push_back({wanted->ipv6->network().octets(), wanted->ipv6->length});
    }
    return guard;
}

net::PortGuard Guest::guard_of(std::size_t index) const {
    const auto& interface = vm_.interfaces[index];
    return host::guard_of(model_, interface,
                          index < lladdrs_.size() ? lladdrs_[index] : interface.lladdr);
}

void Guest::renew_guards() {
    if (!process_ || context_.network == nullptr)
        return;
    for (std::size_t i = 0; i < std::min(taps_.size(), vm_.interfaces.size()); ++i)
        if (auto renewed = context_.network->guard_tap(taps_[i], guard_of(i)); !renewed)
            log::warning("host", "vm {}: {}", vm_.name, renewed.error().message());
}

} // namespace vmhost::host

#include "install/way.h"

#include <algorithm>

namespace vmhost::install {

std::optional<Way> way_of(const config::Model& model, const config::Vm& vm) {
    for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
        const auto* one = model.find_switch(vm.interfaces[i].switch_name);
        if (one != nullptr && one->ipv4 && vm.interfaces[i].ipv4)
            return Way{*one, vm.interfaces[i], i};
    }
    return std::nullopt;
}

Ipv4 router_of(const config::Switch& on) {
    return on.dhcp.routers.empty() ? on.ipv4->address : on.dhcp.routers.front();
}

Result<std::string> own_server(const config::Model& model, const config::Vm& vm,
                               std::string_view what) {
    auto found = way_of(model, vm);
    if (!found)
        return fail(ErrorKind::invalid,
                    "{}: it has no interface on a switch with an IPv4 address, from which to "
                    "fetch them",
                    what);
    config::ListenAddress at{{}, found->on.ipv4->address, 80};
    const auto& listen = model.install.listen;
    auto serves = [&](const config::ListenAddress& each) {
        return each.address == at.address || each.address == Ipv4{};
    };
    // Another of IPv4 rather than one of IPv6, which the guest may not have.
    auto other =
        std::ranges::find_if(listen, [](const auto& each) { return each.address.is_ipv4(); });
    if (auto own = std::ranges::find_if(listen, serves); own != listen.end())
        at.port = own->port;
    else if (!listen.empty())
        at = other != listen.end() ? *other : listen.front();
    if (at.address.is_loopback())
        return fail(ErrorKind::invalid, "{}: guests cannot reach {}, where install.listen has them",
                    what, at.address.text());
    return at.port == 80 ? fmt::format("http://{}", at.address.host_text())
                         : fmt::format("http://{}:{}", at.address.host_text(), at.port);
}

} // namespace vmhost::install

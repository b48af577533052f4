#include "install/values.h"

#include "install/password.h"
#include "install/site_set.h"
#include "install/way.h"

namespace vmhost::install {

namespace {

template <class Address>
std::string list_of(const std::vector<Address>& addresses) {
    std::string out;
    for (const auto& one : addresses)
        out += (out.empty() ? "" : ",") + one.text();
    return out;
}

void add_addresses(const config::Model& model, const config::Vm& vm, Values& values) {
    for (const char* name : {"ipv4", "ipv4_prefix", "netmask", "router", "dns", "ipv6",
                             "ipv6_prefix", "ipv6_router", "mac", "server"})
        values[name];
    auto way = way_of(model, vm);
    if (!way)
        return;
    const auto& [on, interface, index] = *way;
    values["mac"] = interface.lladdr.text();
    values["ipv4"] = interface.ipv4->text();
    values["ipv4_prefix"] = fmt::format("{}", on.ipv4->length);
    values["netmask"] = Ipv4{on.ipv4->mask()}.text();
    values["router"] = router_of(on).text();
    values["dns"] = list_of(on.dhcp.domain_name_servers);
    if (on.ipv6 && interface.ipv6) {
        values["ipv6"] = interface.ipv6->text();
        values["ipv6_prefix"] = fmt::format("{}", on.ipv6->length);
        if (on.ra.router)
            values["ipv6_router"] = on.ipv6->address.text();
    }
    if (auto server = own_server(model, vm, {}))
        values["server"] = std::move(*server);
}

} // namespace

std::string instance_id(const config::Vm& vm, std::uint32_t number) {
    return fmt::format("{}-{}", vm.name, number);
}

Values plain_values(const config::Model& model, const config::Vm& vm, std::uint32_t number) {
    const auto& install = *vm.install;
    const auto full = install.hostname.empty() ? vm.name : install.hostname;
    const auto dot = full.find('.');
    const auto domain = dot == std::string::npos ? model.host.domain : full.substr(dot + 1);
    Values values;
    values["vm"] = vm.name;
    values["hostname"] = short_host_name(vm);
    values["domain"] = domain;
    values["fqdn"] = domain.empty() ? full : fmt::format("{}.{}", short_host_name(vm), domain);
    values["user"] = install.user;
    values["sshkey"] = install.sshkey;
    values["timezone"] = install.timezone;
    values["release"] = model.install.release;
    values["instance_id"] = instance_id(vm, number);
    add_addresses(model, vm, values);
    values["mirror"] = model.install.sets.empty() ? model.install.mirror
                       : values["server"].empty() ? std::string()
                                                  : values["server"] + "/pub/OpenBSD";
    return values;
}

Result<Values> all_values(const config::Model& model, const config::Vm& vm, std::uint32_t number,
                          const Values& more) {
    auto values = more;
    values.merge(plain_values(model, vm, number));
    for (const auto& [name, password] : {std::pair{"password", &vm.install->password},
                                         {"root_password", &vm.install->root_password}}) {
        values[name] = *password == no_password ? "" : *password;
        if (const auto hash = std::string(name) + "_hash"; !values.contains(hash))
            values[hash] = TRY(hash_of_password(*password));
    }
    values["host_key"];
    values["host_key_public"];
    return values;
}

} // namespace vmhost::install

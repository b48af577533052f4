#include "deploy/compare.h"

#include "deploy/template.h"

namespace vmhost::deploy {

namespace {

class Comparison {
public:
    Comparison(const Order& order, const config::Vm& vm) : order_(order), vm_(vm) {}

    std::vector<Departure> run(const std::string& host_name) {
        fixed("username", vm_.owner.user, order_.username);
        if (order_.memory_bytes) {
            const auto wanted = exact_size(*order_.memory_bytes);
            value("memory", "memory", exact_size(vm_.memory_bytes), wanted,
                  config::toml_text(wanted));
        }
        if (order_.cpus)
            value("cpus", "vcpus", std::to_string(vm_.vcpus), std::to_string(*order_.cpus),
                  std::to_string(*order_.cpus));
        if (vm_.install && vm_.install->file.empty()) {
            value("hostname", "hostname", vm_.install->hostname, host_name,
                  config::toml_text(host_name), true);
            compare_key();
        }
        if (order_.system && vm_.install)
            fixed("system", std::string(name_of(vm_.install->system)),
                  std::string(name_of(*order_.system)));
        compare_disks();
        if (!vm_.interfaces.empty())
            compare_addresses(vm_.interfaces[0]);
        return std::move(found_);
    }

private:
    void fixed(const std::string& key, const std::string& is, const std::string& wanted) {
        if (is != wanted)
            found_.push_back({key, is, wanted, {}, {}, {}});
    }
    void value(const std::string& key, const std::string& name, const std::string& is,
               const std::string& wanted, const std::string& written, bool of_install = false) {
        if (is == wanted)
            return;
        std::vector<std::string> table{"vm", vm_.name};
        if (of_install)
            table.emplace_back("install");
        found_.push_back({key, is, wanted, std::move(table), name, written});
    }
    void compare_key() {
        auto key = parse_ssh_key(vm_.install->sshkey);
        if (key && key->same_key(order_.sshkey))
            return;
        // Behind the key stands the password, for whoever can log in.
        auto text = order_.sshkey.text();
        if (vm_.install->sshkey.ends_with(" " + vm_.install->password))
            text += " " + vm_.install->password;
        value("sshkey", "sshkey", key ? key->base64 : "none", order_.sshkey.base64,
              config::toml_text(text), true);
    }
    void compare_disks() {
        const auto& disks = vm_.disks;
        auto size_of = [&](std::size_t index) {
            return disks.size() > index && disks[index].size_bytes
                       ? exact_size(*disks[index].size_bytes)
                       : "none";
        };
        if (!order_.image.empty() && !disks.empty()) {
            const auto path = disks[0].base.empty() ? "none" : disks[0].base.front();
            fixed("image", path.substr(path.rfind('/') + 1), order_.image);
        }
        // The size of a first disk may be that of its image alone.
        if (order_.disk_bytes && size_of(0) != "none")
            fixed("disk", size_of(0), exact_size(*order_.disk_bytes));
        if (order_.disk2_bytes)
            fixed("disk2", size_of(1), exact_size(*order_.disk2_bytes));
    }
    void compare_addresses(const config::Interface& wire) {
        if (order_.mac)
            fixed("mac", wire.lladdr.text(), order_.mac->text());
        if (order_.ipv4)
            fixed("ipv4", wire.ipv4 ? wire.ipv4->text() : "none", order_.ipv4->text());
        if (order_.ipv6)
            fixed("ipv6", wire.ipv6 ? wire.ipv6->text() : "none", order_.ipv6->text());
    }

    const Order& order_;
    const config::Vm& vm_;
    std::vector<Departure> found_;
};

} // namespace

std::vector<Departure> departures(const Order& order, const config::Vm& vm,
                                  const std::string& host_name) {
    return Comparison(order, vm).run(host_name);
}

} // namespace vmhost::deploy

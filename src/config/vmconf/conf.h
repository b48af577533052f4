// What a vm.conf(5) of OpenBSD says, as it says it: nothing looked up on this host, nothing
// filled in. An empty text or an absent value was not said.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/model.h"

namespace vmhost::config::vmconf {

// One value and where it stands.
template <class Value>
struct Said : Where {
    Value value{};
    bool given = false;
    void say(Value what, const Place& where) {
        value = std::move(what);
        static_cast<Place&>(*this) = where;
        given = true;
    }
};
using Text = Said<std::string>;
using Number = Said<std::uint64_t>;
using Flag = Said<bool>;

struct Interface {
    Where place;
    bool local = false;
    Text tap; // "tap3"
    Text switch_name, lladdr, group;
    Flag locked, up;
    Number rdomain;
};

struct Disk {
    Text path, format;
};

struct Vm {
    Where place;
    std::string name;
    Text parent;
    Flag enable, sev, seves;
    Text boot, boot_device, cdrom, owner;
    Number memory_bytes, interfaces_min;
    std::vector<Disk> disks;
    std::vector<Interface> interfaces;
    Where allow_place;
    bool allow_instance = false;
    std::vector<std::string> allow_options;
    Text allow_owner;
};

struct Switch {
    Where place;
    std::string name;
    Text interface, group;
    Flag enable, locked, up;
    Number rdomain;
};

struct Conf {
    Text agentx, local_prefix, socket_owner;
    Text inet6; // the prefix, or empty
    Number start_parallel, start_delay_s;
    std::vector<Switch> switches;
    std::vector<Vm> vms;
};

} // namespace vmhost::config::vmconf

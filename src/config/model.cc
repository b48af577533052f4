#include "config/model.h"

#include <algorithm>

namespace vmhost::config {

bool AllowInstance::allows(std::string_view option) const {
    return std::ranges::find(options, option) != options.end();
}

const Switch* Model::find_switch(std::string_view name) const {
    auto found = std::find_if(switches.begin(), switches.end(),
                              [&](const Switch& sw) { return sw.name == name; });
    return found == switches.end() ? nullptr : &*found;
}

const Vm* Model::find_vm(std::string_view name) const {
    auto found =
        std::find_if(vms.begin(), vms.end(), [&](const Vm& vm) { return vm.name == name; });
    return found == vms.end() ? nullptr : &*found;
}

} // namespace vmhost::config

// From the model to what net/ is asked for.
//
// Pure; any thread.
#pragma once

#include "config/config.h"
#include "net/net.h"

namespace vmhost::host {

net::BridgeSpec bridge_of(const config::Switch& one);
// Of a VM's interface. Its queues are not the model's matter.
net::TapSpec tap_of(const config::Model& model, const config::Vm& vm, std::uint32_t id,
                    std::size_t interface);

} // namespace vmhost::host

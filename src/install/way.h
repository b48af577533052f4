// How a guest reaches this host while it installs itself: by its first interface that has an IPv4
// address, on a switch that has one.
#pragma once

#include <optional>
#include <string>

#include "config/model.h"

namespace vmhost::install {

struct Way {
    const config::Switch& on;
    const config::Interface& interface;
    std::size_t index; // vio0 is 0
};
std::optional<Way> way_of(const config::Model& model, const config::Vm& vm);

// Of a switch with an IPv4 address: where its guests send what is not for their network.
Ipv4 router_of(const config::Switch& on);

// The service for installers as the guest reaches it: "http://192.0.2.1", or with ":8080"; what:
// what it is needed for, in the error.
Result<std::string> own_server(const config::Model& model, const config::Vm& vm,
                               std::string_view what);

} // namespace vmhost::install

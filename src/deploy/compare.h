// What an order says of a VM that the file has, and the file says otherwise.
#pragma once

#include "deploy/order.h"

namespace vmhost::deploy {

struct Departure {
    std::string key;        // of the order
    std::string is, wanted; // for people
    // Where the file has it, and the value as TOML. An empty table: no order changes this, as it
    // makes the VM the one that it is.
    std::vector<std::string> table;
    std::string name, written;
};
// host_name: whole, that the order gives the VM.
std::vector<Departure> departures(const Order& order, const config::Vm& vm,
                                  const std::string& host_name);

} // namespace vmhost::deploy

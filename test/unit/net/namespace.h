// Every test case works in a fresh network namespace of its own: nothing of the
// machine is touched, and what is left over goes with the namespace.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <vector>

#include "net/net.h"

namespace vmhost::test {

inline bool enter_fresh_namespace() {
    return ::unshare(CLONE_NEWNET) == 0;
}

inline void fresh_namespace() {
    if (!enter_fresh_namespace())
        throw std::runtime_error("cannot make a network namespace");
}

// A command of the test's own making; iproute2 stands in for the operator.
inline void sh(const std::string& command) {
    if (std::system(command.c_str()) != 0)
        throw std::runtime_error(command);
}

// All there is: links with everything we may change about them, and addresses.
struct Snapshot {
    std::vector<net::Link> links;
    std::vector<std::string> addresses;
    bool operator==(const Snapshot&) const = default;
};

inline Snapshot snapshot() {
    auto kernel = net::open_kernel_links().value();
    Snapshot all{kernel->list().value(), {}};
    // New links of the kernel's come in any order.
    std::ranges::sort(all.links, {}, &net::Link::index);
    const auto addresses = kernel->addresses().value();
    for (const auto& address : addresses)
        all.addresses.push_back(std::to_string(address.index) + " " + address.prefix.text());
    return all;
}

inline net::Link link(const std::string& name) {
    return net::open_kernel_links().value()->find(name).value().value();
}
inline bool exists(const std::string& name) {
    return net::open_kernel_links().value()->find(name).value().has_value();
}

inline std::string text(const Snapshot& all) {
    std::string lines;
    for (const auto& one : all.links)
        lines +=
            fmt::format("{}: {} alias \"{}\" kind {} mtu {} master {} {}\n", one.index, one.name,
                        one.alias, one.kind, one.mtu, one.master, one.up ? "up" : "down");
    for (const auto& one : all.addresses)
        lines += one + "\n";
    return lines;
}

} // namespace vmhost::test

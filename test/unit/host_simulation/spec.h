// A configuration file that can be changed at random, and stays one that vmhost accepts.
#pragma once

#include <string>
#include <vector>

#include "random.h"

namespace vmhost::simulation {

struct SwitchSpec {
    std::string name;
    unsigned net = 0; // 10.NET.0.0/24; 0 = without an address
    unsigned mtu = 1500;
    bool enabled = true, up = true, dhcp = true, guard = true;
    unsigned storm = 1000; // frames; 0 = no limit
    std::vector<std::string> ports;
};

struct VmSpec {
    std::string name;
    bool enabled = true;
    unsigned memory_mib = 64, vcpus = 1;
    std::string restart = "never";
    std::string owner = "root";
    unsigned stop_timeout_s = 10;
    bool disk = false, qcow2 = false;
    std::vector<std::string> switches; // of its interfaces; "" = none, "local"
    bool install = false;
};

struct Spec {
    unsigned parallel = 0, delay_ms = 0;
    unsigned stop_timeout_s = 60;
    std::string user = "_vmhost";
    std::vector<SwitchSpec> switches;
    std::vector<VmSpec> vms;

    std::string text(const std::string& state_directory) const;
};

Spec random_spec(Random& random);
// One change; what it was, in words.
std::string change(Spec& spec, Random& random);

} // namespace vmhost::simulation

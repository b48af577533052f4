// What a vm.conf(5) says, as a vmhost.toml(5).
#pragma once

#include "config/vmconf/conf.h"

namespace vmhost::config::vmconf {

struct Written {
    std::string toml;
    std::vector<Place> origins; // of each line of it; line 0 = of no statement
};

// What has no key becomes a comment where the key would stand, and a warning.
Written write(const Conf& conf, std::vector<Error>& warnings);

} // namespace vmhost::config::vmconf

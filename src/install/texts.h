// What guests of other systems are told when the configuration names no template: unattended, on
// the whole first disk, with ssh, no password of root's. Syntax: install/template.h.
#pragma once

#include <string_view>

namespace vmhost::install {

extern const std::string_view meta_data_text; // these two of cloud-init
extern const std::string_view user_data_text;
extern const std::string_view preseed_text;
extern const std::string_view kickstart_text;

} // namespace vmhost::install

// Texts and keys as TOML writes them (print.cc).
#pragma once

#include <string>
#include <string_view>

namespace vmhost::config {

std::string quoted_text(std::string_view text);
std::string key_text(std::string_view key);

} // namespace vmhost::config

// What differs between two texts, line by line, for people (text_diff.cc). No door.
#pragma once

#include <string>
#include <string_view>

namespace vmhost::cli {

// "-old" and "+new" lines under "@@ line N" of the earlier text. Passwords are not shown.
std::string text_diff(std::string_view before, std::string_view after);

} // namespace vmhost::cli

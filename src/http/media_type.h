// What a file is, by its name.
#pragma once

#include <string_view>

namespace vmhost::http {

// Never empty. A compressed archive is one: no Content-Encoding is ever said of it, with which a
// client would take it apart on its way.
std::string_view media_type(std::string_view file_name);

} // namespace vmhost::http

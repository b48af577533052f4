// Shell patterns over whole texts, in time of at most the product of both lengths.
#pragma once

#include <string_view>

namespace vmhost::http {

// * is any text, "/" and none among it; ? is one character; [a-z] and [!a-z] one of a set. A "["
// that nothing closes is itself.
bool glob_matches(std::string_view pattern, std::string_view text);

} // namespace vmhost::http

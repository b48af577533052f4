// Passwords as systems keep them.
#pragma once

#include <string>
#include <string_view>

#include "base/base.h"

namespace vmhost::install {

// What a configuration has for "nobody logs in with a password".
inline constexpr std::string_view no_password = "*************";
// In the place of a secret that is not to be shown; it is a hash that nothing fits.
inline constexpr std::string_view masked_password = "$masked";

// crypt(5) as it is, a plain one by sha512crypt with a random salt, which every Linux knows;
// empty for none.
Result<std::string> hash_of_password(std::string_view password);

} // namespace vmhost::install

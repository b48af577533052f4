// The one translation unit that compiles toml++; everybody else only includes it.
#define TOML_IMPLEMENTATION
#include "config/toml.h"

namespace vmhost::config {

void toml_broke() {
    throw TomlBroke{};
}

} // namespace vmhost::config

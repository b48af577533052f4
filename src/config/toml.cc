// The one translation unit that compiles toml++; everybody else only includes it.
#define TOML_IMPLEMENTATION
#include <toml++/toml.h>

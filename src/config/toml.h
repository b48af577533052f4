// toml++ as this room uses it. No other header or room may include it.
//
// Its parser asserts preconditions that a hostile file can break ("[[=" in 3.3), and we
// keep assertions in release builds; an assertion there must be a complaint, not the end
// of the program. So they throw, like its other errors, and parse.cc catches both.
#pragma once

namespace vmhost::config {

struct TomlBroke {};
[[noreturn]] void toml_broke();

} // namespace vmhost::config

#define TOML_EXCEPTIONS 1
// No tree deeper than a stack can take down again; together with limits::max_key_parts.
#define TOML_MAX_NESTED_VALUES 64
#define TOML_ASSERT(expression)                                                                    \
    (static_cast<bool>(expression) ? void() : ::vmhost::config::toml_broke())

// Its tables of Unicode blanks declare unreachable what characters such as U+00A7 do reach
// (undefined behaviour up to 3.4): the answer there is "no blank".
#include <toml++/impl/forward_declarations.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE                                                                           \
    return {}
#include <toml++/impl/unicode.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE __builtin_unreachable()

#include <toml++/toml.h>

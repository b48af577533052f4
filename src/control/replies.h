// What the files of the verbs share: replies as text. No door.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/base.h"

namespace vmhost::control {

// Of json and of ordered_json.
template <typename Json = nlohmann::json> std::string text_of(const Json& object) {
    return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

inline std::string refusal(const Error& error) {
    return text_of(
        {{"ok", false}, {"kind", std::string(name_of(error.kind()))}, {"error", error.message()}});
}

} // namespace vmhost::control

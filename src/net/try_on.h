// TRY with the object's name in front of the error.
//
// Private to net/.
#pragma once

#include "base/base.h"

namespace vmhost::net {

template <class T>
std::unexpected<Error> in(Result<T>&& failed, std::string_view what, std::string_view name) {
    return std::unexpected(std::move(failed).error().in(fmt::format("{} {}", what, name)));
}

} // namespace vmhost::net

#define TRY_ON(what, name, expression)                                                             \
    ({                                                                                             \
        auto try_result_ = (expression);                                                           \
        if (!try_result_)                                                                          \
            return in(std::move(try_result_), what, name);                                         \
        *std::move(try_result_);                                                                   \
    })

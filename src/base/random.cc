#include "base/random.h"

#include <cerrno>
#include <cstdlib>
#include <sys/random.h>

namespace vmhost {

void fill_random(MutableBytes bytes) {
    while (!bytes.empty()) {
        auto count = ::getrandom(bytes.data(), bytes.size(), 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            std::abort();
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
}

} // namespace vmhost

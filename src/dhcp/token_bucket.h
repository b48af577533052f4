// At most burst at once, then one each refill_ms. Any one thread; times of any monotonic clock.
#pragma once

#include <cstdint>

namespace vmhost::dhcp {

class TokenBucket {
public:
    TokenBucket(unsigned burst, std::uint64_t refill_ms)
        : full_(burst * refill_ms), cost_(refill_ms), credit_(full_) {}
    bool take(std::uint64_t now_ms);

private:
    std::uint64_t full_, cost_, credit_;
    std::uint64_t last_ms_ = 0;
};

} // namespace vmhost::dhcp

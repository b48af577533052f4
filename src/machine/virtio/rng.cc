#include "machine/virtio/rng.h"

#include <algorithm>
#include <array>

namespace vmhost::machine::virtio {

void Rng::activate(std::uint64_t, std::vector<Queue*> queues) {
    requests_ = queues.at(0);
}

bool Rng::notify(std::uint16_t) {
    if (requests_ == nullptr)
        return false;
    requests_->want_notifications(false);
    bool more = true;
    for (unsigned served = 0; more && served < limits::max_random_requests_per_turn; ++served) {
        auto chain = requests_->pop_or_wait();
        more = chain.has_value();
        if (chain)
            serve(std::move(*chain));
    }
    requests_->signal_used();
    return more;
}

void Rng::serve(Chain chain) {
    auto wanted = std::min<std::uint64_t>(chain.writable_bytes(), limits::max_random_request_bytes);
    if (wanted == 0)
        ++malformed_; // nothing to fill
    std::array<std::uint8_t, 4096> random;
    std::uint64_t done = 0;
    while (done < wanted) {
        auto piece =
            MutableBytes(random).first(std::min<std::uint64_t>(random.size(), wanted - done));
        fill_random(piece);
        done += chain.write(done, piece);
    }
    chain.complete(static_cast<std::uint32_t>(done));
}

} // namespace vmhost::machine::virtio

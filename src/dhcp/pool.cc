#include "dhcp/pool.h"

#include <algorithm>

namespace vmhost::dhcp {

bool TokenBucket::take(std::uint64_t now_ms) {
    auto passed = now_ms > last_ms_ ? now_ms - last_ms_ : 0;
    credit_ = std::min(full_, credit_ + std::min(passed, full_));
    last_ms_ = std::max(last_ms_, now_ms);
    if (credit_ < cost_)
        return false;
    credit_ -= cost_;
    return true;
}

std::uint64_t key_of(const Mac& mac) {
    std::uint64_t value = 0;
    for (auto octet : mac.octets)
        value = value << 8 | octet;
    return value;
}

void Pool::configure(std::vector<Range> ranges, std::unordered_set<std::uint32_t> reserved) {
    ranges_ = std::move(ranges);
    reserved_ = std::move(reserved);
    range_ = next_ = 0;
    returned_.clear();
    std::vector<Ipv4> gone;
    for (const auto& [address, binding] : bindings_)
        if (!serves(binding.address))
            gone.push_back(binding.address);
    for (auto address : gone)
        remove(address);
}

bool Pool::serves(Ipv4 address) const {
    return !reserved_.contains(address.value) &&
           std::ranges::any_of(ranges_,
                               [&](const Range& range) { return range.contains(address); });
}

Binding* Pool::of(const Mac& mac) {
    auto found = clients_.find(key_of(mac));
    return found == clients_.end() ? nullptr : at({found->second});
}

Binding* Pool::at(Ipv4 address) {
    auto found = bindings_.find(address.value);
    return found == bindings_.end() ? nullptr : &found->second;
}

bool Pool::is_free(const Binding& binding, std::uint64_t now_ms) {
    return binding.held.until_ms <= now_ms;
}

// An address without a binding; each is looked at once, and again when it was given back.
std::optional<Ipv4> Pool::unused() {
    for (; range_ < ranges_.size(); ++range_, next_ = 0) {
        const auto& range = ranges_[range_];
        const std::uint64_t count = std::uint64_t{range.last.value} - range.first.value + 1;
        while (next_ < count) {
            Ipv4 address{static_cast<std::uint32_t>(range.first.value + next_++)};
            if (!bindings_.contains(address.value) && !reserved_.contains(address.value))
                return address;
        }
    }
    if (!returned_.empty())
        return Ipv4{*returned_.begin()};
    return std::nullopt;
}

Binding* Pool::fresh(const Mac& mac, Ipv4 address) {
    returned_.erase(address.value);
    auto& binding = bindings_[address.value];
    binding = {};
    binding.address = address;
    binding.mac = mac;
    clients_[key_of(mac)] = address.value;
    ends_.emplace(binding.held.until_ms, address.value);
    return &binding;
}

// It was another client's, or nobody's.
Binding* Pool::give(Binding& binding, const Mac& mac) {
    order_of(binding).erase({binding.held.until_ms, binding.address.value});
    if (!binding.mac.is_zero())
        clients_.erase(key_of(binding.mac));
    return fresh(mac, binding.address);
}

Binding* Pool::choose(const Mac& mac, std::optional<Ipv4> wanted, std::uint64_t now_ms) {
    if (wanted)
        if (auto* taken = take(mac, *wanted, now_ms))
            return taken;
    if (auto address = unused())
        return fresh(mac, *address);
    if (!ends_.empty() && ends_.begin()->first <= now_ms)
        return give(bindings_.at(ends_.begin()->second), mac);
    if (!abandoned_.empty())
        return give(bindings_.at(abandoned_.begin()->second), mac);
    return nullptr;
}

Binding* Pool::take(const Mac& mac, Ipv4 address, std::uint64_t now_ms) {
    if (!serves(address))
        return nullptr;
    auto* there = at(address);
    if (there != nullptr && there->mac == mac)
        return there;
    if (there != nullptr && !is_free(*there, now_ms))
        return nullptr;
    if (auto* old = of(mac))
        remove(old->address);
    return there == nullptr ? fresh(mac, address) : give(*there, mac);
}

void Pool::set(Binding& binding, LeaseState state, std::uint64_t until_ms) {
    auto& order = order_of(binding);
    order.erase({binding.held.until_ms, binding.address.value});
    binding.held.state = state;
    binding.held.until_ms = until_ms;
    order.emplace(until_ms, binding.address.value);
}

Binding* Pool::abandon(Ipv4 address, std::uint64_t until_ms) {
    remove(address);
    returned_.erase(address.value);
    auto& fresh = bindings_[address.value];
    fresh.address = address;
    fresh.held.state = LeaseState::declined;
    fresh.held.until_ms = until_ms;
    abandoned_.emplace(until_ms, address.value);
    return &fresh;
}

void Pool::remove(Ipv4 address) {
    auto found = bindings_.find(address.value);
    if (found == bindings_.end())
        return;
    order_of(found->second).erase({found->second.held.until_ms, address.value});
    if (!found->second.mac.is_zero())
        clients_.erase(key_of(found->second.mac));
    bindings_.erase(found);
    if (serves(address))
        returned_.insert(address.value);
}

Binding* Pool::restore(const Mac& mac, Ipv4 address) {
    if (!serves(address))
        return nullptr;
    if (auto* old = of(mac))
        remove(old->address);
    remove(address);
    return fresh(mac, address);
}

} // namespace vmhost::dhcp

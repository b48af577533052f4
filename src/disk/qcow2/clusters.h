// A set of host clusters: those that hold tables. Dense where tables lie side by side,
// and nothing where there are none.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>

namespace vmhost::disk::qcow2 {

class ClusterSet {
public:
    // False when it was there already.
    bool insert(std::uint64_t cluster) {
        auto& word = nodes_[cluster / 512][cluster % 512 / 64];
        auto bit = 1ULL << cluster % 64;
        bool added = !(word & bit);
        word |= bit;
        return added;
    }
    void erase(std::uint64_t cluster) {
        if (auto node = nodes_.find(cluster / 512); node != nodes_.end())
            node->second[cluster % 512 / 64] &= ~(1ULL << cluster % 64);
    }
    bool contains(std::uint64_t cluster) const {
        auto node = nodes_.find(cluster / 512);
        return node != nodes_.end() && node->second[cluster % 512 / 64] >> cluster % 64 & 1;
    }

private:
    std::unordered_map<std::uint64_t, std::array<std::uint64_t, 8>> nodes_;
};

} // namespace vmhost::disk::qcow2

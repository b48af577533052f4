// Sizes as scan_scaled(3) and fmt_scaled(3) have them, and durations with a unit.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace vmhost {

constexpr std::uint64_t KiB = 1024;
constexpr std::uint64_t MiB = 1024 * KiB;
constexpr std::uint64_t GiB = 1024 * MiB;

// scan_scaled(3): optional blanks and sign, decimal integer with optional
// fraction, optional one-letter suffix B K M G T P E in powers of 1024, any
// case. A fraction without suffix is discarded. Negative results are refused.
Result<std::uint64_t> parse_size(std::string_view text);

// fmt_scaled(3): at most one decimal, "512M", "1.0G", "4.5G", "0B".
std::string format_size(std::uint64_t bytes);
// "512M" when a unit divides the number, else the number of bytes: exact both ways.
std::string exact_size(std::uint64_t bytes);

// "250ms", "30s", "5m", "2h", "1d"; the unit is required, fractions are not allowed.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
// The shortest exact form: "30s", "1500ms".
std::string format_duration(std::chrono::milliseconds duration);

// Legal name of a VM or switch: letters, digits, '.', '-', '_'; does not begin
// with one of the last three; at most 63 bytes (vmd.conf's rule).
Result<void> check_name(std::string_view name);

// The candidate closest to the word (edit distance, at most a third of its
// length), or an empty view: "did you mean …?".
template <class Range>
std::string_view nearest(std::string_view word, const Range& candidates);

std::size_t edit_distance(std::string_view a, std::string_view b);

template <class Range>
std::string_view nearest(std::string_view word, const Range& candidates) {
    std::string_view best;
    std::size_t best_distance = word.size() / 3 + 2;
    for (std::string_view candidate : candidates) {
        auto distance = edit_distance(word, candidate);
        if (distance < best_distance) {
            best_distance = distance;
            best = candidate;
        }
    }
    return best;
}

} // namespace vmhost

// The longest common subsequence of the lines between the first and the last difference. Deploying
// changes a few lines and adds some behind the last, so that is little; where it is much, all of it
// is shown as taken out and put in, which is true as well.
#include "cli/text_diff.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

namespace vmhost::cli {

namespace {

using Lines = std::vector<std::string_view>;

Lines lines_of(std::string_view text) {
    Lines lines;
    while (!text.empty()) {
        lines.push_back(text.substr(0, text.find('\n')));
        text.remove_prefix(std::min(lines.back().size() + 1, text.size()));
    }
    return lines;
}

// Behind an ssh key stands its password.
std::string without_secrets(std::string_view line) {
    auto equals = line.find('=');
    bool secret = line.find("password") != std::string_view::npos ||
                  line.find("sshkey") != std::string_view::npos;
    if (equals == std::string_view::npos || !secret)
        return std::string(line);
    return fmt::format("{}= …", line.substr(0, equals));
}

constexpr std::size_t max_cells = 4 << 20;

} // namespace

std::string text_diff(std::string_view before, std::string_view after) {
    auto a = lines_of(before), b = lines_of(after);
    std::size_t first = 0;
    while (first < a.size() && first < b.size() && a[first] == b[first])
        ++first;
    std::size_t last = 0;
    while (last < a.size() - first && last < b.size() - first &&
           a[a.size() - 1 - last] == b[b.size() - 1 - last])
        ++last;
    const auto rows = a.size() - first - last, columns = b.size() - first - last;
    // length[i][j]: of the longest common part of what is left from i and j on.
    const bool small = (rows + 1) * (columns + 1) <= max_cells;
    std::vector<std::uint32_t> length(small ? (rows + 1) * (columns + 1) : 0);
    auto at = [&](std::size_t i, std::size_t j) -> std::uint32_t& {
        return length[i * (columns + 1) + j];
    };
    if (small)
        for (auto i = rows; i-- > 0;)
            for (auto j = columns; j-- > 0;)
                at(i, j) = a[first + i] == b[first + j] ? at(i + 1, j + 1) + 1
                                                        : std::max(at(i + 1, j), at(i, j + 1));
    std::string out;
    bool together = false; // with the line before
    auto add = [&](char sign, std::size_t line, std::string_view text) {
        if (!together)
            out += fmt::format("@@ line {}\n", line + 1);
        together = true;
        out += fmt::format("{}{}\n", sign, without_secrets(text));
    };
    for (std::size_t i = 0, j = 0; i < rows || j < columns;) {
        if (small && i < rows && j < columns && a[first + i] == b[first + j]) {
            together = false;
            ++i, ++j;
        } else if (i < rows && (!small || j == columns || at(i + 1, j) >= at(i, j + 1))) {
            add('-', first + i, a[first + i]);
            ++i;
        } else {
            add('+', first + i, b[first + j]);
            ++j;
        }
    }
    return out;
}

} // namespace vmhost::cli

#include "config/reader.h"

#include <algorithm>
#include <tuple>

namespace vmhost::config {

namespace {

std::string_view kind_of(const toml::node& node) {
    switch (node.type()) {
    case toml::node_type::table:
        return "a table";
    case toml::node_type::array:
        return "an array";
    case toml::node_type::string:
        return "a string";
    case toml::node_type::integer:
        return "an integer";
    case toml::node_type::floating_point:
        return "a fraction";
    case toml::node_type::boolean:
        return "a boolean";
    case toml::node_type::date:
        return "a date";
    case toml::node_type::time:
        return "a time";
    case toml::node_type::date_time:
        return "a date and time";
    case toml::node_type::none:
        break;
    }
    return "nothing";
}

auto order_of(const toml::source_position& position) {
    return std::tie(position.line, position.column);
}

} // namespace

std::string Path::text() const {
    std::string out = up ? up->text() : std::string();
    if (!name.empty()) {
        if (!out.empty())
            out += '.';
        out += printable(name, 70);
    }
    if (index != no_index)
        out += fmt::format("[{}]", index);
    return out;
}

void Findings::complain(Place place, ErrorKind kind, std::string text) {
    if (complaints_.size() >= limits::max_complaints)
        ++dropped_;
    else
        complaints_.push_back(Error(kind, std::move(text)).at(std::move(place)));
}

Complaints Findings::take() {
    std::stable_sort(complaints_.begin(), complaints_.end(), [](const Error& a, const Error& b) {
        return std::tie(a.place().line, a.place().column) <
               std::tie(b.place().line, b.place().column);
    });
    if (dropped_ > 0)
        complaints_.push_back(
            Error(ErrorKind::limit, fmt::format("{} more complaints are not shown", dropped_))
                .at({file_, 0, 0}));
    return std::move(complaints_);
}

Place Findings::place_of(const void* field, const Place& fallback) const {
    auto found = places_.find(field);
    return found == places_.end() ? fallback : place(found->second);
}

toml::source_position Spot::position() const {
    // A table that exists only as part of a dotted name has no place of its own.
    auto begin = node.source().begin;
    return begin.line == 0 ? key : begin;
}

void Spot::complain(std::string_view text, ErrorKind kind) const {
    findings.complain(place(), kind, fmt::format("{}: {}", path.text(), text));
}

void Spot::expected(std::string_view what) const {
    complain(fmt::format("expected {}, got {}", what, kind_of(node)));
}

std::vector<Member> in_file_order(const toml::table& table) {
    std::vector<Member> members;
    members.reserve(table.size());
    for (auto iterator = table.cbegin(); iterator != table.cend(); ++iterator)
        members.push_back({&iterator->first, &iterator->second});
    std::stable_sort(members.begin(), members.end(), [](const Member& a, const Member& b) {
        return order_of(a.key->source().begin) < order_of(b.key->source().begin);
    });
    return members;
}

std::string suggestion(std::string_view word, const std::vector<std::string_view>& candidates) {
    if (word.size() > limits::max_name_bytes)
        return {};
    auto best = nearest(word, candidates);
    return best.empty() ? std::string() : fmt::format(": did you mean \"{}\"?", best);
}

} // namespace vmhost::config

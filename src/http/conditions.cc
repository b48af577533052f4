#include "http/conditions.h"

#include <algorithm>
#include <charconv>

#include "http/date.h"

namespace vmhost::http {

namespace {

// Whether a list of entity tags has this one, or is "*". A weak tag is equal to ours only where a
// weak comparison will do (§8.8.3.2). A tag may hold a comma.
bool names(std::string_view list, std::string_view tag, bool weakly) {
    list = trimmed(list);
    if (list == "*")
        return true;
    while (true) {
        while (list.starts_with(',')) // an empty element counts for nothing (§5.6.1.2)
            list = trimmed(list.substr(1));
        if (list.empty())
            return false;
        const bool weak = list.starts_with("W/");
        list.remove_prefix(weak ? 2 : 0);
        auto end = list.starts_with('"') ? list.find('"', 1) : std::string_view::npos;
        if (end == std::string_view::npos)
            return false;
        if (list.substr(0, end + 1) == tag && (weakly || !weak))
            return true;
        list = trimmed(list.substr(end + 1));
    }
}

// Of the preconditions, in the order of §13.2.2: 0 when they hold.
int refused_by(const Conditions& conditions, const Validators& file, std::int64_t now) {
    if (!conditions.if_match.empty()) {
        if (!names(conditions.if_match, file.entity_tag, false))
            return 412;
    } else if (auto date = parse_http_date(conditions.if_unmodified_since, now)) {
        if (file.modified > *date)
            return 412;
    }
    if (!conditions.if_none_match.empty()) {
        if (names(conditions.if_none_match, file.entity_tag, true))
            return 304;
    } else if (auto since = parse_http_date(conditions.if_modified_since, now)) {
        if (file.modified <= *since)
            return 304;
    }
    return 0;
}

// If-Range (§13.1.5): a part is of use only beside the rest of the same state.
bool range_counts(const Conditions& conditions, const Validators& file, std::int64_t now) {
    const auto& text = conditions.if_range;
    if (text.empty())
        return true;
    if (text.starts_with('"') || text.starts_with("W/"))
        return text == file.entity_tag;
    // A date tells two states apart only when it is not of just now (§8.8.2.2).
    return file.modified + 60 <= now && parse_http_date(text, now) == file.modified;
}

bool decimal(std::string_view text, std::uint64_t& number) {
    if (text.empty())
        return false;
    auto end = text.data() + text.size();
    auto result = std::from_chars(text.data(), end, number);
    if (result.ec == std::errc::result_out_of_range)
        number = ~std::uint64_t{0}; // beyond any file
    else if (result.ec != std::errc())
        return false;
    return text.front() != '-' && result.ptr == end;
}

// One range of bytes; nothing for what is not that: several are answered with the whole file, as
// §14.2 allows.
std::optional<Selected> part_of(std::string_view range, std::uint64_t size_bytes) {
    constexpr std::string_view unit = "bytes=";
    if (!equal_ignoring_case(range.substr(0, unit.size()), unit))
        return std::nullopt;
    range = trimmed(range.substr(unit.size()));
    auto dash = range.find('-');
    if (dash == std::string_view::npos)
        return std::nullopt;
    auto first_text = trimmed(range.substr(0, dash)), last_text = trimmed(range.substr(dash + 1));
    std::uint64_t first = 0, last = 0;
    if (first_text.empty()) { // so many from the end
        if (!decimal(last_text, last))
            return std::nullopt;
        const auto length = std::min(last, size_bytes);
        return length == 0 ? Selected{416, 0, 0} : Selected{206, size_bytes - length, length};
    }
    if (!decimal(first_text, first) || (!last_text.empty() && !decimal(last_text, last)) ||
        (!last_text.empty() && last < first))
        return std::nullopt;
    if (first >= size_bytes)
        return Selected{416, 0, 0};
    const auto end = last_text.empty() ? size_bytes - 1 : std::min(last, size_bytes - 1);
    return Selected{206, first, end - first + 1};
}

} // namespace

Selected select(const Conditions& conditions, const Validators& file, std::uint64_t size_bytes,
                bool is_get, std::int64_t now_unix_seconds) {
    if (int status = refused_by(conditions, file, now_unix_seconds))
        return {status, 0, 0};
    if (is_get && !conditions.range.empty() && range_counts(conditions, file, now_unix_seconds))
        if (auto part = part_of(conditions.range, size_bytes))
            return *part;
    return {200, 0, size_bytes};
}

Validators validators_of(std::string entity_tag, std::int64_t modified_s) {
    return {std::move(entity_tag), modified_s, http_date(modified_s)};
}

Response answer_of(const Selected& selected, const Validators& file, std::uint64_t size_bytes) {
    Response response;
    if (selected.status == 412 || selected.status == 416)
        response = error_response(selected.status);
    response.status = selected.status;
    response.headers.reserve(4);
    if (selected.status == 206)
        response.headers.emplace_back(
            "Content-Range", fmt::format("bytes {}-{}/{}", selected.offset,
                                         selected.offset + selected.length - 1, size_bytes));
    if (selected.status == 416)
        response.headers.emplace_back("Content-Range", fmt::format("bytes */{}", size_bytes));
    response.headers.emplace_back("Accept-Ranges", "bytes");
    response.headers.emplace_back("ETag", file.entity_tag);
    response.headers.emplace_back("Last-Modified", file.date);
    return response;
}

} // namespace vmhost::http

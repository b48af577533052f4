// Addresses of files, and the heads of answers (RFC 9110, RFC 9112).

#include <algorithm>
#include <charconv>

#include "sets/download.h"

namespace vmhost::sets {

namespace {

constexpr std::string_view scheme = "http://";

template <class Number>
bool decimal(std::string_view text, Number& number) {
    auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
    return !text.empty() && problem == std::errc() && end == text.data() + text.size();
}

bool is_host(std::string_view host) {
    return !host.empty() && host.size() <= 255 && host.front() != '-' &&
           std::ranges::all_of(host, [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '-' || c == '_';
           });
}

// Nothing in it can end a line of the request, or begin another word of it.
bool is_path(std::string_view path) {
    return path.starts_with('/') && path.size() <= limits::max_http_target_bytes &&
           std::ranges::all_of(path, [](char c) { return c > 0x20 && c < 0x7f; });
}

std::unexpected<Error> no_url(std::string_view text) {
    return fail(ErrorKind::invalid, "\"{}\" is no address of a file by HTTP", printable(text, 100));
}

struct Fields {
    std::optional<std::string_view> length, range, coding, location, tag, modified;
    bool twice = false;
};

void take_field(std::string_view line, Fields& fields) {
    auto colon = line.find(':');
    if (colon == std::string_view::npos)
        return;
    auto name = lower_case(line.substr(0, colon));
    for (auto [known, member] : {std::pair{"content-length", &Fields::length},
                                 {"content-range", &Fields::range},
                                 {"transfer-encoding", &Fields::coding},
                                 {"location", &Fields::location},
                                 {"etag", &Fields::tag},
                                 {"last-modified", &Fields::modified}})
        if (name == known) {
            auto& value = fields.*member;
            fields.twice |= value.has_value();
            value = trimmed(line.substr(colon + 1));
        }
}

// "bytes 100-199/200" (RFC 9110 §14.4)
bool take_range(std::string_view text, std::uint64_t length, BodyInfo& body) {
    constexpr std::string_view unit = "bytes ";
    auto dash = text.find('-'), slash = text.find('/');
    std::uint64_t last = 0;
    return text.starts_with(unit) && dash != std::string_view::npos &&
           slash != std::string_view::npos && dash < slash &&
           decimal(text.substr(unit.size(), dash - unit.size()), body.offset) &&
           decimal(text.substr(dash + 1, slash - dash - 1), last) &&
           decimal(text.substr(slash + 1), body.size) && last >= body.offset && last < body.size &&
           last - body.offset + 1 == length;
}

// A weak tag vouches for no bytes, and a date only for the second.
std::string validator_of(const Fields& fields) {
    auto tag = fields.tag.value_or("");
    if (tag.size() >= 2 && tag.starts_with('"') && tag.ends_with('"') && tag.size() <= 256)
        return std::string(tag);
    auto date = fields.modified.value_or("");
    return date.size() <= 64 && fields.tag.value_or("").empty() ? std::string(date) : std::string();
}

} // namespace

std::string Url::text() const {
    auto shown = host.find(':') == std::string::npos ? host : "[" + host + "]";
    return port == 80 ? fmt::format("http://{}{}", shown, path)
                      : fmt::format("http://{}:{}{}", shown, port, path);
}

Result<Url> parse_url(std::string_view text) {
    auto mark = text.find("://");
    if (mark != std::string_view::npos && lower_case(text.substr(0, mark)) == "https")
        return fail(ErrorKind::unsupported,
                    "{}: there is no TLS here, nor is it needed for what is signed: name a mirror "
                    "by http",
                    printable(text, 100));
    if (lower_case(text.substr(0, scheme.size())) != scheme)
        return no_url(text);
    auto rest = text.substr(scheme.size());
    auto path = rest.find('/');
    auto authority = rest.substr(0, path);
    Url url;
    url.path = path == std::string_view::npos ? "/" : rest.substr(path);
    url.path = url.path.substr(0, url.path.find('#'));
    std::string_view port;
    if (authority.starts_with('[')) {
        auto end = authority.find(']');
        if (end == std::string_view::npos || !parse_ipv6(authority.substr(1, end - 1)))
            return no_url(text);
        url.host = authority.substr(1, end - 1);
        port = authority.substr(end + 1);
    } else {
        url.host = authority.substr(0, authority.find(':'));
        port = authority.substr(url.host.size());
        if (!is_host(url.host))
            return no_url(text);
    }
    if (!port.empty() &&
        (port.front() != ':' || !decimal(port.substr(1), url.port) || url.port == 0))
        return no_url(text);
    if (!is_path(url.path))
        return no_url(text);
    return url;
}

Result<Url> follow(const Url& from, std::string_view location) {
    if (location.find("://") < location.find('/'))
        return parse_url(location);
    Url to = from;
    if (location.starts_with("//"))
        return parse_url("http:" + std::string(location));
    to.path = location.starts_with('/')
                  ? std::string(location)
                  : from.path.substr(0, from.path.rfind('/') + 1) + std::string(location);
    to.path = to.path.substr(0, to.path.find('#'));
    if (!is_path(to.path))
        return no_url(location);
    return to;
}

Result<AnswerHead> parse_answer_head(std::string_view text) {
    AnswerHead head;
    auto line = text.substr(0, text.find("\r\n"));
    if (!line.starts_with("HTTP/1.") || line.size() < 12 || line[8] != ' ' ||
        !decimal(line.substr(9, 3), head.status) || (line.size() > 12 && line[12] != ' ') ||
        head.status < 100)
        return fail(ErrorKind::corrupt, "what answers is no HTTP server");
    Fields fields;
    while (!text.empty()) {
        text.remove_prefix(std::min(line.size() + 2, text.size()));
        line = text.substr(0, text.find("\r\n"));
        take_field(line, fields);
    }
    if (head.status != 200 && head.status != 206) {
        head.location = fields.location.value_or("");
        return head;
    }
    if (fields.twice)
        return fail(ErrorKind::corrupt, "a field of the answer comes twice");
    if (fields.coding)
        return fail(ErrorKind::unsupported, "the mirror does not say how long the file is");
    if (!fields.length || !decimal(*fields.length, head.length))
        return fail(ErrorKind::corrupt, "the mirror does not say how long the file is");
    head.body.size = head.length;
    if (head.status == 206 && !take_range(fields.range.value_or(""), head.length, head.body))
        return fail(ErrorKind::corrupt, "the mirror does not say what part of the file it sends");
    head.body.validator = validator_of(fields);
    return head;
}

} // namespace vmhost::sets

// The head parser: line by line, each with the section it follows.

#include "http/parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace vmhost::http {

namespace {

using Checked = std::expected<void, Refusal>;

std::unexpected<Refusal> refuse(int status, std::string_view reason) {
    return std::unexpected(Refusal{status, std::string(reason)});
}

constexpr std::string_view known_methods[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                              "OPTIONS", "CONNECT", "TRACE", "PATCH"};

constexpr bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
constexpr bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// RFC 9110 §5.6.2
constexpr auto token_characters = [] {
    std::array<bool, 256> table{};
    for (unsigned c = 0; c < 128; ++c) {
        const char character = static_cast<char>(c);
        table[c] = is_letter(character) || is_digit(character) ||
                   std::string_view("!#$%&'*+-.^_`|~").find(character) != std::string_view::npos;
    }
    return table;
}();
bool is_token(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) {
        return token_characters[static_cast<unsigned char>(c)];
    });
}

template <class Number>
bool decimal(std::string_view text, Number& number) {
    if (text.empty() || !is_digit(text.front()))
        return false;
    auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

// A field that may come once.
struct Single {
    std::string_view first;
    std::size_t count = 0;
    void take(std::string_view value) {
        if (count++ == 0)
            first = value;
    }
};

// What the fields say, before it is judged as a whole.
struct Fields {
    Single host, length, coding;
    bool close = false;
    bool keep_alive = false;
    std::vector<std::string_view> expectations;
    Conditions conditions;
    std::string_view referer, user_agent;
};

constexpr std::pair<std::string_view, std::string Conditions::*> condition_names[] = {
    {"if-match", &Conditions::if_match},
    {"if-none-match", &Conditions::if_none_match},
    {"if-modified-since", &Conditions::if_modified_since},
    {"if-unmodified-since", &Conditions::if_unmodified_since},
    {"range", &Conditions::range},
    {"if-range", &Conditions::if_range},
};

struct Host {
    std::string name; // lower-case
    std::optional<std::uint16_t> port;
};

// RFC 9110 §7.2: name, name:port, [v6]:port
Checked take_host(std::string_view text, Host& host) {
    std::string_view name = text, port;
    if (text.starts_with('[')) {
        auto end = text.find(']');
        if (end == std::string_view::npos)
            return refuse(400, "host is malformed");
        name = text.substr(0, end + 1);
        port = text.substr(end + 1);
        for (char c : name.substr(1, name.size() - 2))
            if (hex_digit(c) < 0 && c != ':' && c != '.')
                return refuse(400, "host is malformed");
    } else {
        auto colon = text.find(':');
        name = text.substr(0, colon);
        port = colon == std::string_view::npos ? "" : text.substr(colon);
        for (char c : name)
            if (!is_letter(c) && !is_digit(c) && c != '.' && c != '-' && c != '_')
                return refuse(400, "host is malformed");
    }
    if (name.empty() || name.size() > 255)
        return refuse(400, "host is malformed");
    host.name = lower_case(name);
    if (port.empty() || port == ":")
        return {};
    std::uint16_t number = 0;
    if (port.front() != ':' || !decimal(port.substr(1), number))
        return refuse(400, "host is malformed");
    host.port = number;
    return {};
}

// RFC 9112 §3.2: origin form, or absolute form as sent to a proxy.
Checked take_target(std::string_view target, Head& head, bool& host_in_target) {
    if (target.size() > limits::max_http_target_bytes)
        return refuse(414, "target is too long");
    for (char c : target)
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return refuse(400, "target has a character that must be escaped");
    constexpr std::string_view scheme = "http://";
    std::string with_slash;
    if (equal_ignoring_case(target.substr(0, scheme.size()), scheme)) {
        target.remove_prefix(scheme.size());
        auto end = std::min(target.find_first_of("/?"), target.size());
        Host host;
        if (auto good = take_host(target.substr(0, end), host); !good)
            return good;
        head.host = std::move(host.name);
        head.host_port = host.port;
        host_in_target = true;
        target.remove_prefix(end);
        if (!target.starts_with('/')) {
            with_slash = "/" + std::string(target);
            target = with_slash;
        }
    }
    if (!target.starts_with('/'))
        return refuse(400, "target is no path");
    auto mark = target.find('?');
    if (mark != std::string_view::npos)
        head.query = target.substr(mark + 1);
    auto decoded = decode_path(target.substr(0, mark));
    if (!decoded)
        return refuse(400, "path has a bad escape");
    head.path = canonical_path(*decoded);
    return {};
}

// RFC 9112 §3: method SP target SP version
Checked take_request_line(std::string_view line, Head& head, bool& host_in_target) {
    auto first = line.find(' ');
    auto method = line.substr(0, first);
    if (!is_token(method))
        return refuse(400, "method is malformed");
    if (std::find(std::begin(known_methods), std::end(known_methods), method) ==
        std::end(known_methods))
        return refuse(501, "method is unknown");
    if (first == std::string_view::npos)
        return refuse(400, "request line is malformed");
    auto second = line.find(' ', first + 1);
    if (second == std::string_view::npos)
        return refuse(line.size() > limits::max_http_target_bytes ? 414 : 400,
                      "request line is malformed");
    auto version = line.substr(second + 1);
    constexpr std::string_view http = "HTTP/";
    if (version.size() != 8 || !version.starts_with(http) || !is_digit(version[5]) ||
        version[6] != '.' || !is_digit(version[7]))
        return refuse(400, "version is malformed");
    if (version[5] != '1')
        return refuse(505, "version is not 1.x");
    head.method = method;
    head.target = line.substr(first + 1, second - first - 1);
    head.http_1_0 = version[7] == '0';
    return take_target(line.substr(first + 1, second - first - 1), head, host_in_target);
}

void take_connection(std::string_view value, Fields& fields) {
    while (!value.empty()) {
        auto comma = value.find(',');
        auto option = trimmed(value.substr(0, comma));
        fields.close |= equal_ignoring_case(option, "close");
        fields.keep_alive |= equal_ignoring_case(option, "keep-alive");
        value = comma == std::string_view::npos ? "" : value.substr(comma + 1);
    }
}

// RFC 9112 §5
Checked take_field(std::string_view line, Fields& fields) {
    if (line.starts_with(' ') || line.starts_with('\t'))
        return refuse(400, "field is folded over lines");
    auto colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
        return refuse(400, "field name is malformed");
    for (char c : line)
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f)
            return refuse(400, "field has a control character");
    auto name = line.substr(0, colon);
    auto value = trimmed(line.substr(colon + 1));
    if (equal_ignoring_case(name, "host"))
        fields.host.take(value);
    else if (equal_ignoring_case(name, "content-length"))
        fields.length.take(value);
    else if (equal_ignoring_case(name, "transfer-encoding"))
        fields.coding.take(value);
    else if (equal_ignoring_case(name, "connection"))
        take_connection(value, fields);
    else if (equal_ignoring_case(name, "expect"))
        fields.expectations.push_back(value);
    else if (equal_ignoring_case(name, "referer") && fields.referer.empty())
        fields.referer = value;
    else if (equal_ignoring_case(name, "user-agent") && fields.user_agent.empty())
        fields.user_agent = value;
    for (const auto& [known, member] : condition_names)
        if (equal_ignoring_case(name, known)) {
            // Several fields are one list (RFC 9110 §5.3); of what is no list, none is good then.
            auto& text = fields.conditions.*member;
            text += (text.empty() ? "" : ", ") + std::string(value);
        }
    return {};
}

// RFC 9112 §6.3. Repetition of a length, even of the same one, is refused.
Checked judge_body(const Fields& fields, Head& head) {
    if (fields.length.count > 0 && fields.coding.count > 0)
        return refuse(400, "both a length and a transfer coding");
    if (fields.length.count > 1 || fields.coding.count > 1)
        return refuse(400, "several body lengths");
    if (fields.length.count > 0) {
        if (!decimal(fields.length.first, head.body_bytes))
            return refuse(400, "length is no number");
        if (head.body_bytes > limits::max_http_body_bytes)
            return refuse(413, "body is too large");
        head.has_body = head.body_bytes > 0;
    }
    if (fields.coding.count > 0) {
        if (head.http_1_0)
            return refuse(400, "transfer coding in HTTP/1.0");
        if (!equal_ignoring_case(fields.coding.first, "chunked"))
            return refuse(501, "transfer coding is unknown");
        head.has_body = head.chunked = true;
    }
    return {};
}

// RFC 9110 §10.1.1. HTTP/1.0 has no expectations.
Checked judge_expectations(const Fields& fields, Head& head) {
    if (head.http_1_0)
        return {};
    for (auto expectation : fields.expectations)
        if (!equal_ignoring_case(expectation, "100-continue"))
            return refuse(417, "expectation is unknown");
    head.expects_continue = head.has_body && !fields.expectations.empty();
    return {};
}

Checked judge(Fields& fields, Head& head, bool host_in_target) {
    if (fields.host.count > 1 || (fields.host.count == 0 && !head.http_1_0))
        return refuse(400, "not exactly one host");
    if (fields.host.count > 0) {
        Host host;
        if (auto good = take_host(fields.host.first, host); !good)
            return good;
        if (!host_in_target) { // the target's wins (RFC 9112 §3.2.2)
            head.host = std::move(host.name);
            head.host_port = host.port;
        }
    }
    if (auto good = judge_body(fields, head); !good)
        return good;
    if (auto good = judge_expectations(fields, head); !good)
        return good;
    head.conditions = std::move(fields.conditions);
    head.referer = fields.referer;
    head.user_agent = fields.user_agent;
    head.keep_alive = !fields.close && (!head.http_1_0 || fields.keep_alive);
    return {};
}

// text: the whole head, its lines ended by CRLF, without the empty line.
Checked parse_lines(std::string_view text, Head& head) {
    Fields fields;
    bool host_in_target = false;
    std::size_t count = 0;
    while (!text.empty()) {
        auto end = text.find("\r\n");
        auto line = text.substr(0, end);
        text.remove_prefix(end + 2);
        auto good =
            count == 0 ? take_request_line(line, head, host_in_target) : take_field(line, fields);
        if (!good)
            return good;
        if (count++ > limits::max_http_fields)
            return refuse(431, "too many fields");
    }
    return judge(fields, head, host_in_target);
}

// A line feed ends a line only after a carriage return, and a carriage return
// stands nowhere else.
bool line_ends_are_sound(std::string_view text) {
    for (auto at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1))
        if (at == 0 || text[at - 1] != '\r')
            return false;
    for (auto at = text.find('\r'); at != std::string_view::npos; at = text.find('\r', at + 1))
        if (at + 1 < text.size() && text[at + 1] != '\n')
            return false;
    return true;
}

ParsedHead refused(int status, std::string_view reason) {
    ParsedHead result;
    result.refusal = Refusal{status, std::string(reason)};
    return result;
}

} // namespace

std::optional<std::string> decode_path(std::string_view raw) {
    std::string out;
    for (std::size_t i = 0; i < raw.size(); ++i) {
        char c = raw[i];
        if (c == '%') {
            int high = i + 2 < raw.size() ? hex_digit(raw[i + 1]) : -1;
            int low = i + 2 < raw.size() ? hex_digit(raw[i + 2]) : -1;
            if (high < 0 || low < 0)
                return std::nullopt;
            c = static_cast<char>(high * 16 + low);
            i += 2;
        }
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            return std::nullopt;
        out += c;
    }
    return out;
}

std::string canonical_path(std::string_view decoded) {
    // As most are sent.
    if (decoded.starts_with('/') && decoded.find("//") == std::string_view::npos &&
        decoded.find("/.") == std::string_view::npos)
        return std::string(decoded);
    std::vector<std::string_view> parts;
    bool ends_in_slash = true;
    while (!decoded.empty()) {
        decoded.remove_prefix(decoded.front() == '/' ? 1 : 0);
        auto part = decoded.substr(0, decoded.find('/'));
        decoded.remove_prefix(part.size());
        ends_in_slash = part.empty() || part == "." || part == "..";
        if (part == ".." && !parts.empty())
            parts.pop_back();
        else if (!ends_in_slash)
            parts.push_back(part);
    }
    std::string path;
    for (auto part : parts) {
        path += '/';
        path += part;
    }
    if (ends_in_slash || path.empty())
        path += '/';
    return path;
}

ParsedHead parse_head(std::string_view buffer) {
    std::size_t start = 0;
    while (buffer.substr(start).starts_with("\r\n")) // RFC 9112 §2.2
        start += 2;
    auto text = buffer.substr(start);
    if (!text.empty() && text != "\r" && !is_letter(text.front()))
        return refused(400, "request does not begin with a letter");
    auto end = text.find("\r\n\r\n");
    const bool complete = end != std::string_view::npos;
    auto head_text = complete ? text.substr(0, end + 2) : text;
    if (start + head_text.size() + (complete ? 2 : 0) > limits::max_http_head_bytes ||
        (!complete && buffer.size() >= limits::max_http_head_bytes)) {
        const bool in_first_line =
            head_text.substr(0, limits::max_http_head_bytes).find("\r\n") == std::string_view::npos;
        return in_first_line ? refused(414, "request line is too long")
                             : refused(431, "head is too long");
    }
    if (!line_ends_are_sound(head_text))
        return refused(400, "line does not end in CRLF");
    ParsedHead result;
    if (!complete)
        return result;
    if (auto good = parse_lines(head_text, result.head.emplace()); !good)
        return refused(good.error().status, good.error().reason);
    result.used_bytes = start + end + 4;
    return result;
}

} // namespace vmhost::http

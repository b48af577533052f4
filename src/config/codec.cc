#include "config/codec.h"

#include <algorithm>

#include "config/dhcp_options.h"

#include <algorithm>

namespace vmhost::config {

std::optional<std::string> read_text(const Spot& spot, std::string_view expectation) {
    auto* string = spot.node.as_string();
    if (!string) {
        spot.expected(expectation);
        return {};
    }
    const std::string& text = string->get();
    if (text.size() > limits::max_text_bytes) {
        spot.complain(fmt::format("a string has at most {} bytes, this one has {}",
                                  limits::max_text_bytes, text.size()),
                      ErrorKind::limit);
        return {};
    }
    for (char c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            spot.complain(fmt::format("\"{}\" has a control character", printable(text, 70)));
            return {};
        }
    return text;
}

void Flag::read(const Spot& spot, bool& out) {
    spot.note(&out);
    if (auto* flag = spot.node.as_boolean())
        out = flag->get();
    else
        spot.expected("true or false");
}

void AutoFlag::read(const Spot& spot, std::optional<bool>& out) {
    spot.note(&out);
    const auto* word = spot.node.as_string();
    if (const auto* flag = spot.node.as_boolean())
        out = flag->get();
    else if (word && word->get() == "auto")
        out.reset();
    else
        spot.expected("\"auto\", true or false");
}

std::optional<std::uint64_t> read_size(const Spot& spot, std::uint64_t min, std::uint64_t max) {
    std::uint64_t bytes = 0;
    if (auto* number = spot.node.as_integer()) {
        bytes = number->get() < 0 ? 0 : static_cast<std::uint64_t>(number->get());
    } else {
        auto text = read_text(spot, "a size such as \"512M\"");
        if (!text)
            return {};
        auto size = parse_size(*text);
        if (!size) {
            spot.complain(size.error().text(), size.error().kind());
            return {};
        }
        bytes = *size;
    }
    if (bytes < min || bytes > max) {
        spot.complain(
            fmt::format("expected a size from {} to {}", exact_size(min), exact_size(max)),
            ErrorKind::limit);
        return {};
    }
    return bytes / MiB * MiB;
}

std::optional<std::chrono::milliseconds> read_duration(const Spot& spot, std::int64_t min_ms,
                                                       std::int64_t step_ms, std::int64_t max_ms) {
    auto text = read_text(spot, "a duration such as \"30s\"");
    if (!text)
        return {};
    auto duration = parse_duration(*text);
    if (!duration) {
        spot.complain(duration.error().text(), duration.error().kind());
        return {};
    }
    if (duration->count() < min_ms || duration->count() % step_ms != 0) {
        spot.complain(fmt::format("expected at least {}, in steps of {}",
                                  format_duration(std::chrono::milliseconds(min_ms)),
                                  format_duration(std::chrono::milliseconds(step_ms))),
                      ErrorKind::limit);
        return {};
    }
    if (duration->count() > max_ms) {
        spot.complain(
            fmt::format("expected at most {}", format_duration(std::chrono::milliseconds(max_ms))),
            ErrorKind::limit);
        return {};
    }
    return *duration;
}

std::optional<int> read_word(const Spot& spot, std::span<const Word> words) {
    std::string all;
    std::vector<std::string_view> candidates;
    for (const Word& word : words) {
        all += fmt::format("{}\"{}\"", all.empty() ? "" : ", ", word.text);
        candidates.push_back(word.text);
    }
    auto text = read_text(spot, fmt::format("one of {}", all));
    if (!text)
        return {};
    for (const Word& word : words)
        if (word.text == *text)
            return word.value;
    spot.complain(fmt::format("\"{}\" is none of {}{}", printable(*text, 40), all,
                              suggestion(*text, candidates)));
    return {};
}

const toml::array* read_array(const Spot& spot, std::string_view type, std::size_t max) {
    auto* array = spot.node.as_array();
    if (!array) {
        spot.expected(fmt::format("an array of {}", type));
        return nullptr;
    }
    if (array->size() > max) {
        spot.complain(
            fmt::format("there may be at most {} of them, here are {}", max, array->size()),
            ErrorKind::limit);
        return nullptr;
    }
    return array;
}

std::vector<Member> read_named(const Spot& spot, const Section& section, std::size_t max) {
    std::vector<Member> members;
    auto* table = spot.node.as_table();
    if (!table) {
        spot.expected("a table");
        return members;
    }
    for (const Member& member : in_file_order(*table)) {
        Path path{&spot.path, member.key->str()};
        Spot named{spot.findings, path, *member.node, member.key->source().begin};
        if (!member.node->is_table()) {
            named.expected(fmt::format("a table [{}]", section.name));
            continue;
        }
        if (members.size() == max) {
            spot.findings.complain(
                named.key_place(), ErrorKind::limit,
                fmt::format("{}: there may be at most {} tables [{}], this is one too many",
                            path.text(), max, section.name));
            break;
        }
        if (auto good = check_name(member.key->str()); !good)
            spot.findings.complain(named.key_place(), good.error().kind(), good.error().text());
        members.push_back(member);
    }
    return members;
}

namespace {

void read_answer(const Spot& spot, const std::string& question, Answers::Pairs& out) {
    std::string answer;
    auto before = spot.findings.count();
    Text<answer_rule>::read(spot, answer);
    if (spot.findings.count() == before)
        out.emplace_back(question, std::move(answer));
}

} // namespace

void Answers::read(const Spot& spot, Pairs& out) {
    auto* table = spot.node.as_table();
    if (!table)
        return spot.expected("a table such as { \"Allow root ssh login\" = \"no\" }");
    for (const Member& member : in_file_order(*table)) {
        std::string question(member.key->str());
        Path path{&spot.path, question};
        Spot answer{spot.findings, path, *member.node, member.key->source().begin};
        if (auto good = check_question(question); !good)
            spot.findings.complain(answer.key_place(), good.error().kind(),
                                   fmt::format("{}: {}", path.text(), good.error().text()));
        // A question that is asked again and again wants a line for each time.
        if (auto* array = member.node->as_array()) {
            for (std::size_t i = 0; i < array->size(); ++i) {
                Path step{&path, {}, i};
                const auto& node = *array->get(i);
                read_answer(Spot{spot.findings, step, node, node.source().begin}, question, out);
            }
        } else {
            read_answer(answer, question, out);
        }
    }
}

namespace {

Json json_of(const toml::node& node) {
    if (const auto* text = node.as_string())
        return text->get();
    if (const auto* number = node.as_integer())
        return number->get();
    if (const auto* flag = node.as_boolean())
        return flag->get();
    return nullptr;
}

// A scalar, or an array of scalars; null for anything else.
Json option_value(const toml::node& node) {
    const auto* array = node.as_array();
    if (!array)
        return json_of(node);
    Json out = Json::array();
    for (const auto& element : *array)
        out.push_back(json_of(element));
    return out;
}

std::optional<DhcpOption> read_option(const Spot& spot, std::string_view name) {
    auto kind = find_dhcp_option(name);
    if (!kind) {
        spot.findings.complain(spot.key_place(), kind.error().kind(),
                               fmt::format("{}: {}", spot.path.text(), kind.error().text()));
        return std::nullopt;
    }
    auto value = option_value(spot.node);
    auto data = dhcp_option_data(kind->type, value);
    if (!data) {
        spot.complain(data.error().text(), data.error().kind());
        return std::nullopt;
    }
    DhcpOption option;
    option.place = spot.key_place();
    option.name = name;
    option.value = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    option.code = kind->code;
    option.data = *std::move(data);
    return option;
}

} // namespace

void DhcpOptions::read(const Spot& spot, std::vector<DhcpOption>& out) {
    out.clear();
    auto* table = spot.node.as_table();
    if (!table)
        return spot.expected("a table such as { ntp-servers = [\"10.9.8.1\"] }");
    for (const Member& member : in_file_order(*table)) {
        Path path{&spot.path, member.key->str()};
        Spot value{spot.findings, path, *member.node, member.key->source().begin};
        spot.findings.note_key(path.text(), value.key_place());
        if (out.size() == limits::max_dhcp_options)
            return value.complain(
                fmt::format("there may be at most {} options", limits::max_dhcp_options),
                ErrorKind::limit);
        auto option = read_option(value, member.key->str());
        if (!option)
            continue;
        auto same = std::ranges::find(out, option->code, &DhcpOption::code);
        if (same != out.end())
            value.complain(fmt::format("is the same option as {}", same->name));
        else
            out.push_back(*std::move(option));
    }
}

Json DhcpOptions::write(const std::vector<DhcpOption>& options) {
    Json out = Json::object();
    for (const auto& option : options)
        out[option.name] = Json::parse(option.value, nullptr, false);
    return out.empty() ? Json(nullptr) : out;
}

Json Answers::write(const Pairs& pairs) {
    Json out = Json::object();
    for (const auto& [question, answer] : pairs) {
        if (!out.contains(question))
            out[question] = answer;
        else if (out[question].is_array())
            out[question].push_back(answer);
        else
            out[question] = Json::array({out[question], answer});
    }
    return out.empty() ? Json(nullptr) : out;
}

} // namespace vmhost::config
